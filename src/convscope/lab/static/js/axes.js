// What charts over steps share: margins, ticks, the marks of findings, and the step that all figures of a run point to.
import { colour } from "./colours.js";
import { write } from "./figure.js";
import { chosen } from "./words.js";

export const MARGIN = { left: 58, right: 14, top: 22, bottom: 30 }; // CSS pixels round every plot, so that plots under each other align

/** The step that the figures of a run point to together; null when none does. */
export const makeCursor = () => {
  const listeners = new Set();
  let step = null;
  return {
    get step() {
      return step;
    },
    set(next) {
      if (next === step) return;
      step = next;
      for (const listener of listeners) listener(step);
    },
    listen(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
};

/** The rectangle inside the margins. */
export const plotArea = (width, height, margin = MARGIN) => ({
  left: margin.left,
  top: margin.top,
  right: width - margin.right,
  bottom: height - margin.bottom,
  width: width - margin.left - margin.right,
  height: height - margin.top - margin.bottom,
});

/** Round numbers from low to high, about `wanted` of them. */
export const ticks = (low, high, wanted = 5) => {
  if (!(high > low)) return [low];
  const rough = (high - low) / wanted,
    power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].find((part) => part * power >= rough) * power;
  const first = Math.ceil(low / size - 1e-9),
    last = Math.floor(high / size + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * size).toPrecision(12)));
};

/** Powers of ten from low to high; between them 2 and 5 where there are few. */
export const logTicks = (low, high) => {
  const powers = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high * 1.0001; power += 1) powers.push(10 ** power);
  const all = powers.length > 3 ? powers : powers.flatMap((power) => [power, 2 * power, 5 * power]);
  return all.filter((tick) => tick >= low * 0.9999 && tick <= high * 1.0001);
};

/** A short number for an axis: 20k, 3M, 2e9, 5e−5. */
const tickText = (value) => {
  const size = Math.abs(value);
  if (size >= 1e9 || (size && size < 1e-3)) return value.toExponential().replace("e+", "e").replace("-", "−");
  if (size >= 1e6) return `${chosen(value / 1e6)}M`;
  return size >= 1e4 ? `${chosen(value / 1e3)}k` : chosen(value);
};

/** Horizontal rules with their values at the left. `y` is from a value to pixels. */
export const drawRules = (context, area, values, y) => {
  context.strokeStyle = colour("--rule");
  context.lineWidth = 1;
  for (const value of values) {
    const at = Math.round(y(value)) + 0.5;
    context.beginPath();
    context.moveTo(area.left, at);
    context.lineTo(area.right, at);
    context.stroke();
    write(context, tickText(value), area.left - 7, at, { align: "right" });
  }
};

const NARROW = 240; // CSS pixels; below it the axis has room for its numbers only
const APART = 80; // CSS pixels between two steps on the axis

/** Round steps from first to last, as many as fit. */
export const stepTicks = (area, first, last) => ticks(first, last, Math.max(2, Math.round(area.width / APART))).filter(Number.isInteger);

/** Steps below a plot. `x` is from a step to pixels. */
export const drawSteps = (context, area, values, x, title = "step") => {
  const named = area.width > NARROW,
    widest = named ? context.measureText(title).width + 8 : -8;
  for (const value of values) {
    const at = x(value),
      half = context.measureText(tickText(value)).width / 2;
    if (at - half >= area.left - 10 && at + half < area.right - widest)
      write(context, tickText(value), at, area.bottom + 14, { align: "center" });
  }
  if (named) write(context, title, area.right, area.bottom + 14, { align: "right" });
};

/** Findings where they begin: a dotted line and a numbered badge on top; those of one step share them. `x` is from a step to pixels. */
export const drawMarks = (context, area, marks, x) => {
  const groups = new Map();
  for (const mark of marks) groups.set(mark.step, [...(groups.get(mark.step) ?? []), mark]);
  let free = -Infinity; // where the next badge may begin
  for (const [step, group] of [...groups].sort(([one], [other]) => one - other)) {
    const severity = ["problem", "warning", "note"].find((name) => group.some((mark) => mark.severity === name)) ?? "note";
    const at = Math.round(x(step)) + 0.5;
    context.strokeStyle = colour(`--${severity}`);
    context.lineWidth = 1.5;
    context.setLineDash([2, 3]);
    context.beginPath();
    context.moveTo(at, area.top);
    context.lineTo(at, area.bottom);
    context.stroke();
    context.setLineDash([]);
    const text = group.map((mark) => mark.place).join(", "),
      wide = Math.max(18, context.measureText(text).width + 10);
    const left = Math.max(at - wide / 2, free);
    free = left + wide + 2;
    context.fillStyle = colour(`--${severity}`);
    context.beginPath();
    context.roundRect(left, area.top - 20, wide, 17, 8.5);
    context.fill();
    write(context, text, left + wide / 2, area.top - 11, { tint: "--on-badge", align: "center" });
  }
};

/** The upright line at the step that is pointed to. */
export const drawCursor = (context, area, at) => {
  if (at < area.left - 0.5 || at > area.right + 0.5) return;
  context.strokeStyle = colour("--ink");
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(Math.round(at) + 0.5, area.top);
  context.lineTo(Math.round(at) + 0.5, area.bottom);
  context.stroke();
};

/** Where a key of a slider leads, among `count` places. */
export const moved = (place, key, count) => {
  const last = count - 1,
    leap = Math.max(1, Math.round(count / 20));
  const to = {
    ArrowLeft: place - 1,
    ArrowRight: place + 1,
    ArrowDown: place - 1,
    ArrowUp: place + 1,
    PageDown: place - leap,
    PageUp: place + leap,
    Home: 0,
    End: last,
  }[key];
  return Math.max(0, Math.min(last, to ?? place));
};

/** The place in a sorted list whose value is nearest. */
export const nearest = (sorted, value) => {
  if (!sorted.length) return -1;
  let low = 0,
    high = sorted.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low > 0 && value - sorted[low - 1] < sorted[low] - value ? low - 1 : low;
};
