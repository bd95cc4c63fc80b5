// Two trainings side by side: what differs, their curves on one axis, and the values of the same layer left and right.
import { makeCursor } from "./axes.js";
import { alignBands, bandsFigure } from "./bands.js";
import { choices, h, select, table } from "./dom.js";
import { SIGNS, WORDS } from "./findings.js";
import { lineChart, logarithmicButton, reachOf, smoothed } from "./lines.js";
import { emptyLayer, extendLayer } from "./series.js";
import { chosen, count, figure, percent, setting } from "./words.js";

const TINTS = ["--series-2", "--series-1"],
  SOFT = ["--series-2-soft", "--series-1-soft"];
const FEW = 6; // layers that fit in a row of buttons

const said = (value) =>
  value === null || value === undefined
    ? "–"
    : typeof value === "boolean"
      ? value
        ? "yes"
        : "no"
      : typeof value === "number"
        ? Number.isInteger(value)
          ? count(value)
          : chosen(value)
        : setting(String(value));

const headOf = (side, i) =>
  h(
    "section",
    { class: "panel side-head" },
    h("p", { class: "side-name" }, h("span", { class: "swatch", style: { background: `var(${TINTS[i]})` } }), h("b", {}, side.name)),
    h(
      "p",
      { class: "side-accuracy" },
      side.accuracy === null || side.accuracy === undefined ? "–" : percent(side.accuracy),
      h("small", {}, " of the validation images right"),
    ),
    h(
      "p",
      { class: "muted" },
      side.verdict && [
        h("span", { class: `sign ${side.verdict}`, "aria-hidden": "true" }, SIGNS[side.verdict]),
        ` ${WORDS[side.verdict]} · `,
      ],
      `validation loss ${figure(side.valid_loss ?? null)}`,
    ),
    side.note && h("p", { class: "hint" }, side.note),
  );

const settingsOf = (pair) => {
  const [left, right] = pair.sides.map(({ settings }) => settings ?? {});
  const names = [...new Set([...Object.keys(left), ...Object.keys(right)])];
  const same = (name) => JSON.stringify(left[name] ?? null) === JSON.stringify(right[name] ?? null);
  const rows = (wanted) =>
    names.filter((name) => same(name) === wanted).map((name) => [setting(name), said(left[name]), said(right[name])]);
  const head = ["Setting", pair.sides[0].name, pair.sides[1].name];
  return h(
    "div",
    {},
    rows(false).length > 0 ? table("What differs", head, rows(false)) : h("p", { class: "muted" }, "No setting differs."),
    rows(true).length > 0 &&
      h(
        "details",
        {},
        h("summary", {}, "What is the same"),
        h(
          "p",
          { class: "muted" },
          rows(true)
            .map(([name, value]) => `${name} ${value}`)
            .join(" · "),
        ),
      ),
  );
};

/**
 * Two trainings.
 * @param {object} pair as /api/compare gives it
 * @returns {{element, end: function()}}
 */
export const pairView = (pair) => {
  const cursor = makeCursor(),
    figures = [];
  const made = (one) => (figures.push(one), one);
  const layers = pair.sides.map(
    (side) => new Map((side.layers ?? []).map((event) => [event.layer, extendLayer(emptyLayer(event.layer, event.kind), event)])),
  );
  const common = [...layers[0].keys()].filter((name) => layers[1].has(name));
  for (const name of common) alignBands(...layers.map((side) => side.get(name)));
  let shown = common.includes(pair.layer) ? pair.layer : (common.at(-2) ?? common[0] ?? null);

  const both = (line) => pair.sides.flatMap(line);
  const loss = made(
    lineChart({
      label: `Training loss of ${pair.sides.map(({ name }) => name).join(" and ")} over the steps`,
      height: (width) => (width < 500 ? 240 : 300),
      cursor,
      lines: () => [
        ...both(({ name, steps: { step, first, loss: values } }, i) => ({
          name,
          first,
          x: step,
          y: values,
          tint: SOFT[i],
          width: 1,
          heard: false,
        })),
        ...both(({ name, steps: { step, first, loss: values } }, i) => ({
          name,
          first,
          x: step,
          y: smoothed(values, reachOf(values.length)),
          tint: TINTS[i],
        })),
      ],
    }),
  );
  const logarithmic = logarithmicButton(loss, () => pair.sides.flatMap(({ steps }) => steps.loss));
  logarithmic.suit();
  const legend = () =>
    h(
      "ul",
      { class: "legend" },
      pair.sides.map(({ name }, i) => h("li", {}, h("span", { class: "swatch", style: { background: `var(${TINTS[i]})` } }), name)),
    );

  const ofSteps = (title, key) => {
    const held = pair.sides.flatMap(({ steps }) => steps[key] ?? []).filter((value) => value !== null);
    if (held.every((value) => value === held[0])) return null; // the same on both sides at every step, or not known
    const chart = made(
      lineChart({
        label: `${title} of both over the steps`,
        height: 180,
        cursor,
        lines: () => both(({ name, steps }, i) => ({ name, first: steps.first, x: steps.step, y: steps[key], tint: TINTS[i], width: 1.8 })),
      }),
    );
    return h("section", { class: "panel" }, h("h3", {}, title), chart.element);
  };
  const ofLayer = (title, key, bounds) => {
    const chart = made(
      lineChart({
        label: `${title} of the layer on both sides over the steps`,
        height: 180,
        cursor,
        bounds,
        lines: () =>
          layers.map((side, i) => {
            const layer = side.get(shown);
            return { name: pair.sides[i].name, first: layer.first, x: layer.step, y: layer[key], tint: TINTS[i], width: 1.8 };
          }),
      }),
    );
    return h("section", { class: "panel" }, h("h3", {}, title), chart.element);
  };

  const redraw = () => {
    for (const one of figures) one.redraw();
  };
  const kinds = pair.sides.map(() => h("span", { class: "muted" }));
  const pictures = pair.sides.map((side, i) => {
    if (shown === null) return null;
    const picture = made(
      bandsFigure({
        label: `Values of the layer in ${side.name} over the steps; the arrow keys move`,
        height: 280,
        layer: () => layers[i].get(shown),
        cursor,
      }),
    );
    return h(
      "section",
      { class: "panel" },
      h(
        "div",
        { class: "chart-head" },
        h("h3", {}, h("span", { class: "swatch", style: { background: `var(${TINTS[i]})` } }), side.name),
        kinds[i],
      ),
      picture.element,
    );
  });
  const choose = (name) => {
    shown = name;
    kinds.forEach((kind, i) => {
      kind.textContent = `${name} ${layers[i].get(name).kind}`;
    });
    redraw();
  };
  const named = (name) =>
    [...new Set(layers.map((side) => side.get(name).kind))].length > 1 ? name : `${name} ${layers[0].get(name).kind}`;
  const chooser = () =>
    common.length <= FEW
      ? choices(
          "Layer",
          common.map((name) => [name, named(name)]),
          shown,
          choose,
        )
      : h(
          "label",
          { class: "inline" },
          "Layer ",
          select(
            common.map((name) => [name, named(name)]),
            shown,
            { on: { change: ({ target }) => choose(target.value) } },
          ),
        );

  if (shown !== null) choose(shown);
  const element = h(
    "div",
    { class: "stack pair-view" },
    h("section", { class: "panel asked-pair" }, h("h2", {}, pair.question ?? pair.title), pair.explanation && h("p", {}, pair.explanation)),
    h("div", { class: "pair" }, pair.sides.map(headOf)),
    settingsOf(pair),
    h(
      "section",
      { class: "panel" },
      h("div", { class: "chart-head" }, h("h3", {}, "Training loss"), logarithmic.element),
      loss.element,
      legend(),
    ),
    shown !== null &&
      h(
        "section",
        {},
        h("div", { class: "chart-head" }, h("h2", {}, "The same layer in both"), chooser()),
        h("div", { class: "pair" }, pictures),
      ),
    h(
      "div",
      { class: "small-charts" },
      shown !== null && [ofLayer("Share of values near zero", "near_zero", () => [0, 1]), ofLayer("Spread", "std")],
      ofSteps("Learning rate", "lr"),
      ofSteps("Momentum", "momentum"),
    ),
  );
  return { element, end: () => figures.forEach((one) => one.end()) };
};
