// The Questions tab: forty questions, which are due, and one of them: answered, graded by running what was typed, shown, and rated for its return.
import { get } from "./api.js";
import { failure, h, put, waiting } from "./dom.js";
import { questionCard } from "./question_card.js";
import { when } from "./words.js";

let tab = null;

export const mount = async (root, context) => {
  const overview = h("p", { class: "muted" });
  const map = h("div", { class: "number-map", role: "group", "aria-label": "All questions" });
  const place = h("div", { class: "asked" });
  const legend = h(
    "ul",
    { class: "legend" },
    [
      ["new", "new"],
      ["due", "due"],
      ["known", "comes again later"],
    ].map(([state, text]) => h("li", {}, h("span", { class: `mark ${state}` }), text)),
  );
  put(
    root,
    h(
      "div",
      { class: "split questions" },
      h(
        "aside",
        { class: "stack side", "aria-label": "Progress" },
        h(
          "details",
          { class: "panel fold", open: !matchMedia("(max-width: 60rem)").matches },
          h("summary", {}, h("h2", {}, "Forty questions")),
          overview,
          h("progress", { max: 40, value: 0, "aria-label": "Questions answered at least once" }),
          map,
          legend,
        ),
      ),
      place,
    ),
  );
  tab = { root, context, overview, map, place, list: [], next: null, number: null, one: null };
  map.addEventListener("keydown", alongTheMap);
  document.addEventListener("keydown", onKey);
  const mine = tab;
  await refresh();
  if (mine === tab) await open(wanted());
};

/** Another question was chosen. */
export const routed = () => open(wanted());

export const unmount = () => {
  document.removeEventListener("keydown", onKey);
  tab?.one?.end();
  tab = null;
};

// ---------------------------------------------------------------- the map of questions

const wanted = () => Number(tab.context.route.parts[0]) || tab.next || tab.list[0]?.number;
const stateOf = ({ answered, due }) => (!answered ? "new" : due ? "due" : "known");

const refresh = async () => {
  const mine = tab,
    answer = await get("/api/questions");
  if (!mine || mine !== tab) return;
  tab.list = answer.questions;
  tab.next = answer.next ?? null;
  const met = tab.list.filter(({ answered }) => answered).length,
    due = tab.list.filter((one) => stateOf(one) === "due").length;
  tab.overview.textContent = `${due} due, ${tab.list.length - met} new, ${met} met so far.`;
  const bar = tab.root.querySelector("progress");
  bar.max = tab.list.length;
  bar.value = met;
  bar.setAttribute("aria-valuetext", `${met} of ${tab.list.length}`);
  drawMap();
};

const linkTo = (question) => {
  const state = stateOf(question),
    isHere = question.number === tab.number;
  const said = { new: "new", due: "due", known: `comes again ${when(question.due_at)}` }[state];
  const attributes = {
    href: tab.context.link("questions", question.number),
    class: state,
    "aria-current": isHere ? "true" : null,
    tabindex: isHere ? "0" : "-1", // one stop of the Tab key; the arrow keys go on from there
    title: `${question.topic}: ${said}`,
    "aria-label": `Question ${question.number}, ${question.topic}, ${said}`,
  };
  return h("a", attributes, question.number);
};

const drawMap = () => {
  const { map, list } = tab,
    focused = [...map.children].indexOf(document.activeElement);
  put(map, list.map(linkTo));
  if (focused >= 0) focusOn(map.children[focused]);
};

const focusOn = (link) => {
  for (const other of tab.map.children) other.tabIndex = other === link ? 0 : -1;
  link.focus();
};

const alongTheMap = (event) => {
  const links = [...tab.map.children],
    at = links.indexOf(document.activeElement);
  const across = getComputedStyle(tab.map).gridTemplateColumns.split(" ").length;
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + across, ArrowUp: at - across, Home: 0, End: links.length - 1 }[
    event.key
  ];
  if (at < 0 || to === undefined || !links[to]) return;
  event.preventDefault();
  focusOn(links[to]);
};

// ---------------------------------------------------------------- one question

const open = async (number) => {
  if (!number) return put(tab.place, h("p", {}, "There are no questions."));
  const mine = tab;
  tab.one?.end();
  Object.assign(tab, { one: null, number });
  put(tab.place, waiting());
  try {
    const asked = await get(`/api/questions/${number}`);
    if (mine !== tab || wanted() !== number) return;
    tab.one = questionCard(asked, { onNext: () => goOn(number), onRated: () => refresh().catch(() => {}) });
    drawMap();
    put(tab.place, tab.one.element);
    document.title = `Question ${number} – convscope lab`;
  } catch (error) {
    if (mine === tab) put(tab.place, failure(error));
  }
};

const goOn = async (from) => {
  await refresh().catch(() => {});
  if (!tab) return;
  const { list, context, next } = tab;
  const at = list.findIndex(({ number }) => number === from);
  const later = [...list.slice(at + 1), ...list.slice(0, at)].find((one) => stateOf(one) !== "known");
  context.go(context.link("questions", next !== null && next !== from ? next : (later?.number ?? from)));
  scrollTo({ top: 0 });
};

const onKey = (event) => {
  const isTyping = event.target.matches?.("textarea, select, input:not([type=radio])") && !event.target.readOnly;
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping) return;
  if (tab?.one?.key(event.key)) event.preventDefault();
};
