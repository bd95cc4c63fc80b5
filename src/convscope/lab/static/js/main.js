// The shell: tabs, routes after the "#", light and dark, and what the tabs share. A tab is a module that exports `mount(root, context)`,
// `unmount()`, and if it likes `routed(route)`, which is called instead of mounting anew when only its own part of the address changes.
import { get } from "./api.js";
import { isDark, onTheme, toggleTheme } from "./colours.js";
import { announce, failure, h, put, waiting } from "./dom.js";

const TABS = [
  ["train", "Train"],
  ["inside", "Inside"],
  ["trace", "Trace"],
  ["kernel", "Kernel"],
  ["compare", "Compare"],
  ["questions", "Questions"],
];
const STATE_EVERY = 5_000; // milliseconds; how soon a run that was started in a terminal or another tab shows in the bar

const root = document.getElementById("panel");
const bar = document.getElementById("tabs");
const listeners = new Set();
let module = null,
  shown = null,
  asked = 0,
  answering = null; // the request for the state that is under way

// ---------------------------------------------------------------- what tabs are given

/** The parts of an address: "#/train/mnist-001?layer=2.0" is {tab: "train", parts: ["mnist-001"], query}. */
const routeOf = (hash) => {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [tab, ...parts] = path.split("/").filter(Boolean).map(decodeURIComponent);
  return { tab: TABS.some(([name]) => name === tab) ? tab : "train", parts, query: new URLSearchParams(query) };
};

/** The address of a tab: `link("train", "mnist-001")`. */
const link = (tab, ...parts) => `#/${[tab, ...parts].map(encodeURIComponent).join("/")}`;

export const context = {
  route: routeOf(location.hash),
  state: null, // the last answer of /api/state
  run: null, // the name of the run that the tabs look at; see chooseRun
  link,
  /** Goes to another address; `replace` leaves no step back. */
  go(hash, { replace = false } = {}) {
    if (replace) {
      history.replaceState(null, "", hash);
      routed();
    } else location.hash = hash;
  },
  /** Remembers which run the tabs look at. */
  chooseRun(run) {
    context.run = run;
    for (const element of document.querySelectorAll("[data-run-tab]"))
      element.href = run ? link(element.dataset.runTab, run) : link(element.dataset.runTab);
  },
  /** Calls back with the state now and after every change of it; returns what ends that. */
  onState(listener) {
    listeners.add(listener);
    if (context.state) listener(context.state);
    return () => listeners.delete(listener);
  },
  /** Asks the server for the state now. */
  async refresh() {
    answering ??= get("/api/state").finally(() => {
      answering = null;
    });
    const state = await answering;
    const changed = JSON.stringify(state) !== JSON.stringify(context.state);
    context.state = state;
    if (changed) for (const listener of listeners) listener(state);
    return state;
  },
};

// ---------------------------------------------------------------- tabs

const RUN_TABS = new Set(["inside", "trace"]); // those whose address names the run
const tabs = TABS.map(([name, label]) =>
  h(
    "a",
    {
      role: "tab",
      id: `tab-${name}`,
      href: link(name),
      "aria-selected": "false",
      "aria-controls": "panel",
      tabindex: "-1",
      data: RUN_TABS.has(name) ? { runTab: name } : {},
    },
    label,
  ),
);
bar.append(...tabs);
bar.addEventListener("keydown", (event) => {
  const at = tabs.indexOf(document.activeElement);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  tabs.at(to % tabs.length).focus();
  tabs.at(to % tabs.length).click();
});

const mark = (name) => {
  for (const tab of tabs) {
    const chosen = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    if (chosen) tab.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  root.setAttribute("aria-labelledby", `tab-${name}`);
  document.title = `${TABS.find(([tab]) => tab === name)[1]} – convscope lab`;
};

const routed = async () => {
  const route = routeOf(location.hash);
  context.route = route;
  if (module && shown === route.tab && module.routed) return module.routed(route);
  const mine = (asked += 1),
    isFirst = shown === null;
  module?.unmount?.();
  module = null;
  shown = route.tab;
  mark(route.tab);
  put(root, waiting());
  if (!isFirst) scrollTo({ top: 0, behavior: "instant" });
  try {
    const loaded = await import(`./${route.tab}.js`);
    if (mine !== asked) return; // another tab was chosen meanwhile
    put(root);
    module = loaded;
    await loaded.mount(root, context);
  } catch (error) {
    if (mine !== asked) return;
    console.error(error);
    module?.unmount?.();
    module = null; // choosing the tab again tries again
    put(root, failure(error));
  }
  if (mine === asked && !isFirst && document.activeElement === document.body) root.focus({ preventScroll: true }); // what had the focus has gone with its tab
};

// ---------------------------------------------------------------- the bar

const training = document.getElementById("training");
context.onState((state) => {
  training.hidden = !state.training;
  if (!state.training) return;
  training.href = link("train", state.training);
  put(training, h("span", { class: "dot", "aria-hidden": "true" }), h("span", { class: "of-training" }, "training "), state.training);
});

const theme = document.getElementById("theme");
const named = () => {
  theme.setAttribute("aria-label", isDark() ? "Light mode" : "Dark mode");
  theme.textContent = isDark() ? "Light mode" : "Dark mode";
};
theme.addEventListener("click", toggleTheme);
onTheme(named);
named();

document.querySelector(".skip").addEventListener("click", (event) => {
  // "#panel" is no route
  event.preventDefault();
  root.focus();
});

// ---------------------------------------------------------------- begin

let reached = true;
const poll = async () => {
  try {
    if (!document.hidden) await context.refresh();
    if (!reached) announce("The lab's server answers again.");
    reached = true;
  } catch {
    reached = false; // whoever asks for something says so
  }
  setTimeout(poll, STATE_EVERY);
};

addEventListener("hashchange", routed);
const begun = context
  .refresh()
  .then((state) => {
    const addressed = RUN_TABS.has(context.route.tab) || context.route.tab === "train" ? context.route.parts[0] : null;
    context.chooseRun(addressed ?? state.opened ?? state.training ?? null);
    if (!location.hash && state.opened) history.replaceState(null, "", link("train", state.opened));
  })
  .catch(() => {}); // the tab says it
if (!context.route.parts.length) await begun; // the address leaves it to the state which run is looked at
setTimeout(poll, STATE_EVERY);
routed();
