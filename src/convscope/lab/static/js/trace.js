// The trace tab: one activation, what it sees in the image and in every layer between, and the products it is made of; down to the pixels.
//
// The address holds the run, the image, the layer and unit, and the way that led there, so that a reload or a link shows the same.
import { get, post, postForFile, runPath, saveFile } from "./api.js";
import { announce, button, failure, field, h, mayMove, notice, panel, put, waiting } from "./dom.js";
import { asked, imageFor, imageForAddress, imageInWords, imageKey, insideOf, latest, remember, runChoice } from "./looking.js";
import { colourPicture, extent, GREY, mapGrid, SIGNED, unitInWords } from "./maps.js";
import { imagePicker } from "./picker.js";
import { sumOf, unitName } from "./trace_sum.js";
import { figure, percent, plural } from "./words.js";

let ends = []; // what unmount has to end
let shown = null; // {run, key, context, show(query)}
let mounted = 0; // changes whenever the tab is entered or left: what was awaited meanwhile is dropped

// ---------------------------------------------------------------- the way, in the address

const wayOf = (text) => (text ?? "").split(";").filter(Boolean).map((step) => {
  const cut = step.lastIndexOf("@");
  return { layer: step.slice(0, cut), unit: step.slice(cut + 1).split(",").map(Number) };
});
const wayText = (way) => way.map(({ layer, unit }) => `${layer}@${unit.join()}`).join(";");
const unitOf = (text) => (/^\d+(,\d+)*$/.test(text ?? "") ? text.split(",").map(Number) : null);

// ---------------------------------------------------------------- the network's maps

const targetOf = (layer) => {
  const size = Math.max(...layer.array.shape.slice(1), 1);
  return layer.array.shape.length === 1 ? 999 : size >= 20 ? 84 : size >= 10 ? 56 : size >= 6 ? 49 : 36;
};

/** Every layer's maps, small, from the image to the answer; those that the activation depends on lit. */
const networkMaps = (found, onChoose) => {
  const grids = new Map(), drawnAs = new Map();
  const rows = found.layers.map((layer) => {
    const grey = layer.kind === "image";
    const grid = mapGrid({ label: `Activations of layer ${layer.name}, ${layer.kind}. Arrow keys move, Page Up and Page Down change the map, Enter traces.`, onChoose: (unit) => onChoose(layer.name, unit) });
    grid.show({ array: layer.array, style: grey ? GREY : SIGNED, ends: grey ? { low: 0, high: 255 } : extent(layer.array.values), target: targetOf(layer), largest: 20, more: () => ["click: trace it"] });
    ends.push(grid.destroy);
    const seen = h("span", { class: "muted" });
    const element = h("div", { class: "way", data: { operation: layer.name } }, h("div", { class: "way-head" }, h("h4", {}, h("code", {}, layer.name), ` ${layer.kind}`), seen), grid.element);
    grids.set(layer.name, { grid, element, seen, layer });
    return element;
  });
  const lights = (trace, name) => {
    const box = trace.fields[name], own = name === trace.layer;
    const alone = own || name === trace.summed_by || trace.steps.some((step) => step.layer === name); // operations that stay in the unit's channel
    return { box, maps: alone && trace.unit.length === 3 ? new Set([trace.unit[0]]) : null, units: own ? [trace.unit] : [] };
  };
  return {
    element: h("div", { class: "network" }, rows),
    show(trace) {
      for (const [name, { grid, element, seen }] of grids) {
        const lit = lights(trace, name), { box } = lit, same = JSON.stringify([box, lit.units, trace.unit[0]]);
        if (same !== drawnAs.get(name)) grid.light(lit); // redrawing what stays the same would cost a click its quickness
        drawnAs.set(name, same);
        element.classList.toggle("lit", Boolean(box) || name === trace.layer);
        element.classList.toggle("own", name === trace.layer);
        seen.textContent = !box || name === trace.layer ? "" : box.bottom < box.top ? "only padding" : `rows ${box.top}–${box.bottom}, columns ${box.left}–${box.right}`;
      }
      const own = grids.get(trace.layer)?.element;
      const scroll = own?.parentElement;
      if (own && scroll.scrollHeight > scroll.clientHeight) scroll.scrollTop = own.offsetTop - scroll.clientHeight / 2;
    },
    /** Marks the unit that a product comes from. */
    point(trace, term) {
      const source = term?.source ?? trace.terms[0]?.source, kept = grids.get(source);
      drawnAs.delete(source);
      if (kept) kept.grid.light({ ...lights(trace, source), units: term ? [term.unit] : lights(trace, source).units });
    },
  };
};

// ---------------------------------------------------------------- choosing a unit by name

const unitForm = (layers, onChoose) => {
  const place = h("div", { class: "unit-fields" });
  let chosen = null, inputs = [];
  const names = h("select", { on: { change: () => { build(layers.find((layer) => layer.name === names.value)); submit(); } } }, layers.map((layer) => h("option", { value: layer.name }, `${layer.name} ${layer.kind}`)));
  const submit = () => {
    if (inputs.every((input) => input.value !== "" && input.checkValidity())) onChoose(chosen.name, inputs.map((input) => Number(input.value)));
  };
  const build = (layer, unit = layer.shape.map((size) => Math.floor((size - 1) / 2))) => {
    chosen = layer;
    const labels = layer.shape.length === 3 ? ["Channel", "Row", "Column"] : layer.shape.length === 1 ? ["Unit"] : layer.shape.map((_, axis) => `Axis ${axis}`);
    inputs = layer.shape.map((size, axis) => h("input", { type: "number", min: 0, max: size - 1, value: unit[axis], on: { change: submit } }));
    put(place, inputs.map((input, axis) => field(h("span", {}, labels[axis], h("span", { class: "muted" }, ` 0–${layer.shape[axis] - 1}`)), input)));
  };
  return {
    element: h("div", { class: "unit-form" }, field("Layer", names), place),
    show({ layer, unit }) {
      const found = layers.find((other) => other.name === layer);
      if (!found) return;
      names.value = layer;
      if (chosen?.name !== layer) build(found, unit);
      else inputs.forEach((input, axis) => { input.value = unit[axis]; });
    },
  };
};

// ---------------------------------------------------------------- the activation

const seenImage = (found) => {
  const grid = mapGrid({ label: "The image, with the pixels that the activation sees lit", target: 168, largest: 12 });
  const [channels, rows, columns] = found.image.shape, size = rows * columns;
  const grey = channels === 1 ? found.image.values : Float32Array.from({ length: size }, (_, at) => [0, 1, 2].reduce((sum, c) => sum + found.image.values[c * size + at], 0) / 3);
  grid.show({ array: { shape: [rows, columns], values: grey }, style: GREY, ends: { low: 0, high: 255 },
    ...(channels === 3 ? { picture: colourPicture(found.image, 255), more: ([row, column]) => [`red, green, blue: ${[0, 1, 2].map((c) => found.image.values[c * size + row * columns + column]).join(", ")}`] } : {}) });
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
    const box = fields[layer.name], [, rows, columns] = layer.shape, last = plans.at(-1);
    if (!box || layer.shape.length !== 3) continue;
    const same = last && JSON.stringify([last.box, last.rows, last.columns]) === JSON.stringify([box, rows, columns]);
    if (same) last.to = layer.name;
    else plans.push({ box, rows, columns, from: layer.name, to: layer.name });
  }
  return h("ol", { class: "plans", "aria-label": "What it sees in every layer" }, plans.map(({ box, rows, columns, from, to }) => {
    const [high, wide] = [Math.max(0, box.bottom - box.top + 1), Math.max(0, box.right - box.left + 1)], most = Math.max(rows, columns);
    return h("li", {}, h("span", { class: "plan", "aria-hidden": "true", style: { width: `${(60 * columns) / most}px`, height: `${(60 * rows) / most}px` } },
      h("span", { style: { left: `${(100 * box.left) / columns}%`, top: `${(100 * box.top) / rows}%`, width: `${(100 * wide) / columns}%`, height: `${(100 * high) / rows}%` } })),
    h("code", {}, from === to ? from : `${from} to ${to}`), h("span", {}, ` ${high}×${wide} of ${rows}×${columns}`));
  }));
};

const activation = (run, found, actions, classes) => {
  const picture = seenImage(found);
  const heading = h("h2", { tabindex: "-1" }), value = h("data", { class: "big-value" }), sees = h("p", { class: "muted" }), plans = h("div"), path = h("nav", { "aria-label": "The way down" }), sum = h("div", { class: "stack" });
  const trouble = h("div"), making = h("span", { class: "muted", role: "status" });
  let ended = [], trace = null;
  const answerUnit = classes.indexOf(found.prediction);
  const short = ({ layer, unit }) => (layer === found.output && unit.length === 1 ? `logit of ${classes[unit[0]] ?? unit[0]}` : unitName(layer, unit));
  const download = async (whole) => {
    making.textContent = "making the workbook …";
    try {
      const image = actions.image();
      const blob = await postForFile(runPath(run, "workbook"), { image: asked(image), ...(whole ? {} : { layer: trace.layer, unit: trace.unit }) });
      saveFile(blob, `${run}-${imageKey(image).replace(":", "-")}${whole ? "" : `-${trace.layer}-${trace.unit.join("-")}`}.xlsx`);
      put(trouble);
      making.textContent = "saved";
    } catch (error) {
      making.textContent = "";
      put(trouble, failure(error));
    }
  };
  ends.push(() => ended.forEach((end) => end()));
  const element = h("section", { class: "panel activation" }, path,
    h("div", { class: "activation-head" }, picture.element, h("div", { class: "stack tight" }, heading, value, sees,
      h("div", { class: "actions" }, button("Workbook of this activation", () => download(false)), button("Workbook of the whole network", () => download(true)), making), trouble)),
    plans, sum);
  return {
    element,
    show(next, way) {
      const before = trace;
      trace = next;
      ended.forEach((end) => end());
      ended = [];
      const label = next.layer === found.output && next.unit.length === 1 ? `Logit of ${classes[next.unit[0]] ?? next.unit[0]}${next.unit[0] === answerUnit ? ", the network's answer" : ""}` : `Layer ${next.layer}: ${unitInWords(next.unit)}`;
      const focused = path.contains(document.activeElement) || sum.contains(document.activeElement);
      put(heading, label);
      value.value = next.value;
      put(value, figure(next.value, 6));
      sees.textContent = fieldInWords(next.receptive_field, found.image.shape);
      picture.light({ box: next.receptive_field });
      put(plans, plansOf(next.fields, found.layers));
      const steps = [...way, { layer: next.layer, unit: next.unit }];
      put(path, h("ol", { class: "crumbs" }, steps.map((step, place) => h("li", {}, place === steps.length - 1
        ? h("span", { "aria-current": "location" }, short(step))
        : h("a", { href: actions.hash(step.layer, step.unit, way.slice(0, place)) }, short(step))))));
      put(sum, sumOf(next, ended, { down: (term) => actions.down(term), point: (term) => actions.point(next, term) }));
      if (focused) heading.focus({ preventScroll: true });
      const { top } = heading.getBoundingClientRect();
      if (before && (top < 0 || top > innerHeight - 100)) element.scrollIntoView({ block: "start", behavior: mayMove() ? "smooth" : "instant" });
      announce(`${label}: ${figure(next.value, 6)}, ${plural(next.terms.length, "product")}`);
    },
  };
};

// ---------------------------------------------------------------- the tab

const look = async (root, context) => {
  const { route } = context, mine = (mounted += 1);
  const said = await runChoice(route.parts[0] ?? context.run, (run) => context.go(context.link("trace", run)));
  const head = [h("h1", {}, "Trace"), h("p", { class: "intro" }, "Click any activation: what it sees lights up in the image and in every layer between, and the products that made it are listed and add up. Click a product to go one level down, until you reach the pixels.")];
  if (mine !== mounted) return;
  if (!said.run) return put(root, head, said.element);
  const run = said.run;
  context.chooseRun(run);
  const { image, missing } = imageFor(run, route.query), key = imageForAddress(image);
  const [facts, found] = await Promise.all([get(runPath(run)), insideOf(run, image)]);
  if (mine !== mounted) return;
  remember(run, image);

  const hash = (layer, unit, way = []) => `${context.link("trace", run)}?${new URLSearchParams({ image: key, layer, unit: unit.join(), ...(way.length ? { via: wayText(way) } : {}) })}`;
  const go = (layer, unit, way) => {
    performance.mark("trace-asked");
    context.go(hash(layer, unit, way));
  };
  let way = [], now = null;
  const actions = {
    hash, image: () => image,
    down: (term) => go(term.source, term.unit, [...way, { layer: now.layer, unit: now.unit }]),
    point: (trace, term) => network.point(trace, term),
  };
  const chosen = (layer, unit) => go(layer, unit, []);
  const network = networkMaps(found, chosen), form = unitForm(found.layers, chosen), unit = activation(run, found, actions, facts.classes), trouble = h("div");
  const show = latest(async (query) => {
    const layer = query.get("layer"), asks = layer && unitOf(query.get("unit"));
    try {
      const trace = await post(runPath(run, "trace"), { image: asked(image), ...(asks ? { layer, unit: asks } : { layer: found.output, unit: [facts.classes.indexOf(found.prediction)] }) });
      if (mine !== mounted) return;
      [way, now] = [wayOf(query.get("via")), trace];
      put(trouble);
      unit.show(trace, way);
      form.show(trace);
      network.show(trace);
      if (performance.getEntriesByName("trace-asked").length) requestAnimationFrame(() => { performance.measure("trace", "trace-asked"); performance.clearMarks("trace-asked"); });
    } catch (error) {
      if (mine === mounted) put(trouble, failure(error));
    }
  });
  const picker = h("div", { hidden: true });
  const choose = button("Another image", () => {
    picker.hidden = !picker.hidden;
    choose.setAttribute("aria-expanded", String(!picker.hidden));
    if (!picker.hidden && !picker.childElementCount) put(picker, imagePicker({ run, classes: facts.classes, shape: facts.image, chosen: image, onImage: latest(async (next) => {
      await insideOf(run, next); // so that the page changes at once when it does
      if (next.kind !== "drawn") return actions.other(next);
      put(ready, button("Trace this drawing", () => actions.other(next), { class: "primary" }));
    }) }), ready);
  }, { "aria-expanded": "false" });
  const ready = h("div", { class: "actions" });
  actions.other = (next) => context.go(`${context.link("trace", run)}?${new URLSearchParams({ image: imageForAddress(next), ...(now ? { layer: now.layer, unit: now.unit.join() } : {}) })}`);
  shown = { run, key: `${run} ${key}`, context, show };
  put(root, head, missing && notice("The image that this address names was drawn or uploaded in another browser window.", "", "Choose or draw one here."), trouble,
    h("div", { class: "tracing" },
      h("div", { class: "stack" },
        h("div", { class: "panel looked-at" }, said.element,
          h("p", { class: "hint" }, `${imageInWords(image)[0].toUpperCase()}${imageInWords(image).slice(1)}${found.label === null ? "" : `, a ${found.label}`}; the network answers `, h("b", {}, found.prediction), ` with ${percent(found.confidence)}. `),
          choose, picker),
        panel("The network", form.element, network.element)),
      unit.element));
  await show(route.query);
};

export const mount = async (root, context) => {
  put(root, waiting());
  await look(root, context);
};

/** Another unit, or another image or run, by the address. */
export const routed = (route) => {
  if (!shown) return;
  const { image } = imageFor(shown.run, route.query);
  if (route.parts[0] === shown.run && `${shown.run} ${imageKey(image)}` === shown.key) return shown.show(route.query);
  const { context } = shown;
  unmount();
  look(document.getElementById("panel"), context).catch((error) => put(document.getElementById("panel"), failure(error)));
};

export const unmount = () => {
  mounted += 1;
  for (const end of ends) end();
  ends = [];
  shown = null;
};

