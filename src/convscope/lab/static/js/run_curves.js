// The curves of a run: its losses, and small charts of what moved with the steps; what did not move is a sentence.
import { h } from "./dom.js";
import { lineChart, logarithmicButton, reachOf, smoothed } from "./lines.js";
import { marksOf } from "./series.js";
import { chosen } from "./words.js";

const PHONE = 500; // CSS pixels; narrower charts are less tall
const ABOUT_GRADIENTS = /gradient|explod/; // names of rules that the gradient's norm shows

const LEGEND = [
  ["Training loss", "--series-1-soft"],
  ["smoothed", "--series-1"],
  ["Validation loss", "--series-2"],
];

const swatch = ([text, tint]) => h("li", {}, h("span", { class: "swatch", style: { background: `var(${tint})` } }), text);

const lossLines = ({ steps: { step, first, loss }, results }) => {
  const reach = reachOf(loss.length),
    judged = results.filter((row) => row.valid_loss !== undefined);
  return [
    { name: "loss", first, x: step, y: loss, tint: "--series-1-soft", width: 1.2 },
    { name: `mean of ${2 * reach + 1}`, x: step, y: smoothed(loss, reach), tint: "--series-1", heard: reach > 0 },
    {
      name: "validation loss",
      x: judged.map((row) => row.steps - 1),
      y: judged.map((row) => row.valid_loss),
      tint: "--series-2",
      dots: true,
    },
  ];
};

const firstProblem = (findings) => {
  const steps = findings.filter(({ severity }) => severity === "problem").map(({ step }) => step);
  return steps.length ? Math.min(...steps) : null;
};

/**
 * The curves.
 * @param {{name: string, run: object, cursor: object, findings: function()}} of
 * @returns {{element, update: function(), placeOf: function(finding): {place, words}, end: function()}}
 */
export const runCurves = ({ name, run, cursor, findings }) => {
  const loss = lineChart({
    label: `Loss of ${name} over the steps`,
    height: (width) => (width < PHONE ? 240 : 320),
    lines: () => lossLines(run),
    marks: () => marksOf(findings()),
    shade: () => firstProblem(findings()),
    cursor,
  });
  const logarithmic = logarithmicButton(loss, () => run.steps.loss);
  const lossPlace = h(
    "section",
    { class: "panel", "aria-label": "Loss" },
    h("div", { class: "chart-head" }, h("h3", {}, "Loss"), logarithmic.element),
    loss.element,
    h("ul", { class: "legend" }, LEGEND.map(swatch)),
  );

  const small = (title, key, tint, marks) => {
    const line = { name: title.toLowerCase(), tint, width: 1.6, bridge: true };
    const chart = lineChart({
      label: `${title} of ${name} over the steps`,
      height: 190,
      cursor,
      marks,
      lines: () => [{ ...line, first: run.steps.first, x: run.steps.step, y: run.steps[key] }],
    });
    const head = h("div", { class: "chart-head" }, h("h3", {}, title));
    return { key, title, chart, place: h("section", { class: "panel", "aria-label": title }, head, chart.element) };
  };
  const gradient = small("Gradient norm", "gradient_norm", "--series-3", () =>
    marksOf(findings()).filter((mark) => ABOUT_GRADIENTS.test(mark.name)),
  );
  gradient.chart.setLogarithmic(true);
  const others = [small("Learning rate", "lr", "--series-1"), small("Momentum", "momentum", "--series-2"), gradient];
  const constants = h("p", { class: "muted", hidden: true });
  const places = others.map(({ place }) => place);

  return {
    element: h("div", { class: "stack" }, lossPlace, h("div", { class: "small-charts" }, places), constants),
    update() {
      const same = [];
      for (const { key, title, chart, place } of others) {
        const held = run.steps[key].filter((value) => value !== null);
        const isConstant = held.length > 0 && held.every((value) => value === held[0]);
        if (isConstant) same.push(`${title.toLowerCase()} ${chosen(held[0])}`);
        place.hidden = !held.length || isConstant;
        chart.redraw();
      }
      constants.hidden = !same.length;
      constants.textContent = `The same at every step: ${same.join(", ")}.`;
      logarithmic.suit();
      loss.redraw();
    },
    /** The chart that shows a finding best, and its name. */
    placeOf: (finding) =>
      ABOUT_GRADIENTS.test(finding.name) && !gradient.place.hidden
        ? { place: gradient.place, words: "in the gradient" }
        : { place: lossPlace, words: "on the loss" },
    end() {
      for (const chart of [loss, ...others.map((one) => one.chart)]) chart.end();
    },
  };
};
