// The kernel tab: a kernel slides over an image. Numbers come from the server, which asks the library; this page only says where to look.
import { decoded, get, post, runPath } from "./api.js";
import { failure, field, h, notice, panel, put, waiting } from "./dom.js";
import { imageFrom, requested, stateFrom, stateText, STEPS } from "./kernel_address.js";
import { kernelEditor, weightsOf } from "./kernel_editor.js";
import { copySide, matrixView } from "./kernel_matrix.js";
import { COLOURS, convolutionPanel, placePanel, strongest } from "./kernel_panels.js";
import { latest } from "./looking.js";
import { imagePicker } from "./picker.js";

const SETTLED = 400; // milliseconds without a change after which the address follows; browsers refuse hundreds of addresses a minute

let ends = []; // what unmount has to end
let mounted = 0; // changes whenever the tab is entered or left: what was awaited meanwhile is dropped

// ---------------------------------------------------------------- what is asked of the server

const channelsOf = (image, known, facts) => {
  if (image.name && !image.png) return known.images.find(({ name }) => name === image.name)?.shape[0] ?? 1;
  if (image.run) return facts?.image[0] ?? 1;
  return image.grey === false ? 3 : 1;
};

const bodyOf = (state, channels) => ({
  image: requested(state.image),
  kernel: weightsOf(state.filters, channels),
  bias: state.filters.map((filter) => filter.bias),
  stride: state.stride,
  padding: state.padding,
  dilation: state.dilation,
});

/** The same for one filter and a copy of the image so small that the matrix can be seen. */
const smallBody = (state, channels, filter) => {
  const body = bodyOf(state, channels);
  const crop = copySide({ side: state.filters[0].kernels[0].length, padding: state.padding, dilation: state.dilation });
  return { ...body, image: { ...body.image, crop }, kernel: [body.kernel[filter]], bias: [body.bias[filter]] };
};

const convolved = async (body) => {
  const found = await post("/api/kernel", body);
  const matrix = found.matrix && { ...found.matrix, ties: decoded(found.matrix.ties), data: decoded(found.matrix.data) };
  return { ...found, image: decoded(found.image), output: decoded(found.output), kernel: decoded(found.kernel), matrix };
};

// ---------------------------------------------------------------- what is drawn

/** The image, the output, one place of it, and the matrix; `draw` asks for all of them anew. */
const pictures = (state, channels, mine) => {
  let answer = null;
  let place = null; // [filter, row, column] of the output
  let settled = 0;
  let chosen = 0; // the filter being edited
  const trouble = h("div");
  const noMatrix = h("p", { class: "muted" });
  const convolution = convolutionPanel(ends, (unit) => point(unit));
  const products = placePanel(ends);
  const matrix = matrixView();
  ends.push(matrix.destroy, () => clearTimeout(settled));

  const askPlace = latest(async (unit) => {
    const now = answer;
    try {
      const found = await post("/api/kernel/pixel", { ...bodyOf(state, channels()), filter: unit[0], row: unit[1], column: unit[2] });
      if (now === answer) products.show(found, unit, state.filters.length, now.image.shape[0]);
    } catch (error) {
      if (now === answer) put(trouble, failure(error));
    }
  });
  const askMatrix = latest(async () => {
    try {
      const found = await convolved(smallBody(state, channels(), chosen));
      matrix.element.hidden = !found.matrix;
      noMatrix.textContent = found.matrix ? "" : "The matrix has too many places to be shown.";
      if (found.matrix) matrix.show(found);
    } catch (error) {
      matrix.element.hidden = true;
      noMatrix.textContent = `On the small copy: ${error.message}`;
    }
  });
  const point = (unit) => {
    place = unit;
    convolution.light(unit, state);
    askPlace(unit);
  };
  const keepAddress = () => {
    const here = `#/kernel?${stateText(state)}`;
    if (mine === mounted && location.hash !== here) history.replaceState(null, "", here);
  };
  const draw = latest(async () => {
    try {
      const found = await convolved(bodyOf(state, channels()));
      if (mine !== mounted) return;
      answer = found;
      put(trouble);
      convolution.show(found, state);
      const inside = place?.every((at, axis) => at < found.output.shape[axis]);
      point(inside ? place : [chosen, ...strongest(found.output, chosen)]);
      clearTimeout(settled);
      settled = setTimeout(keepAddress, SETTLED);
      askMatrix();
    } catch (error) {
      if (mine === mounted) put(trouble, failure(error));
    }
  });
  return {
    element: h(
      "div",
      { class: "stack" },
      trouble,
      convolution.element,
      products.element,
      panel("The same as a matrix", matrix.element, noMatrix),
    ),
    draw,
    /** Looks where the output is strongest again, after a change that moves every place. */
    drawAnew(filter = chosen) {
      chosen = filter;
      place = null;
      return draw();
    },
    get chosen() {
      return chosen;
    },
  };
};

// ---------------------------------------------------------------- what is chosen

const stepFields = (state, onChange) =>
  STEPS.map(([name, label, least, most]) => {
    const input = h("input", { type: "number", name, min: least, max: most, value: state[name] });
    input.addEventListener("input", () => {
      const value = Number(input.value);
      const fits = input.value !== "" && Number.isInteger(value) && value >= least && value <= most;
      input.setAttribute("aria-invalid", String(!fits));
      if (!fits) return;
      state[name] = value;
      onChange();
    });
    return field(label, input);
  });

const colourCheck = (state, use) => {
  const input = h("input", { type: "checkbox", checked: state.image.grey === false });
  input.addEventListener("change", () => use({ ...state.image, grey: input.checked ? false : undefined }));
  return h("label", { class: "check", hidden: state.image.kind !== "file" }, input, "in colour: three channels");
};

const build = async (root, context) => {
  const mine = (mounted += 1);
  const [known, { runs }] = await Promise.all([get("/api/kernels"), get("/api/runs")]);
  const trained = runs.filter((row) => row.can_inspect);
  const run = (trained.find((row) => row.run === context.run) ?? trained[0])?.run ?? null;
  const facts = run && (await get(runPath(run)));
  if (mine !== mounted) return;

  const { query } = context.route;
  const state = stateFrom(query, known);
  let channels = channelsOf(state.image, known, facts);
  const drawn = pictures(state, () => channels, mine);
  const editor = kernelEditor({
    known: known.kernels,
    filters: state.filters,
    colours: COLOURS,
    onChange: (_, filter) => (filter === drawn.chosen ? drawn.draw() : drawn.drawAnew(filter)),
  });
  ends.push(editor.destroy);
  const use = (image) => {
    state.image = image.valid !== undefined && !image.png ? { run, valid: image.valid } : image;
    channels = channelsOf(state.image, known, facts);
    colour.hidden = image.kind !== "file";
    editor.setChannels(channels);
    drawn.draw();
  };
  const colour = colourCheck(state, use);
  const picker = imagePicker({ run, classes: facts?.classes, asDigit: true, named: known.images, chosen: state.image, onImage: use });
  editor.setChannels(channels);

  const words =
    "Choose an image, change the numbers of a kernel, and see what becomes of the image as you type. " +
    "Point at the output to see the window it came from and the products that add up.";
  const missing = query.get("image")?.startsWith("own:") && !imageFrom(query.get("image"));
  const controls = h("div", { class: "panel" }, picker, colour);
  const kernel = panel(
    "Kernel",
    editor.element,
    h(
      "div",
      { class: "steps" },
      stepFields(state, () => drawn.drawAnew()),
    ),
  );
  put(
    root,
    h("h1", {}, "Kernel"),
    h("p", { class: "intro" }, words),
    missing && notice("The image that this address names was drawn or uploaded in another browser window.", "", "Choose or draw one here."),
    h("div", { class: "split kerneling" }, h("div", { class: "stack" }, controls, kernel), drawn.element),
  );
  await drawn.draw();
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
