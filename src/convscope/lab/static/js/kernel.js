// The kernel tab: a kernel slides over an image. Numbers come from the server, which asks the library; this page only says where to look.
import { decoded, get, post, runPath } from "./api.js";
import { failure, field, h, notice, panel, put, waiting } from "./dom.js";
import { filterOf, kernelEditor, weightsOf } from "./kernel_editor.js";
import { copySide, matrixView } from "./kernel_matrix.js";
import { asked, imageForAddress, imageOf, latest } from "./looking.js";
import { colourPicture, extent, GREY, mapGrid, SIGNED, unitInWords } from "./maps.js";
import { imagePicker } from "./picker.js";
import { colourBar } from "./shades.js";
import { count, figure, plural } from "./words.js";

const COLOURS = ["red", "green", "blue"];
const STEPS = [["stride", "Stride", 1, 8], ["padding", "Padding", 0, 8], ["dilation", "Dilation", 1, 6]]; // name, label, least, most offered
const SHOWN = 300; // CSS pixels of the image's and the output's side
const cellFor = (side) => (innerWidth < 500 ? 30 : side > 3 ? 38 : 46); // CSS pixels in which a number can be read; three pictures side by side on a phone

let ends = []; // what unmount has to end
let mounted = 0; // changes whenever the tab is entered or left: what was awaited meanwhile is dropped

// ---------------------------------------------------------------- the address

const imageText = (image) => (image.name && !image.png ? `ready:${image.name}` : image.run ? `run:${image.run}:${image.valid}` : imageForAddress(image));
const imageFrom = (text) => {
  if (text?.startsWith("ready:")) return { name: text.slice(6) };
  const own = /^run:(.+):(\d+)$/.exec(text ?? "");
  return own ? { run: own[1], valid: Number(own[2]) } : text?.startsWith("own:") ? imageOf(text) : null;
};
const requested = (image) => (image.png ? { ...asked(image), ...(image.grey === false ? { grey: false } : {}) } : image.run ? { run: image.run, valid: image.valid } : { name: image.name });

const filterText = ({ alike, kernels, bias }) => `${alike ? "" : "~"}${kernels.map((kernel) => kernel.flat().map((value) => Number(value.toPrecision(7))).join()).join("_")}${bias ? `+${bias}` : ""}`;
const filterFrom = (text) => {
  const found = /^(~?)([-\d.e,_]+)(?:\+(-?[\d.e-]+))?$/.exec(text);
  if (!found) return null;
  const kernels = found[2].split("_").map((part) => part.split(",").map(Number)), side = Math.sqrt(kernels[0].length);
  if (![3, 5].includes(side) || kernels.some((numbers) => numbers.length !== side * side || !numbers.every(Number.isFinite))) return null;
  return { alike: !found[1], bias: Number(found[3] ?? 0), kernels: kernels.map((numbers) => Array.from({ length: side }, (_, row) => numbers.slice(row * side, (row + 1) * side))) };
};

const stateFrom = (query, known) => {
  const filters = (query.get("filters") ?? "").split(";").map(filterFrom).filter(Boolean);
  const number = ([name, , least, most]) => Math.min(Math.max(Math.round(Number(query.get(name) ?? least)) || least, least), most);
  return {
    image: imageFrom(query.get("image")) ?? { name: known.images[0].name },
    filters: filters.length ? filters : [filterOf(known.kernels[0].kernel.map((row) => [...row]))],
    ...Object.fromEntries(STEPS.map((step) => [step[0], number(step)])),
  };
};
const stateText = (state) => new URLSearchParams({ image: imageText(state.image), filters: state.filters.map(filterText).join(";"), ...Object.fromEntries(STEPS.map(([name]) => [name, state[name]])) });

// ---------------------------------------------------------------- image and output

/** Where a filter answers most: [row, column]. */
const strongest = ({ shape: [, rows, columns], values }, filter) => {
  let best = filter * rows * columns;
  for (let at = best; at < (filter + 1) * rows * columns; at += 1) if (Math.abs(values[at]) > Math.abs(values[best])) best = at;
  const at = best - filter * rows * columns;
  return [Math.floor(at / columns), at % columns];
};

/** An image with its padding around it: values, and which cells are padding. */
const padded = (image, padding) => {
  const [channels, rows, columns] = image.shape, [high, wide] = [rows + 2 * padding, columns + 2 * padding];
  const values = new Float32Array(channels * high * wide), real = new Uint8Array(channels * high * wide);
  for (let channel = 0; channel < channels; channel += 1) {
    for (let row = 0; row < rows; row += 1) {
      for (let column = 0; column < columns; column += 1) {
        const to = (channel * high + row + padding) * wide + column + padding;
        values[to] = image.values[(channel * rows + row) * columns + column];
        real[to] = 1;
      }
    }
  }
  return { shape: [channels, high, wide], values, real };
};

const convolutionPanel = (onPlace) => {
  const image = mapGrid({ label: "The image with its padding", target: SHOWN, largest: 20 });
  const output = mapGrid({ label: "The output. Arrow keys move from place to place; the window and its products follow.", target: SHOWN, largest: 20, onPoint: (unit) => unit && onPlace(unit), onChoose: onPlace });
  const bar = colourBar(), formula = h("dl", { class: "facts" }), note = h("p", { class: "hint" });
  const captions = [h("figcaption"), h("figcaption")], together = h("div", { class: "together" });
  ends.push(image.destroy, output.destroy, bar.destroy);
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  let shown = null;
  return {
    element: panel("Image and output", h("div", { class: "before-after" }, h("figure", {}, captions[0], together, image.element), h("figure", {}, captions[1], output.element, bar.element)), note, formula),
    show(found, state) {
      shown = found;
      const [channels, rows, columns] = found.image.shape, [filters, high, wide] = found.output.shape, around = padded(found.image, state.padding);
      image.show({
        array: around, style: GREY, ends: { low: 0, high: 1 }, names: channels === 3 ? COLOURS : null, target: channels > 1 ? 150 : SHOWN,
        special: state.padding ? (index) => (around.real[index] ? null : "--padding") : null,
        words: ([channel, row, column]) => (around.real[(channel * around.shape[1] + row) * around.shape[2] + column] ? unitInWords([channel, row - state.padding, column - state.padding]) : "padding: always 0"),
      });
      put(together, channels === 3 && colourPicture(found.image, 1));
      const scale = extent(found.output.values);
      output.show({ array: found.output, ends: scale, target: filters > 1 ? 190 : SHOWN, names: filters > 1 ? found.filters : null, words: ([filter, row, column]) => `${filters > 1 ? `filter ${filter}, ` : ""}row ${row}, column ${column}` });
      bar.show({ style: SIGNED, ends: scale, counts: scale });
      captions[0].textContent = `image, ${found.image.shape.join("×")}${state.padding ? `, with ${plural(state.padding, "row and column", "rows and columns")} of zeros around it` : ""}`;
      captions[1].textContent = `output, ${found.output.shape.join("×")}`;
      note.textContent = found.image_note ? `The image was ${found.image_note}.` : "";
      const [, , taps, across] = found.kernel.shape, weights = filters * channels * taps * across;
      put(formula,
        fact("Rows", h("code", {}, found.formula.rows)), fact("Columns", h("code", {}, found.formula.columns)),
        fact("In words", "floor((size + 2·padding − dilation·(kernel − 1) − 1) / stride) + 1"),
        fact("Weights", `${filters} × ${channels} × ${taps} × ${across} = ${count(weights)}, and ${plural(filters, "bias", "biases")}: filters × channels × rows × columns`),
        fact("Places", `${filters} × ${high} × ${wide} = ${count(filters * high * wide)} outputs of ${count(channels * taps * across)} products each`));
      return { rows, columns };
    },
    /** Lights the window of an output place, and the place. */
    light([filter, row, column], state) {
      const side = shown.kernel.shape[2], units = [], [channels] = shown.image.shape;
      const [top, left] = [row * state.stride, column * state.stride], reach = state.dilation * (side - 1);
      const box = { top, left, bottom: top + reach, right: left + reach };
      if (state.dilation > 1) for (let c = 0; c < channels; c += 1) for (let a = 0; a < side; a += 1) for (let b = 0; b < side; b += 1) units.push([c, top + a * state.dilation, left + b * state.dilation]);
      image.light({ box, units, faint: true });
      output.light({ units: [[filter, row, column]] });
    },
  };
};

// ---------------------------------------------------------------- one place

const placePanel = () => {
  const title = h("p", { class: "muted" }), rows = h("div", { class: "stack" }), sum = h("p", { class: "place-sum" });
  let grids = [];
  const three = (channels, side) => Array.from({ length: channels }, () => ["value", "weight", "product"].map((key) => {
    const grid = mapGrid({ label: `${key}s of the window`, numbers: true, target: 999, largest: cellFor(side) });
    grid.element.style.width = `${cellFor(side) * side + 1}px`;
    return { key, grid };
  }));
  ends.push(() => grids.flat().forEach(({ grid }) => grid.destroy()));
  return {
    element: panel("At this place", title, rows, sum),
    show(found, state, unit, filterCount, channels) {
      const size = found.terms.length / channels, side = Math.sqrt(size);
      if (grids.length !== channels || grids.side !== side) {
        grids.flat().forEach(({ grid }) => grid.destroy());
        grids = three(channels, side);
        grids.side = side;
        put(rows, grids.map((row, channel) => h("div", { class: "times" }, channels > 1 && h("b", { class: "of-channel" }, COLOURS[channel] ?? channel),
          row.flatMap(({ key, grid }, place) => [place ? h("span", { "aria-hidden": "true" }, place === 1 ? "×" : "=") : null, h("figure", {}, h("figcaption", {}, key), grid.element)]),
          h("span", { class: "of-sum muted" }))));
      }
      const ends1 = (key) => extent(Float64Array.from(found.terms, (term) => term[key]));
      const scales = { weight: ends1("weight"), product: ends1("product") };
      grids.forEach((row, channel) => {
        const terms = found.terms.slice(channel * size, (channel + 1) * size);
        for (const { key, grid } of row) {
          grid.show({
            array: { shape: [side, side], values: Float64Array.from(terms, (term) => term[key]) },
            ...(key === "value" ? { style: GREY, ends: { low: 0, high: 1 }, special: (index) => (terms[index].padding ? "--padding" : null) } : { style: SIGNED, ends: scales[key] }),
            words: ([r, c]) => (terms[r * side + c].padding ? "padding: always 0" : `pixel in ${unitInWords(terms[r * side + c].unit.slice(1))}`),
            more: ([r, c]) => [`${figure(terms[r * side + c].value, 6)} × ${figure(terms[r * side + c].weight, 6)} = ${figure(terms[r * side + c].product, 6)}`],
          });
        }
        rows.children[channel].querySelector(".of-sum").textContent = channels > 1 ? `adds ${figure(terms.reduce((all, term) => all + term.product, 0), 6)}` : "";
      });
      const padding = found.terms.filter((term) => term.padding).length;
      title.textContent = `Output${filterCount > 1 ? ` of filter ${unit[0]}` : ""}, row ${unit[1]}, column ${unit[2]}${padding ? `; ${padding} of its ${found.terms.length} products are with padding, and 0` : ""}.`;
      put(sum, `The ${plural(found.terms.length, "product")} add up${found.bias ? `, with the bias ${figure(found.bias, 6)},` : ""} to `, h("data", { class: "total", value: found.total }, figure(found.total, 7)), "; PyTorch's conv2d says ", h("data", { class: "value", value: found.value }, figure(found.value, 7)), ".");
    },
  };
};

// ---------------------------------------------------------------- the tab

const build = async (root, context) => {
  const mine = (mounted += 1);
  const [known, { runs }] = await Promise.all([get("/api/kernels"), get("/api/runs")]);
  const trained = runs.filter((row) => row.can_inspect), run = (trained.find((row) => row.run === context.run) ?? trained[0])?.run ?? null;
  const facts = run && await get(runPath(run));
  if (mine !== mounted) return;
  const state = stateFrom(context.route.query, known);
  let chosen = 0, place = null, answer = null, later = 0;
  const trouble = h("div"), smallTrouble = h("p", { class: "muted" });
  const body = () => ({ image: requested(state.image), kernel: weightsOf(state.filters, channelsOf()), bias: state.filters.map((filter) => filter.bias), stride: state.stride, padding: state.padding, dilation: state.dilation });
  const channelsOf = () => channels;
  let channels = known.images.find((image) => image.name === state.image.name)?.shape[0] ?? (state.image.grey === false ? 3 : state.image.run ? facts?.image[0] ?? 1 : 1);

  const convolution = convolutionPanel((unit) => { place = unit; pointed(); });
  const products = placePanel(), matrix = matrixView();
  ends.push(matrix.destroy);

  const atPlace = latest(async () => {
    if (!place || !answer) return;
    const now = answer, unit = place;
    try {
      const found = await post("/api/kernel/pixel", { ...body(), filter: unit[0], row: unit[1], column: unit[2] });
      if (now === answer) products.show(found, state, unit, state.filters.length, found.terms.length / state.filters[0].kernels[0].length ** 2);
    } catch (error) {
      if (now === answer) put(trouble, failure(error));
    }
  });
  const pointed = () => {
    convolution.light(place, state);
    atPlace();
  };
  const asMatrix = latest(async () => {
    const side = state.filters[0].kernels[0].length, small = { ...requested(state.image), crop: copySide({ side, padding: state.padding, dilation: state.dilation }) };
    try {
      const found = await post("/api/kernel", { ...body(), image: small, kernel: [body().kernel[chosen]], bias: [state.filters[chosen].bias] });
      const fits = found.matrix;
      matrix.element.hidden = !fits;
      smallTrouble.textContent = fits ? "" : "The matrix has too many places to be shown.";
      if (fits) matrix.show({ ...found, image: decoded(found.image), output: decoded(found.output), kernel: decoded(found.kernel), matrix: { ...fits, ties: decoded(fits.ties), data: decoded(fits.data) } });
    } catch (error) {
      matrix.element.hidden = true;
      smallTrouble.textContent = `On the small copy: ${error.message}`;
    }
  });
  const update = latest(async () => {
    try {
      const found = await post("/api/kernel", body());
      if (mine !== mounted) return;
      answer = { ...found, image: decoded(found.image), output: decoded(found.output), kernel: decoded(found.kernel), filters: state.filters.map((_, filter) => `filter ${filter}`) };
      put(trouble);
      convolution.show(answer, state);
      const [filters, rows, columns] = answer.output.shape;
      place = place && place[0] < filters && place[1] < rows && place[2] < columns ? place : [chosen, ...strongest(answer.output, chosen)];
      pointed();
      clearTimeout(later);
      later = setTimeout(() => { // browsers refuse hundreds of addresses a minute
        const here = `#/kernel?${stateText(state)}`;
        if (mine === mounted && location.hash !== here) history.replaceState(null, "", here);
      }, 400);
      asMatrix();
    } catch (error) {
      put(trouble, failure(error));
    }
  });
  ends.push(() => clearTimeout(later));

  const editor = kernelEditor({ known: known.kernels, filters: state.filters, colours: COLOURS, onChange: (_, filter) => {
    if (filter !== chosen) place = null;
    chosen = filter;
    update();
  } });
  editor.setChannels(channels);
  ends.push(editor.destroy);
  const colour = h("label", { class: "check", hidden: state.image.kind !== "file" }, h("input", { type: "checkbox", checked: state.image.grey === false, on: { change: (event) => use({ ...state.image, grey: event.target.checked ? false : undefined }) } }), "in colour: three channels");
  const use = (image) => {
    const own = image.valid !== undefined && !image.png ? { run, valid: image.valid } : image;
    state.image = own;
    channels = known.images.find(({ name }) => name === own.name && !own.png)?.shape[0] ?? (own.grey === false ? 3 : own.run ? facts?.image[0] ?? 1 : 1);
    colour.hidden = own.kind !== "file";
    editor.setChannels(channels);
    update();
  };
  const picker = imagePicker({ run: facts ? run : null, classes: facts?.classes ?? [], shape: [1, 28, 28], named: known.images, chosen: state.image, onImage: use });
  const steps = STEPS.map(([name, label, least, most]) => field(label, h("input", { type: "number", name, min: least, max: most, value: state[name], on: { input: (event) => {
    const value = Number(event.target.value), fit = event.target.value !== "" && Number.isInteger(value) && value >= least && value <= most;
    event.target.setAttribute("aria-invalid", String(!fit));
    if (!fit) return;
    state[name] = value;
    place = null;
    update();
  } } })));
  put(root, h("h1", {}, "Kernel"), h("p", { class: "intro" }, "Choose an image, change the numbers of a kernel, and see what becomes of the image as you type. Point at the output to see the window it came from and the products that add up."),
    context.route.query.get("image")?.startsWith("own:") && !imageFrom(context.route.query.get("image")) && notice("The image that this address names was drawn or uploaded in another browser window.", "", "Choose or draw one here."),
    h("div", { class: "split kerneling" },
      h("div", { class: "stack" }, h("div", { class: "panel" }, picker, colour), panel("Kernel", editor.element, h("div", { class: "steps" }, steps))),
      h("div", { class: "stack" }, trouble, convolution.element, products.element, panel("The same as a matrix", matrix.element, smallTrouble))));
  await update();
};

export const mount = async (root, context) => {
  put(root, waiting());
  await build(root, context);
};

export const unmount = () => {
  mounted += 1;
  for (const end of ends) end();
  ends = [];
};
