// The Train tab: a form that starts a run, the list of runs, and one run as it goes or went.
import { button, h, put, showWhere } from "./dom.js";
import { runForm } from "./run_form.js";
import { runList } from "./run_list.js";
import { runView } from "./run_view.js";

const LIST_EVERY = 5_000; // milliseconds
const NARROW = matchMedia("(max-width: 60rem)");

let view = null,
  timer = 0,
  endState = null,
  parts = null,
  mounted = 0;

export const mount = async (root, context) => {
  const mine = (mounted += 1),
    gone = () => mine !== mounted; // another tab may be chosen while this one waits for the server
  const state = context.state ?? (await context.refresh());
  if (gone()) return;
  const form = runForm(state, (run) => {
    context.refresh().catch(() => {});
    context.go(context.link("train", run));
  });
  const fresh = h("details", { class: "panel fold", open: true }, h("summary", {}, h("h2", {}, "New run")), form.element);
  const list = runList(context);
  const place = h("div", { class: "opened" });
  const others = h("details", { class: "panel fold", open: true }, h("summary", {}, h("h2", {}, "Runs")), list.element);
  const side = h("aside", { class: "stack side", "aria-label": "Runs" }, fresh, others);
  put(root, h("div", { class: "split train" }, side, place));

  const again = (detail, change) => {
    // the settings of a run with a finding's change, ready to be started
    const left = form.fill({ ...detail?.settings, ...change });
    fresh.open = true;
    showWhere(fresh);
    form.told(
      change,
      Object.keys(change).filter((name) => name in left),
    );
  };

  const open = (run) => {
    view?.end();
    view = null;
    if (run === null) {
      return put(
        place,
        h(
          "section",
          { class: "panel empty" },
          h("h1", {}, "See a network learn"),
          h(
            "p",
            {},
            "Start a run, and its loss, its schedule and every layer appear here while it trains, with a diagnosis in words as soon as something goes wrong.",
          ),
          button(
            "Train on MNIST now",
            () => {
              form.fill({ data: "mnist" });
              form.element.requestSubmit();
            },
            { class: "primary" },
          ),
        ),
      );
    }
    context.chooseRun(run);
    const look = () => Promise.allSettled([context.refresh(), list.refresh(run)]);
    view = runView(run, context, {
      onEnd: look,
      onResume: () => {
        open(run);
        look();
      },
      apply: again,
    });
    put(place, view.element);
    if (NARROW.matches) fresh.open = others.open = false;
  };

  const opened = () => context.route.parts[0] ?? null;
  const tick = async () => {
    if (!document.hidden) await list.refresh(opened());
    if (!gone()) timer = setTimeout(tick, LIST_EVERY);
  };
  parts = { open, opened, list, root };
  endState = context.onState(form.update);
  await list.refresh(opened());
  if (gone()) return;
  timer = setTimeout(tick, LIST_EVERY);
  const first = opened() ?? context.state.training ?? list.runs()[0]?.run ?? null;
  if (first !== null && opened() === null) context.go(context.link("train", first), { replace: true });
  else open(first);
};

/** Another run was chosen. */
export const routed = (route) => {
  const run = route.parts[0] ?? null;
  parts.open(run);
  parts.list.refresh(run);
  if (NARROW.matches && run !== null) parts.root.querySelector(".opened").scrollIntoView({ block: "start" });
};

export const unmount = () => {
  mounted += 1;
  view?.end();
  view = null;
  clearTimeout(timer);
  endState?.();
};
