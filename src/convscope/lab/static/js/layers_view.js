// Inside the layers of a run: a small picture of each, one of them large with the histogram and numbers of the step that is pointed to.
import { bandsFigure, bandsThumbnail, histogramFigure } from "./bands.js";
import { h, put, putIfNew } from "./dom.js";
import { lineChart } from "./lines.js";
import { belongs, columnOf, emptyLayer, marksOf } from "./series.js";
import { figure, percent, steps as stepWords } from "./words.js";

const HOW_TO_READ =
  "Each picture is a layer's output over the steps, from left to right: values near zero in the middle, positive above, negative below; the stronger the colour, the more values.";

/**
 * The layers of a run.
 * @param {{run: object, cursor: object, findings: function()}} of
 * @returns {{element, picture, choose: function(name), update: function(), end: function()}}
 */
export const layersView = ({ run, cursor, findings }) => {
  const nothing = emptyLayer("");
  let chosen = null,
    byHand = false;
  const now = () => run.layers.get(chosen) ?? nothing;
  const marks = () => marksOf(findings(), chosen);

  const title = h("h3", {});
  const numbers = h("p", { class: "muted numbers" });
  const picture = bandsFigure({
    label: "Values of the chosen layer over the steps; left and right arrows move through the steps, up and down through the values",
    layer: now,
    marks,
    cursor,
  });
  const histogram = histogramFigure({ label: "Histogram of the chosen step", layer: now, cursor });
  const moments = lineChart({
    label: "Mean and spread of the chosen layer over the steps",
    height: 190,
    cursor,
    marks,
    lines: () => [
      { name: "mean", first: now().first, x: now().step, y: now().mean, tint: "--series-1", width: 1.6 },
      { name: "spread", x: now().step, y: now().std, tint: "--series-2", width: 1.6 },
    ],
  });
  const near = lineChart({
    label: "Share of values near zero of the chosen layer over the steps",
    height: 190,
    cursor,
    marks,
    bounds: () => [0, 1],
    lines: () => [{ name: "near zero", first: now().first, x: now().step, y: now().near_zero, tint: "--series-3", width: 1.6 }],
  });
  const swatch = (text, tint) => h("li", {}, h("span", { class: "swatch", style: { background: `var(${tint})` } }), text);
  const thumbnails = h("div", { class: "thumbnails", role: "group", "aria-label": "Layers" });
  const small = new Map(); // layer -> its thumbnail

  const panel = h(
    "div",
    { class: "panel layer-panel" },
    h("div", { class: "chart-head" }, title),
    numbers,
    h("div", { class: "layer-row" }, picture.element, histogram.element),
    h(
      "div",
      { class: "pair" },
      h("div", {}, moments.element, h("ul", { class: "legend" }, swatch("mean", "--series-1"), swatch("spread", "--series-2"))),
      h("div", {}, near.element, h("ul", { class: "legend" }, swatch("share near zero", "--series-3"))),
    ),
  );
  const element = h(
    "section",
    { class: "layers", hidden: true },
    h("h2", {}, "Inside the layers"),
    h("p", { class: "muted" }, HOW_TO_READ),
    thumbnails,
    panel,
  );

  const drawNumbers = () => {
    const layer = now();
    putIfNew(title, [layer.name, layer.kind], () => `Layer ${layer.name}, ${layer.kind}`);
    if (!layer.counts.length) return;
    const column = cursor.step === null ? layer.counts.length - 1 : columnOf(layer, cursor.step);
    const said = stepWords(layer.first[column], layer.step[column]);
    numbers.textContent = `${said[0].toUpperCase()}${said.slice(1)}: mean ${figure(layer.mean[column])}, spread ${figure(layer.std[column])}, near zero ${percent(layer.near_zero[column])}.`;
  };

  const badges = (name) => marksOf(findings(), name).map((mark) => h("span", { class: `badge ${mark.severity}` }, mark.place));
  const thumbnail = (name, layer) => {
    const made = bandsThumbnail(
      () => run.layers.get(name),
      () => marksOf(findings(), name),
    );
    made.canvas.setAttribute("aria-hidden", "true");
    const marked = h("span", { class: "badges" });
    const element = h(
      "button",
      {
        type: "button",
        on: {
          click: () => {
            byHand = true;
            choose(name);
          },
        },
      },
      made.element,
      h("span", { class: "of" }, h("span", {}, name, h("span", { class: "kind" }, ` ${layer.kind}`)), marked),
    );
    thumbnails.append(element);
    return { ...made, redraw: made.redraw, button: element, marked, told: "" };
  };

  const choose = (name) => {
    chosen = name;
    for (const [other, { button }] of small) button.setAttribute("aria-pressed", String(other === name));
    drawNumbers();
    for (const one of [picture, histogram, moments, near]) one.redraw();
  };

  const update = () => {
    element.hidden = run.layers.size === 0;
    if (!run.layers.size) return;
    for (const [name, layer] of run.layers) {
      if (!small.has(name)) small.set(name, thumbnail(name, layer));
      const one = small.get(name),
        told = marksOf(findings(), name)
          .map(({ place, severity }) => `${place}${severity}`)
          .join();
      if (told !== one.told) put(one.marked, badges(name));
      one.told = told;
      one.redraw();
    }
    const first = findings().flatMap((finding) => [...run.layers.keys()].filter((name) => belongs(finding, name)))[0]; // where the first finding is
    if (!byHand && first && chosen !== first && cursor.step === null) choose(first);
    else if (!run.layers.has(chosen)) choose(first ?? run.layers.keys().next().value);
    drawNumbers();
    for (const one of [picture, histogram, moments, near]) one.redraw();
  };

  const endCursor = cursor.listen(drawNumbers);
  return {
    element,
    picture: panel,
    choose(name) {
      byHand = true;
      choose(name);
    },
    update,
    end() {
      endCursor();
      for (const one of [picture, histogram, moments, near]) one.end();
      for (const one of small.values()) one.destroy();
    },
  };
};
