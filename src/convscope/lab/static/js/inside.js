// The inside tab: an image, the network's answer, and every layer's activations and kernels as maps.
import { get, runPath } from "./api.js";
import { announce, button, choices, failure, h, notice, panel, put, waiting } from "./dom.js";
import { imageFor, imageForAddress, imageInWords, insideOf, kernelsOf, latest, remember, runChoice } from "./looking.js";
import { colourPicture, extent, GREY, mapGrid, SIGNED } from "./maps.js";
import { imagePicker } from "./picker.js";
import { colourBar } from "./shades.js";
import { count, figure, percent, plural } from "./words.js";

/** What follows a sum within its layer, by the names of PyTorch's modules and functions. */
const ACTIVATION = /^(ReLU6?|LeakyReLU|PReLU|RReLU|ELU|CELU|SELU|GELU|SiLU|Mish|Sigmoid|LogSigmoid|Tanh|Softplus|Softsign|Hardtanh|Hardswish|Hardsigmoid|relu_?|leaky_relu_?|gelu|silu_?|mish_?|sigmoid|tanh|elu_?|hardtanh_?|hardswish_?)$/i;
const ANSWERS = 10; // bars at most
const SETTLED = 400; // milliseconds after which a drawing counts as finished for now

let ends = []; // what unmount has to end
let shown = null; // {context, run, traceLink, update}
let mounted = 0; // changes whenever the tab is entered or left: what was awaited meanwhile is dropped

// ---------------------------------------------------------------- the answer

const answerPanel = () => {
  const place = h("div", { class: "answer" });
  return {
    element: panel("What the network says", place),
    show(found, image) {
      const rows = found.probabilities.map((row, unit) => ({ ...row, unit })).sort((a, b) => (found.probabilities.length > ANSWERS ? b.probability - a.probability : 0)).slice(0, ANSWERS);
      const right = found.label === null ? null : found.label === found.prediction;
      put(place,
        h("p", { class: "says" }, h("b", { class: "prediction" }, found.prediction), h("span", {}, percent(found.confidence)),
          right !== null && h("span", { class: `chip ${right ? "right" : "wrong"}` }, right ? "right" : `wrong: it is ${found.label}`)),
        h("ul", { class: "bars", "aria-label": "Probability of each class" }, rows.map((row) =>
          h("li", { class: row.label === found.prediction ? "best" : "" }, h("span", { class: "of-bar" }, row.label),
            h("span", { class: "track", "aria-hidden": "true" }, h("span", { style: { width: `${100 * row.probability}%` } })), h("span", { class: "n" }, percent(row.probability, 1).replace("under", "<").replace("over", ">"))))),
        h("p", { class: "hint" }, `For ${imageInWords(image)}. `),
        h("div", { class: "actions" }, button("Trace this answer to its products", () => shown.context.go(shown.traceLink(found.output, [found.probabilities.findIndex((row) => row.label === found.prediction)])))));
    },
  };
};

// ---------------------------------------------------------------- layers

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
  const place = stage.findIndex((other) => ACTIVATION.test(other.kind)), own = stage.indexOf(layer);
  if (place < 0) return "";
  return own < place ? "before the activation" : own === place ? "after the activation" : "";
};

const sizeOf = (layer) => {
  const [channels, ...size] = layer.shape;
  return size.length ? `${plural(channels, "map")} of ${size.join("×")}` : plural(channels, "value");
};

/** Maps in which every value is exactly 0. */
const silentMaps = ({ shape, values }) => {
  const size = shape.slice(1).reduce((a, b) => a * b, 1), silent = new Set();
  for (let map = 0; map < shape[0]; map += 1) {
    let any = false;
    for (let at = map * size; at < (map + 1) * size && !any; at += 1) any = values[at] !== 0;
    if (!any) silent.add(map);
  }
  return silent;
};

const COLOURS = ["red", "green", "blue"];

const layerRow = (layer, stage) => {
  const phase = phaseOf(layer, stage), image = layer.kind === "image";
  const bar = colourBar(), silence = h("p", { class: "silence", hidden: true }), together = h("div", { class: "together" });
  const grid = mapGrid({
    label: `Activations of layer ${layer.name}, ${layer.kind}${phase ? `, ${phase}` : ""}. Arrow keys move from value to value, Page Up and Page Down from map to map, Enter shows what made a value.`,
    onChoose: (unit) => shown.context.go(shown.traceLink(layer.name, unit)),
  });
  ends.push(grid.destroy, bar.destroy);
  const element = h("div", { class: "layer", data: { operation: layer.name } },
    h("div", { class: "layer-head" }, h("h3", {}, h("code", {}, layer.name), ` ${layer.kind}`), phase && h("span", { class: `chip ${phase.startsWith("after") ? "after" : ""}` }, phase), h("span", { class: "muted" }, sizeOf(layer)), bar.element), silence, together, grid.element);
  return {
    element,
    before: phase.startsWith("before"),
    show(now, classes, last, each) {
      const { array } = now, grey = now.kind === "image", silent = array.shape.length === 3 && phase.startsWith("after") ? silentMaps(array) : null;
      const scale = extent(array.values);
      const named = last && array.shape.length === 1 && array.shape[0] === classes.length;
      const small = array.shape.length === 1 || array.shape.slice(1).every((size) => size === 1);
      const size = Math.max(...array.shape.slice(1), 1);
      grid.show({
        array, silent, each: each && !grey && array.shape.length === 3, style: grey ? GREY : SIGNED, ends: grey ? { low: 0, high: 255 } : scale,
        names: image && array.shape[0] === 3 ? COLOURS : null,
        target: small ? (array.shape.length === 1 ? 44 * Math.min(array.shape[0], 32) : 24) : size >= 20 ? 112 : size >= 10 ? 84 : size >= 6 ? 63 : 52,
        largest: named ? 44 : small ? 24 : 22,
        numbers: named,
        words: named ? (unit) => `${classes[unit[0]]} (unit ${unit[0]})` : null,
        more: () => ["click: what made it"],
      });
      bar.show({ style: grey ? GREY : SIGNED, ends: grey ? { low: 0, high: 255 } : scale, counts: scale, text: now.shown < now.shape[0] ? `first ${now.shown} of ${count(now.shape[0])}` : each && !grey && array.shape.length === 3 ? "each map to its own largest" : "" });
      put(together, image && array.shape[0] === 3 && colourPicture(array, 255));
      silence.hidden = !silent?.size;
      if (silent?.size) silence.textContent = `∅ ${silent.size} of ${array.shape[0]} maps ${silent.size === 1 ? "is" : "are"} zero everywhere: dead for this image.`;
    },
  };
};

// ---------------------------------------------------------------- kernels

const kernelRow = (run, layer) => {
  const [filters, channels, rows, columns] = layer.kernels;
  const bar = colourBar(), place = h("div");
  const every = channels === 1; // one small picture for each filter; otherwise one for each channel of a chosen filter
  const grid = mapGrid({ label: `Kernels of layer ${layer.name}. Arrow keys move from weight to weight, Page Up and Page Down from kernel to kernel.`, target: rows > 3 ? 70 : 48, largest: 20 });
  ends.push(grid.destroy, bar.destroy);
  const chooser = h("input", { type: "number", min: 0, max: filters - 1, value: 0, on: { input: () => chooser.checkValidity() && chooser.value !== "" && draw(Number(chooser.value)) } });
  let found = null;
  const draw = (filter) => {
    const size = channels * rows * columns;
    const values = every ? found.array.values : found.array.values.subarray(filter * size, (filter + 1) * size);
    const scale = extent(found.array.values);
    grid.show({
      array: { shape: [every ? filters : channels, rows, columns], values }, ends: scale,
      words: ([map, row, column]) => (every ? `kernel ${map}, row ${row}, column ${column}` : `kernel ${filter}, for channel ${map}, row ${row}, column ${column}`),
      more: ([map]) => (found.bias ? [`bias of kernel ${every ? map : filter}: ${figure(found.bias[every ? map : filter], 4)}`] : []),
    });
    bar.show({ style: SIGNED, ends: scale, counts: scale });
  };
  kernelsOf(run, layer.name).then((answer) => {
    found = answer;
    put(place, grid.element);
    draw(0);
  }, (error) => put(place, failure(error)));
  return h("div", { class: "layer kernels" },
    h("div", { class: "layer-head" }, h("h3", {}, "Kernels"), h("span", { class: "muted" }, `${filters} of ${channels}×${rows}×${columns} weights`),
      !every && h("label", { class: "inline" }, "kernel", chooser), bar.element), place);
};

const stagePanel = (run, stage, classes, last) => {
  const rows = stage.map((layer) => layerRow(layer, stage));
  const weights = stage.filter((layer) => layer.kernels && layer.kernels.length === 4);
  const title = stage[0].kind === "image" ? "The image" : `${stage[0].name} ${stage[0].kind}`;
  const element = h("section", { class: "panel stage", "aria-label": title }, weights.map((layer) => kernelRow(run, layer)), rows.map((row) => row.element));
  return {
    element,
    show(layers, each, only) {
      layers.forEach((layer, place) => {
        rows[place].element.hidden = only && rows[place].before;
        rows[place].show(layer, classes, layer.name === last, each);
      });
    },
  };
};

// ---------------------------------------------------------------- the tab

const layersPlace = (run, classes) => {
  const place = h("div", { class: "stack" });
  let stages = null, seen = "", each = false, only = false, found = null;
  const show = () => {
    let at = 0;
    for (const [length, stage] of stages) stage.show(found.layers.slice(at, (at += length)), each, only);
  };
  return {
    element: h("div", { class: "stack" },
      h("div", { class: "toolbar" },
        choices("Colours", [["layer", "a scale for each layer"], ["map", "for each map"]], "layer", (value) => { each = value === "map"; if (found) show(); }),
        choices("Show", [["all", "every operation"], ["after", "after the activation only"]], "all", (value) => { only = value === "after"; if (found) show(); })), place),
    show(next) {
      found = next;
      const key = next.layers.map((layer) => `${layer.name} ${layer.shape}`).join();
      if (key !== seen) {
        seen = key;
        stages = stagesOf(next.layers).map((stage) => [stage.length, stagePanel(run, stage, classes, next.output)]);
        put(place, stages.map(([, stage]) => stage.element));
      }
      show();
    },
  };
};

const look = async (root, context) => {
  const { route } = context, mine = (mounted += 1);
  const said = await runChoice(route.parts[0] ?? context.run, (run) => context.go(context.link("inside", run)));
  if (mine !== mounted) return;
  const head = [h("h1", {}, "Inside"), h("p", { class: "intro" }, "Give the network an image and see every number it computes on the way to its answer. Point at a map to read a value; click it to see the products that made it.")];
  if (!said.run) return put(root, head, said.element);
  const run = said.run;
  context.chooseRun(run);
  const facts = await get(runPath(run));
  if (mine !== mounted) return;
  let { image, missing } = imageFor(run, route.query);

  const traceLink = (layer, unit) => `${context.link("trace", run)}?${new URLSearchParams({ image: imageForAddress(image), layer, unit: unit.join() })}`;
  const answer = answerPanel(), layers = layersPlace(run, facts.classes), trouble = h("div");
  shown = { context, run, traceLink };
  let settled = 0;
  const update = latest(async (next, { addressed = true } = {}) => {
    try {
      const found = await insideOf(run, next);
      if (mine !== mounted) return;
      image = next;
      remember(run, next);
      put(trouble);
      answer.show(found, next);
      layers.show(found);
      clearTimeout(settled);
      settled = setTimeout(() => { // while drawing, an answer comes with every movement; browsers refuse hundreds of addresses a minute
        if (mine !== mounted) return;
        announce(`${found.prediction}, ${percent(found.confidence)}`);
        const here = `${context.link("inside", run)}?${new URLSearchParams({ image: imageForAddress(next) })}`;
        if (addressed && location.hash !== here) history.replaceState(null, "", here);
      }, SETTLED);
    } catch (error) {
      if (mine === mounted) put(trouble, failure(error));
    }
  });
  shown.update = update;
  const picker = imagePicker({ run, classes: facts.classes, shape: facts.image, chosen: image, onImage: update });
  put(root, head,
    missing && notice("The image that this address names was drawn or uploaded in another browser window.", "", "Choose or draw one here."),
    h("div", { class: "split inside" },
      h("div", { class: "stack side" }, h("div", { class: "panel" }, said.element, picker), trouble, answer.element),
      layers.element));
  await update(image, { addressed: route.query.has("image") });
};

export const mount = async (root, context) => {
  put(root, waiting());
  await look(root, context);
};

/** Another image of the same run by the address only, such as with the browser's Back. */
export const routed = (route) => {
  const { image } = shown ? imageFor(shown.run, route.query) : {};
  if (shown && route.parts[0] === shown.run && image) shown.update(image);
  else if (shown) {
    const { context } = shown;
    unmount();
    mount(document.getElementById("panel"), context);
  }
};

export const unmount = () => {
  mounted += 1;
  for (const end of ends) end();
  ends = [];
  shown = null;
};

