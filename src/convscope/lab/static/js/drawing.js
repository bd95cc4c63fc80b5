// A place to draw a digit with mouse, finger, pen or keys, and the centring that MNIST's digits went through.
//
// MNIST's makers fitted each digit into 20x20 pixels, keeping its proportions, and moved its centre of mass to the middle of 28x28
// (LeCun, Cortes and Burges, "The MNIST database of handwritten digits"). A network that was trained on such digits wants nothing else.
import { announce, button, h } from "./dom.js";

export const BOX = 20; // pixels that the ink is fitted into, from MNIST's description
export const SIDE = 28; // pixels of the image, from the same
export const BOARD = 280; // pixels of the board's own canvas
const PEN = 22; // its pixels; about 2 of MNIST's when a digit fills the board
const KEY_STEP = 10; // its pixels for an arrow key
const SMALL_STEP = 3; // the same with Shift
const FAINTEST = 8; // of 255: what counts as ink

/** The bounding box of the ink in grey pixels: {top, left, height, width}, or null when there is none. */
const inkBox = (grey, rows, columns) => {
  let [top, left, bottom, right] = [rows, columns, -1, -1];
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      if (grey[row * columns + column] < FAINTEST) continue;
      [top, left, bottom, right] = [Math.min(top, row), Math.min(left, column), Math.max(bottom, row), Math.max(right, column)];
    }
  }
  return bottom < 0 ? null : { top, left, height: bottom - top + 1, width: right - left + 1 };
};

/** How much of each of `from` pixels falls into each of `to` equal parts of them. */
const shares = (from, to) =>
  Array.from({ length: to }, (_, part) => {
    const [low, high] = [(part * from) / to, ((part + 1) * from) / to];
    const found = [];
    for (let pixel = Math.floor(low); pixel < Math.ceil(high) && pixel < from; pixel += 1)
      found.push([pixel, Math.min(high, pixel + 1) - Math.max(low, pixel)]);
    return found;
  });

/**
 * A drawing as MNIST would hold it.
 * @param {ArrayLike<number>} grey ink of each pixel, 0 to 255, row by row
 * @returns {Uint8ClampedArray|null} 28x28 pixels; null when nothing is drawn
 */
export const centred = (grey, rows, columns) => {
  const ink = inkBox(grey, rows, columns);
  if (!ink) return null;
  const factor = BOX / Math.max(ink.height, ink.width);
  const [high, wide] = [Math.max(1, Math.round(ink.height * factor)), Math.max(1, Math.round(ink.width * factor))];
  const down = shares(ink.height, high);
  const along = shares(ink.width, wide);
  const area = (ink.height / high) * (ink.width / wide);
  const small = new Float64Array(high * wide);
  let mass = 0;
  let massDown = 0;
  let massAlong = 0;
  for (let row = 0; row < high; row += 1) {
    for (let column = 0; column < wide; column += 1) {
      let sum = 0;
      for (const [y, a] of down[row]) for (const [x, b] of along[column]) sum += a * b * grey[(ink.top + y) * columns + ink.left + x];
      const value = sum / area;
      small[row * wide + column] = value;
      mass += value;
      massDown += value * (row + 0.5);
      massAlong += value * (column + 0.5);
    }
  }
  const put = (size, centre) => Math.min(Math.max(Math.round(SIDE / 2 - centre), 0), SIDE - size);
  const top = put(high, massDown / mass);
  const left = put(wide, massAlong / mass);
  const image = new Uint8ClampedArray(SIDE * SIDE);
  for (let row = 0; row < high; row += 1)
    for (let column = 0; column < wide; column += 1) image[(top + row) * SIDE + left + column] = Math.round(small[row * wide + column]);
  return image;
};

/** Grey pixels as a canvas of their own size. */
export const greyCanvas = (grey, rows, columns) => {
  const canvas = h("canvas", { width: columns, height: rows });
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  for (let at = 0; at < rows * columns; at += 1) image.data.set([grey[at], grey[at], grey[at], 255], 4 * at);
  context.putImageData(image, 0, 0);
  return canvas;
};

/** The bytes of a canvas as PNG, in base64. */
export const asPng = (canvas) => canvas.toDataURL("image/png").split(",")[1];

/**
 * The board.
 * @param {function(Uint8ClampedArray|null)} onDrawn gets the ink of the whole board (280x280) after every change
 * @returns {{element, clear}}
 */
export const drawingBoard = (onDrawn) => {
  const canvas = h("canvas", {
    class: "board",
    width: BOARD,
    height: BOARD,
    tabindex: "0",
    role: "application",
    "aria-label":
      "Drawing board. Draw with the pointer, or: arrow keys move the pen, Space lowers and lifts it, Backspace takes the last stroke back, Delete clears.",
  });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const cursor = h("span", { class: "pen", "aria-hidden": "true", hidden: true });
  let strokes = [];
  let current = null;
  let pen = { x: BOARD / 2, y: BOARD / 4 };
  let down = false;
  let asked = 0;

  const line = (stroke) => {
    context.strokeStyle = context.fillStyle = "#fff";
    context.lineWidth = PEN;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(stroke[0].x, stroke[0].y);
    for (const { x, y } of stroke) context.lineTo(x, y);
    if (stroke.length === 1) context.lineTo(stroke[0].x + 0.01, stroke[0].y);
    context.stroke();
  };
  const told = () => {
    asked ||= requestAnimationFrame(() => {
      asked = 0;
      const { data } = context.getImageData(0, 0, BOARD, BOARD);
      const grey = new Uint8ClampedArray(BOARD * BOARD);
      for (let at = 0; at < grey.length; at += 1) grey[at] = data[4 * at];
      onDrawn(strokes.length ? grey : null);
    });
  };
  const drawAll = () => {
    context.fillStyle = "#000";
    context.fillRect(0, 0, BOARD, BOARD);
    strokes.forEach(line);
    told();
  };
  const begin = (point) => {
    current = [point];
    strokes.push(current);
    drawAll();
  };
  const extend = (point) => {
    current.push(point);
    line(current.slice(-2));
    told();
  };
  const undo = () => {
    strokes.pop();
    current = null;
    down = false;
    drawAll();
    announce(strokes.length ? "Last stroke taken back" : "The board is empty");
  };
  const clear = () => {
    strokes = [];
    current = null;
    down = false;
    drawAll();
    announce("The board is empty");
  };

  const pointOf = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: ((event.clientX - box.left) * BOARD) / box.width, y: ((event.clientY - box.top) * BOARD) / box.height };
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    cursor.hidden = true;
    begin(pointOf(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!current || !canvas.hasPointerCapture(event.pointerId)) return;
    for (const step of event.getCoalescedEvents?.() ?? [event]) extend(pointOf(step));
  });
  for (const name of ["pointerup", "pointercancel"])
    canvas.addEventListener(name, () => {
      if (!down) current = null;
    });

  const showPen = () => {
    cursor.hidden = false;
    cursor.classList.toggle("down", down);
    cursor.style.left = `${(100 * pen.x) / BOARD}%`;
    cursor.style.top = `${(100 * pen.y) / BOARD}%`;
  };
  canvas.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? SMALL_STEP : KEY_STEP;
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (event.key === "Backspace") undo();
    else if (event.key === "Delete") clear();
    else if (event.key === " ") {
      down = !down;
      if (down) begin({ ...pen });
      else current = null;
      announce(down ? "Pen down" : "Pen up");
    } else if (dx || dy) {
      pen = { x: Math.min(Math.max(pen.x + dx * step, 0), BOARD), y: Math.min(Math.max(pen.y + dy * step, 0), BOARD) };
      if (down) extend({ ...pen });
    } else return;
    event.preventDefault();
    showPen();
  });
  canvas.addEventListener("focus", () => {
    if (canvas.matches(":focus-visible")) showPen();
  });
  canvas.addEventListener("blur", () => {
    cursor.hidden = true;
    down = false;
    current = null;
  });
  drawAll();

  const element = h(
    "div",
    { class: "drawing" },
    h("div", { class: "board-place" }, canvas, cursor),
    h("div", { class: "actions" }, button("Undo", undo), button("Clear", clear)),
  );
  return { element, clear };
};
