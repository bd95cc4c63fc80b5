// The layers of the inside tab: activations as maps, before and after the activation function told apart, and kernels as pictures.
import { choices, failure, h, put } from "./dom.js";
import { kernelsOf } from "./looking.js";
import { colourPicture, extent, GREY, mapGrid, SIGNED } from "./maps.js";
import { colourBar } from "./shades.js";
import { count, figure, plural } from "./words.js";

/** What follows a sum within its layer, by the names of PyTorch's modules and functions. */
const ACTIVATION =
  /^(ReLU6?|LeakyReLU|PReLU|RReLU|ELU|CELU|SELU|GELU|SiLU|Mish|Sigmoid|LogSigmoid|Tanh|Softplus|Softsign|Hardtanh|Hardswish|Hardsigmoid|relu_?|leaky_relu_?|gelu|silu_?|mish_?|sigmoid|tanh|elu_?|hardtanh_?|hardswish_?)$/i;

/** Which operations belong together: what comes after a layer with weights, up to the next. */
const stagesOf = (layers) => {
  const stages = [];
  for (const layer of layers) {
    const begins = !stages.length || layer.kernels || /^(Linear|linear)$/.test(layer.kind);
    if (begins) stages.push([layer]);
    else stages.at(-1).push(layer);
  }
  return stages;
};

const phaseOf = (layer, stage) => {
  const place = stage.findIndex((other) => ACTIVATION.test(other.kind));
  const own = stage.indexOf(layer);
  if (place < 0) return "";
  return own < place ? "before the activation" : own === place ? "after the activation" : "";
};

const sizeOf = (layer) => {
  const [channels, ...size] = layer.shape;
  return size.length ? `${plural(channels, "map")} of ${size.join("×")}` : plural(channels, "value");
};

/** Maps in which every value is exactly 0. */
const silentMaps = ({ shape, values }) => {
  const size = shape.slice(1).reduce((a, b) => a * b, 1);
  const silent = new Set();
  for (let map = 0; map < shape[0]; map += 1) {
    let any = false;
    for (let at = map * size; at < (map + 1) * size && !any; at += 1) any = values[at] !== 0;
    if (!any) silent.add(map);
  }
  return silent;
};

const COLOURS = ["red", "green", "blue"];

/** How large maps and their cells are drawn: the smaller the maps, the larger their cells. In CSS pixels. */
const cellsOf = ([first, ...size], named) => {
  if (!size.length) return { target: 44 * Math.min(first, 32), largest: named ? 44 : 24 };
  const side = Math.max(...size);
  if (side === 1) return { target: 24, largest: 24 };
  const [, target] = [
    [20, 112],
    [10, 84],
    [6, 63],
    [0, 52],
  ].find(([least]) => side >= least);
  return { target, largest: 22 };
};

const layerRow = (page, layer, stage) => {
  const phase = phaseOf(layer, stage);
  const image = layer.kind === "image";
  const bar = colourBar();
  const silence = h("p", { class: "silence", hidden: true });
  const together = h("div", { class: "together" });
  const grid = mapGrid({
    label: `Activations of layer ${layer.name}, ${layer.kind}${phase ? `, ${phase}` : ""}. Arrow keys move from value to value, Page Up and Page Down from map to map, Enter shows what made a value.`,
    onChoose: (unit) => page.onChoose(layer.name, unit),
  });
  page.ends.push(grid.destroy, bar.destroy);
  const element = h(
    "div",
    { class: "layer", data: { operation: layer.name } },
    h(
      "div",
      { class: "layer-head" },
      h("h3", {}, h("code", {}, layer.name), ` ${layer.kind}`),
      phase && h("span", { class: `chip ${phase.startsWith("after") ? "after" : ""}` }, phase),
      h("span", { class: "muted" }, sizeOf(layer)),
      bar.element,
    ),
    silence,
    together,
    grid.element,
  );
  return {
    element,
    before: phase.startsWith("before"),
    show(now, classes, last, each) {
      const { array } = now;
      const grey = now.kind === "image";
      const silent = array.shape.length === 3 && phase.startsWith("after") ? silentMaps(array) : null;
      const scale = extent(array.values);
      const own = each && !grey && array.shape.length === 3; // every map on a scale of its own
      const ends = grey ? { low: 0, high: 255 } : scale;
      const style = grey ? GREY : SIGNED;
      const named = last && array.shape.length === 1 && array.shape[0] === classes.length;
      grid.show({
        array,
        silent,
        style,
        ends,
        each: own,
        names: image && array.shape[0] === 3 ? COLOURS : null,
        ...cellsOf(array.shape, named),
        numbers: named,
        words: named ? (unit) => `${classes[unit[0]]} (unit ${unit[0]})` : null,
        more: () => ["click: what made it"],
      });
      const left = now.shown < now.shape[0] ? `first ${now.shown} of ${count(now.shape[0])}` : "";
      bar.show({ style, ends, counts: scale, text: left || (own ? "each map to its own largest" : "") });
      put(together, image && array.shape[0] === 3 && colourPicture(array, 255));
      silence.hidden = !silent?.size;
      if (silent?.size)
        silence.textContent = `∅ ${silent.size} of ${array.shape[0]} maps ${silent.size === 1 ? "is" : "are"} zero everywhere: dead for this image.`;
    },
  };
};

// ---------------------------------------------------------------- kernels

const kernelRow = (page, layer) => {
  const [filters, channels, rows, columns] = layer.kernels;
  const bar = colourBar();
  const place = h("div");
  const every = channels === 1; // one small picture for each filter; otherwise one for each channel of a chosen filter
  const grid = mapGrid({
    label: `Kernels of layer ${layer.name}. Arrow keys move from weight to weight, Page Up and Page Down from kernel to kernel.`,
    target: rows > 3 ? 70 : 48,
    largest: 20,
  });
  page.ends.push(grid.destroy, bar.destroy);
  const chooser = h("input", {
    type: "number",
    min: 0,
    max: filters - 1,
    value: 0,
    on: { input: () => chooser.checkValidity() && chooser.value !== "" && draw(Number(chooser.value)) },
  });
  let found = null;
  const draw = (filter) => {
    const size = channels * rows * columns;
    const values = every ? found.array.values : found.array.values.subarray(filter * size, (filter + 1) * size);
    const scale = extent(found.array.values);
    grid.show({
      array: { shape: [every ? filters : channels, rows, columns], values },
      ends: scale,
      words: ([map, row, column]) =>
        every ? `kernel ${map}, row ${row}, column ${column}` : `kernel ${filter}, for channel ${map}, row ${row}, column ${column}`,
      more: ([map]) => (found.bias ? [`bias of kernel ${every ? map : filter}: ${figure(found.bias[every ? map : filter], 4)}`] : []),
    });
    bar.show({ style: SIGNED, ends: scale, counts: scale });
  };
  kernelsOf(page.run, layer.name).then(
    (answer) => {
      found = answer;
      put(place, grid.element);
      draw(0);
    },
    (error) => put(place, failure(error)),
  );
  return h(
    "div",
    { class: "layer kernels" },
    h(
      "div",
      { class: "layer-head" },
      h("h3", {}, "Kernels"),
      h("span", { class: "muted" }, `${filters} of ${channels}×${rows}×${columns} weights`),
      !every && h("label", { class: "inline" }, "kernel", chooser),
      bar.element,
    ),
    place,
  );
};

const stagePanel = (page, stage, last) => {
  const rows = stage.map((layer) => layerRow(page, layer, stage));
  const weights = stage.filter((layer) => layer.kernels && layer.kernels.length === 4);
  const title = stage[0].kind === "image" ? "The image" : `${stage[0].name} ${stage[0].kind}`;
  const element = h(
    "section",
    { class: "panel stage", "aria-label": title },
    weights.map((layer) => kernelRow(page, layer)),
    rows.map((row) => row.element),
  );
  return {
    element,
    show(layers, each, only) {
      layers.forEach((layer, place) => {
        rows[place].element.hidden = only && rows[place].before;
        rows[place].show(layer, page.classes, layer.name === last, each);
      });
    },
  };
};

// ---------------------------------------------------------------- together

/**
 * Every layer's activations and kernels.
 * @param {{run, classes, ends, onChoose(layer, unit)}} page `ends` is where functions are put that end the figures
 * @returns {{element, show(found)}} `found` as insideOf gives it
 */
export const layersPlace = (page) => {
  const place = h("div", { class: "stack" });
  let stages = null;
  let seen = "";
  let each = false;
  let only = false;
  let found = null;
  const show = () => {
    let at = 0;
    for (const [length, stage] of stages) stage.show(found.layers.slice(at, (at += length)), each, only);
  };
  return {
    element: h(
      "div",
      { class: "stack" },
      h(
        "div",
        { class: "toolbar" },
        choices(
          "Colours",
          [
            ["layer", "a scale for each layer"],
            ["map", "for each map"],
          ],
          "layer",
          (value) => {
            each = value === "map";
            if (found) show();
          },
        ),
        choices(
          "Show",
          [
            ["all", "every operation"],
            ["after", "after the activation only"],
          ],
          "all",
          (value) => {
            only = value === "after";
            if (found) show();
          },
        ),
      ),
      place,
    ),
    show(next) {
      found = next;
      const key = next.layers.map((layer) => `${layer.name} ${layer.shape}`).join();
      if (key !== seen) {
        seen = key;
        stages = stagesOf(next.layers).map((stage) => [stage.length, stagePanel(page, stage, next.output)]);
        put(
          place,
          stages.map(([, stage]) => stage.element),
        );
      }
      show();
    },
  };
};
