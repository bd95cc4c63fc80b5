// The Compare tab: two trainings side by side, kept with the library or two of one's own, on the same axes and at the same step.
import { get } from "./api.js";
import { failure, field, h, put, select, waiting } from "./dom.js";
import { pairView } from "./pair_view.js";
import { percent } from "./words.js";

const OWN = "runs"; // the address of a comparison of two of one's own runs

let tab = null;

export const mount = async (root, context) => {
  const links = h("div", { class: "pairs", role: "navigation", "aria-label": "Comparisons" });
  const place = h("div", { class: "stack" });
  put(
    root,
    h("h1", {}, "Good and bad training, side by side"),
    h("p", { class: "intro" }, "Each pair was trained twice on MNIST with one thing changed. Point at a step and both sides show it."),
    links,
    place,
  );
  tab = { context, links, place, pairs: [], view: null, asked: 0 };
  const mine = tab;
  put(place, waiting());
  mine.pairs = (await get("/api/compare")).pairs;
  if (tab === mine) await routed();
};

export const unmount = () => {
  tab?.view?.end();
  tab = null;
};

/** Another pair was chosen. */
export const routed = async () => {
  const { context, place, pairs } = tab,
    [id, ...runs] = context.route.parts;
  const mine = tab,
    asked = (tab.asked += 1);
  const pair = pairs.find((one) => one.id === id) ?? (id === OWN ? null : pairs[0]);
  drawLinks(pair?.id ?? OWN);
  tab.view?.end();
  tab.view = null;
  if (pair) return show(pair);
  put(place, waiting());
  try {
    const listed = (await get("/api/runs")).runs.filter((run) => run.state !== "broken");
    const chosen = runs.length > 1 ? runs : [runs[0] ?? listed[1]?.run, listed.find(({ run }) => run !== (runs[0] ?? listed[1]?.run))?.run];
    const form = ownForm(listed, chosen);
    put(place, form);
    if (runs.length < 2) return;
    const place2 = h("div", { class: "stack" }, waiting());
    place.append(place2);
    const own = (await get(`/api/compare?runs=${runs.slice(0, 2).map(encodeURIComponent).join(",")}`)).pairs[0];
    if (tab === mine && asked === tab.asked) show(own, place2);
  } catch (error) {
    if (tab === mine && asked === tab.asked)
      place.lastElementChild?.matches(".stack") ? put(place.lastElementChild, failure(error)) : put(place, failure(error));
  }
};

const show = (pair, place = tab.place) => {
  tab.view = pairView(pair);
  put(place, tab.view.element);
};

const drawLinks = (current) => {
  const { context, links, pairs } = tab;
  const to = (id, text) => h("a", { href: context.link("compare", id), "aria-current": id === current ? "page" : null }, text);
  put(
    links,
    pairs.map(({ id, title }) => to(id, title)),
    to(OWN, "Two of my runs"),
  );
};

const ownForm = (runs, chosen) => {
  if (runs.length < 2) return h("section", { class: "panel" }, h("p", {}, "Two runs are needed; the Train tab makes them."));
  const options = runs.map(({ run, accuracy }) => [
    run,
    accuracy === null || accuracy === undefined ? run : `${run} (${percent(accuracy)})`,
  ]);
  const [left, right] = chosen.map((run, i) => select(options, run, { name: i ? "right" : "left" }));
  const submit = (event) => {
    event.preventDefault();
    tab.context.go(tab.context.link("compare", OWN, left.value, right.value));
  };
  return h(
    "form",
    { class: "panel own-runs", on: { submit } },
    field("Left", left),
    field("Right", right),
    h("button", { type: "submit", class: "primary" }, "Compare"),
  );
};
