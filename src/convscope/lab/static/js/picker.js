// Choosing an image: one of the validation images, a drawing, a file, or one of some named ones. It hands on image references
// ({valid}, {png, kind, name}, {name}); what is done with them is the tab's matter.
import { get, runPath } from "./api.js";
import { button, choices, failure, field, h, put, waiting } from "./dom.js";
import { asPng, BOARD, BOX, centred, drawingBoard, greyCanvas, SIDE } from "./drawing.js";
import { latest } from "./looking.js";
import { count as counted, percent } from "./words.js";

const PAGE = 24; // images on a page: 6 columns
const LARGEST_FILE = 8 * 2 ** 20; // bytes; a photo of a telephone
const LARGEST_SENT = 1024; // pixels of a side; larger files are made smaller before they are sent

/** Whether a network's images are like MNIST's, so that a drawing is centred like a digit. */
const likeMnist = (shape) => shape?.join() === `1,${SIDE},${SIDE}`;

// ---------------------------------------------------------------- validation images

const thumbnail = (row, pressed, onChoose) => {
  const wrong = row.label !== null && row.predicted !== row.label;
  const said = `Image ${row.index}, ${row.label ?? "no label"}, answered ${row.predicted} with ${percent(row.confidence, 1)}${wrong ? ", wrong" : ""}`;
  return h(
    "button",
    {
      type: "button",
      class: "thumb",
      title: said,
      "aria-label": said,
      "aria-pressed": String(pressed),
      data: { index: row.index },
      on: { click: () => onChoose(row.index) },
    },
    h("img", { src: row.src, alt: "", width: SIDE, height: SIDE }),
    wrong && h("span", { class: "wrong-answer", "aria-hidden": "true" }, row.predicted.length > 2 ? "✗" : row.predicted),
  );
};

const validation = (run, classes, chosen, onChoose) => {
  let first = Math.floor((chosen ?? 0) / PAGE) * PAGE;
  let label = "";
  let wrong = false;
  let total = 0;
  let index = chosen;
  const place = h("div", { class: "thumbs" });
  const range = h("span", { class: "hint", role: "status" });
  const load = latest(async () => {
    const query = new URLSearchParams({ first, count: PAGE, ...(label === "" ? {} : { label }), ...(wrong ? { wrong: 1 } : {}) });
    try {
      const found = await get(`${runPath(run, "images")}?${query}`);
      total = found.count;
      put(
        place,
        found.images.map((row) => thumbnail(row, row.index === index, choose)),
      );
      range.textContent = total ? `${counted(first + 1)}–${counted(Math.min(first + PAGE, total))} of ${counted(total)}` : "none";
      back.disabled = first === 0;
      on.disabled = first + PAGE >= total;
    } catch (error) {
      put(place, failure(error));
    }
  });
  const choose = (to) => {
    index = to;
    for (const thumb of place.children) thumb.setAttribute("aria-pressed", String(Number(thumb.dataset.index) === to));
    onChoose({ valid: to });
  };
  const go = (to) => {
    first = Math.max(0, Math.min(to, Math.floor((total - 1) / PAGE) * PAGE));
    load();
  };
  const back = button("‹", () => go(first - PAGE), { "aria-label": "Images before" });
  const on = button("›", () => go(first + PAGE), { "aria-label": "Further images" });
  const any = button("Any", () => go(PAGE * Math.floor((Math.random() * total) / PAGE)), {
    class: "plain",
    "aria-label": "Any page of images",
  });
  const filter = h(
    "select",
    {
      "aria-label": "Which class",
      on: {
        change: (event) => {
          label = event.target.value;
          first = 0;
          load();
        },
      },
    },
    h("option", { value: "" }, "every class"),
    classes.map((name) => h("option", { value: name }, name)),
  );
  const mistakes = h(
    "label",
    { class: "check" },
    h("input", {
      type: "checkbox",
      on: {
        change: (event) => {
          wrong = event.target.checked;
          first = 0;
          load();
        },
      },
    }),
    "mistakes",
  );
  put(place, waiting());
  load();
  return h(
    "div",
    { class: "stack tight" },
    h("div", { class: "actions" }, filter, mistakes),
    place,
    h("div", { class: "actions" }, back, range, on, any),
  );
};

// ---------------------------------------------------------------- drawings and files

const drawn = (asDigit, onChoose) => {
  const preview = h("div", { class: "as-seen" });
  const board = drawingBoard((grey) => {
    const seen = grey && (asDigit ? centred(grey, BOARD, BOARD) : grey);
    if (!seen) return put(preview);
    const canvas = asDigit ? greyCanvas(seen, SIDE, SIDE) : greyCanvas(seen, BOARD, BOARD);
    put(preview, Object.assign(canvas, { className: "pixels" }), h("span", { class: "hint" }, "what the network gets"));
    onChoose({ png: asPng(canvas), kind: "drawn" });
  });
  board.element.append(preview);
  const words = asDigit
    ? `Your drawing is fitted and centred as MNIST's digits were: the box around it is scaled to at most ${BOX}×${BOX} pixels, and its centre of mass goes to the middle of ${SIDE}×${SIDE}.`
    : "Your drawing is sent as it is, white on black, and scaled to the size that is needed.";
  return h("div", { class: "stack tight" }, board.element, h("p", { class: "hint" }, words));
};

const loaded = (file) =>
  new Promise((resolve, reject) => {
    const image = new Image();
    const url = URL.createObjectURL(file);
    image.onload = () => {
      URL.revokeObjectURL(url);
      resolve(image);
    };
    image.onerror = () => {
      URL.revokeObjectURL(url);
      reject(new Error(`${file.name} cannot be read as an image.`));
    };
    image.src = url;
  });

/** A file's image as PNG in base64, at most LARGEST_SENT pixels a side, its colours turned round when asked to. */
const pngOf = async (file, inverted) => {
  if (file.size > LARGEST_FILE)
    throw Object.assign(new Error(`${file.name} has ${(file.size / 2 ** 20).toFixed(1)} MiB; at most 8 are taken.`), {
      hint: "Save it smaller.",
    });
  const image = await loaded(file);
  const factor = Math.min(1, LARGEST_SENT / Math.max(image.naturalWidth, image.naturalHeight, 1));
  const canvas = h("canvas", {
    width: Math.max(1, Math.round(image.naturalWidth * factor)),
    height: Math.max(1, Math.round(image.naturalHeight * factor)),
  });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // what shows through a transparent image
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (inverted) context.filter = "invert(1)";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return asPng(canvas);
};

const uploaded = (shape, onChoose) => {
  let file = null;
  const said = h("div");
  const invert = h("input", { type: "checkbox", on: { change: () => file && take(file) } });
  const take = async (given) => {
    file = given;
    try {
      const png = await pngOf(file, invert.checked);
      const steps = shape
        ? `is fitted to ${shape.slice(1).join("×")} pixels by the same steps as the training images.`
        : "is used as it is.";
      put(said, h("p", { class: "hint" }, `${file.name} ${steps}`));
      onChoose({ png, kind: "file", name: file.name });
    } catch (error) {
      put(said, failure(error));
    }
  };
  const input = h("input", { type: "file", accept: "image/*", on: { change: () => input.files[0] && take(input.files[0]) } });
  const zone = h(
    "div",
    {
      class: "drop",
      on: {
        dragover: (event) => {
          event.preventDefault();
          zone.classList.add("over");
        },
        dragleave: () => zone.classList.remove("over"),
        drop: (event) => {
          event.preventDefault();
          zone.classList.remove("over");
          if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
        },
      },
    },
    field("An image file, or drop one here", input, "It stays on this machine."),
  );
  return h(
    "div",
    { class: "stack tight" },
    zone,
    shape?.[0] !== 3 && h("label", { class: "check" }, invert, "dark on light: turn it round"),
    said,
  );
};

// ---------------------------------------------------------------- together

/**
 * Tabs to choose an image in.
 * @param {object} options
 *   run, classes: of the validation images; null leaves them out
 *   shape: (C, H, W) of the network's images, or null; asDigit: whether a drawing is centred as MNIST's digits are
 *   named: [{name, title}] of the server's own images, or none
 *   chosen: the image reference at the start
 *   onImage(image): a reference was chosen; while drawing, after every movement
 * @returns {Element}
 */
export const imagePicker = ({ run = null, classes = [], shape = null, asDigit = likeMnist(shape), named = [], chosen = null, onImage }) => {
  const place = h("div");
  const panes = {
    named: () =>
      h(
        "div",
        { class: "actions" },
        named.map(({ name, title }) =>
          button(
            title ?? name,
            (event) => {
              for (const other of event.currentTarget.parentElement.children)
                other.setAttribute("aria-pressed", String(other === event.currentTarget));
              onImage({ name });
            },
            { "aria-pressed": String(name === chosen?.name) },
          ),
        ),
      ),
    valid: () =>
      validation(run, classes, chosen?.valid, (image) => {
        chosen = image;
        onImage(image);
      }),
    draw: () => drawn(asDigit, onImage),
    file: () => uploaded(shape, onImage),
  };
  const offered = [named.length && ["named", "Ready"], run && ["valid", "Validation"], ["draw", "Draw"], ["file", "Upload"]].filter(
    Boolean,
  );
  const first =
    chosen?.kind === "drawn" ? "draw" : chosen?.kind === "file" ? "file" : chosen?.valid !== undefined ? "valid" : offered[0][0];
  const show = (name) => put(place, panes[name]());
  show(first);
  return h("div", { class: "stack tight" }, choices("Image", offered, first, show), place);
};
