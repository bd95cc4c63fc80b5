// The chosen activation of the trace tab.
import { postForFile, runPath, saveFile } from "./api.js";
import { announce, button, failure, h, mayMove, put } from "./dom.js";
import { asked, imageKey } from "./looking.js";
import { colourPicture, GREY, mapGrid, unitInWords } from "./maps.js";
import { sumOf, unitName } from "./trace_sum.js";
import { figure, plural } from "./words.js";

const seenImage = (found, ends) => {
  const grid = mapGrid({ label: "The image, with the pixels that the activation sees lit", target: 168, largest: 12 });
  const [channels, rows, columns] = found.image.shape;
  const size = rows * columns;
  const grey =
    channels === 1
      ? found.image.values
      : Float32Array.from({ length: size }, (_, at) => [0, 1, 2].reduce((sum, c) => sum + found.image.values[c * size + at], 0) / 3);
  grid.show({
    array: { shape: [rows, columns], values: grey },
    style: GREY,
    ends: { low: 0, high: 255 },
    ...(channels === 3
      ? {
          picture: colourPicture(found.image, 255),
          more: ([row, column]) => [
            `red, green, blue: ${[0, 1, 2].map((c) => found.image.values[c * size + row * columns + column]).join(", ")}`,
          ],
        }
      : {}),
  });
  grid.element.style.width = "169px";
  ends.push(grid.destroy);
  return grid;
};

const fieldInWords = (box, [, rows, columns]) => {
  const [high, wide] = [box.bottom - box.top + 1, box.right - box.left + 1];
  if (high <= 0) return "It sees no pixel, only padding.";
  if (high === rows && wide === columns) return `It sees the whole image, ${rows}×${columns} pixels.`;
  if (high * wide === 1) return `It sees one pixel: row ${box.top}, column ${box.left}.`;
  return `It sees rows ${box.top}–${box.bottom} and columns ${box.left}–${box.right} of the image, ${high}×${wide} pixels.`;
};

/** How far the activation sees in every layer between, as small plans: neighbours with the same plan share one. */
const plansOf = (fields, layers) => {
  const plans = [];
  for (const layer of layers) {
    const box = fields[layer.name];
    const [, rows, columns] = layer.shape;
    const last = plans.at(-1);
    if (!box || layer.shape.length !== 3) continue;
    const same = last && JSON.stringify([last.box, last.rows, last.columns]) === JSON.stringify([box, rows, columns]);
    if (same) last.to = layer.name;
    else plans.push({ box, rows, columns, from: layer.name, to: layer.name });
  }
  return h(
    "ol",
    { class: "plans", "aria-label": "What it sees in every layer" },
    plans.map(({ box, rows, columns, from, to }) => {
      const [high, wide] = [Math.max(0, box.bottom - box.top + 1), Math.max(0, box.right - box.left + 1)];
      const most = Math.max(rows, columns);
      return h(
        "li",
        {},
        h(
          "span",
          { class: "plan", "aria-hidden": "true", style: { width: `${(60 * columns) / most}px`, height: `${(60 * rows) / most}px` } },
          h("span", {
            style: {
              left: `${(100 * box.left) / columns}%`,
              top: `${(100 * box.top) / rows}%`,
              width: `${(100 * wide) / columns}%`,
              height: `${(100 * high) / rows}%`,
            },
          }),
        ),
        h("code", {}, from === to ? from : `${from} to ${to}`),
        h("span", {}, ` ${high}×${wide} of ${rows}×${columns}`),
      );
    }),
  );
};

/**
 * The chosen activation: its place, value, what it sees, the way that led to it, and its sum.
 * @param {object} found as insideOf gives it
 * @param {Array<function()>} ends where functions are put that end its figures
 * @param {{hash(layer, unit, way), image(), down(term), point(trace, term or null)}} actions
 * @returns {{element, show(trace, way)}}
 */
export const activation = (run, classes, found, ends, actions) => {
  const picture = seenImage(found, ends);
  const heading = h("h2", { tabindex: "-1" });
  const value = h("data", { class: "big-value" });
  const sees = h("p", { class: "muted" });
  const plans = h("div");
  const path = h("nav", { "aria-label": "The way down" });
  const sum = h("div", { class: "stack" });
  const trouble = h("div");
  const making = h("span", { class: "muted", role: "status" });
  let ended = [];
  let trace = null;
  const answerUnit = classes.indexOf(found.prediction);
  const short = ({ layer, unit }) =>
    layer === found.output && unit.length === 1 ? `logit of ${classes[unit[0]] ?? unit[0]}` : unitName(layer, unit);
  const download = async (whole) => {
    making.textContent = "making the workbook …";
    try {
      const image = actions.image();
      const blob = await postForFile(runPath(run, "workbook"), {
        image: asked(image),
        ...(whole ? {} : { layer: trace.layer, unit: trace.unit }),
      });
      saveFile(blob, `${run}-${imageKey(image).replace(":", "-")}${whole ? "" : `-${trace.layer}-${trace.unit.join("-")}`}.xlsx`);
      put(trouble);
      making.textContent = "saved";
    } catch (error) {
      making.textContent = "";
      put(trouble, failure(error));
    }
  };
  ends.push(() => ended.forEach((end) => end()));
  const element = h(
    "section",
    { class: "panel activation" },
    path,
    h(
      "div",
      { class: "activation-head" },
      picture.element,
      h(
        "div",
        { class: "stack tight" },
        heading,
        value,
        sees,
        h(
          "div",
          { class: "actions" },
          button("Workbook of this activation", () => download(false)),
          button("Workbook of the whole network", () => download(true)),
          making,
        ),
        trouble,
      ),
    ),
    plans,
    sum,
  );
  return {
    element,
    show(next, way) {
      const before = trace;
      trace = next;
      ended.forEach((end) => end());
      ended = [];
      const label =
        next.layer === found.output && next.unit.length === 1
          ? `Logit of ${classes[next.unit[0]] ?? next.unit[0]}${next.unit[0] === answerUnit ? ", the network's answer" : ""}`
          : `Layer ${next.layer}: ${unitInWords(next.unit)}`;
      const focused = path.contains(document.activeElement) || sum.contains(document.activeElement);
      put(heading, label);
      value.value = next.value;
      put(value, figure(next.value, 6));
      sees.textContent = fieldInWords(next.receptive_field, found.image.shape);
      picture.light({ box: next.receptive_field });
      put(plans, plansOf(next.fields, found.layers));
      const steps = [...way, { layer: next.layer, unit: next.unit }];
      put(
        path,
        h(
          "ol",
          { class: "crumbs" },
          steps.map((step, place) =>
            h(
              "li",
              {},
              place === steps.length - 1
                ? h("span", { "aria-current": "location" }, short(step))
                : h("a", { href: actions.hash(step.layer, step.unit, way.slice(0, place)) }, short(step)),
            ),
          ),
        ),
      );
      put(sum, sumOf(next, ended, { down: (term) => actions.down(term), point: (term) => actions.point(next, term) }));
      if (focused) heading.focus({ preventScroll: true });
      const { top } = heading.getBoundingClientRect();
      if (before && (top < 0 || top > innerHeight - 100))
        element.scrollIntoView({ block: "start", behavior: mayMove() ? "smooth" : "instant" });
      announce(`${label}: ${figure(next.value, 6)}, ${plural(next.terms.length, "product")}`);
    },
  };
};
