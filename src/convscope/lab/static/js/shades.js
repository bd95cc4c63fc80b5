// From numbers to shades: the scale of a picture, what its colours stand for, and marks for what is no number.
import { channels, grey, onTheme, signed } from "./colours.js";
import { h } from "./dom.js";
import { figure } from "./words.js";

/** A style of picture: signed about zero, orange below and blue above. */
export const SIGNED = "signed";

/** A style of picture: grey, from black to white between two ends. */
export const GREY = "grey";

/** The least and greatest finite number, and how many are NaN or infinite. */
export const extent = (values, from = 0, to = values.length) => {
  let low = Infinity;
  let high = -Infinity;
  let nan = 0;
  let infinite = 0;
  for (let at = from; at < to; at += 1) {
    const value = values[at];
    if (value !== value) nan += 1;
    else if (value === Infinity || value === -Infinity) infinite += 1;
    else {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return low > high ? { low: 0, high: 0, nan, infinite } : { low, high, nan, infinite };
};

/** A function from a value to [red, green, blue]; numbers that are not finite get a colour of their own. */
export const shader = (style, { low, high }) => {
  const broken = channels("--no-number");
  if (style === GREY) {
    const shade = grey();
    const span = high - low || 1;
    return (value) => (Number.isFinite(value) ? shade((value - low) / span) : broken);
  }
  const shade = signed();
  const most = Math.max(Math.abs(low), Math.abs(high));
  const half = most > 0 ? 0.5 / most : 0;
  return (value) => (Number.isFinite(value) ? shade(0.5 + value * half) : broken);
};

/** Black or white, whichever can be read on a colour (WCAG's relative luminance). */
export const readable = (rgb) => {
  const [red, green, blue] = rgb
    .map((part) => part / 255)
    .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 ? "#000" : "#fff";
};

const BAR = 132; // CSS pixels of a colour bar's width

/** A colour bar whose ends are the least and greatest number in the picture. */
export const colourBar = () => {
  const canvas = h("canvas", { width: BAR, height: 1, class: "colour-bar", "aria-hidden": "true" });
  const zero = h("span", { class: "at-zero", "aria-hidden": "true" }, "0");
  const low = h("span");
  const high = h("span");
  const strange = h("span", { class: "strange", hidden: true });
  const note = h("span");
  const element = h("div", { class: "colour-key" }, low, h("span", { class: "colour-place" }, canvas, zero), high, strange, note);
  let shown = null;
  const paint = () => {
    if (!shown) return;
    const { style, ends } = shown;
    const shade = shader(style, ends);
    const span = ends.high - ends.low;
    const context = canvas.getContext("2d");
    const image = context.createImageData(BAR, 1);
    for (let x = 0; x < BAR; x += 1) image.data.set([...shade(ends.low + (span * x) / (BAR - 1)), 255], 4 * x);
    context.putImageData(image, 0, 0);
  };
  const end = onTheme(paint);
  return {
    element,
    /** @param {{style, ends: {low, high}, counts: {nan, infinite}, text}} what */
    show(what) {
      shown = what;
      const { ends, counts = { nan: 0, infinite: 0 } } = what;
      const span = ends.high - ends.low;
      const share = -ends.low / (span || 1);
      low.textContent = figure(ends.low, 3);
      high.textContent = span ? figure(ends.high, 3) : "everywhere";
      zero.hidden = what.style !== SIGNED || !(ends.low < 0 && ends.high > 0) || share < 0.08 || share > 0.92;
      zero.style.left = `${100 * share}%`;
      const odd = [counts.nan && `${counts.nan} not a number`, counts.infinite && `${counts.infinite} infinite`].filter(Boolean).join(", ");
      strange.hidden = !odd;
      strange.textContent = odd;
      note.textContent = what.text ?? "";
      paint();
    },
    destroy: end,
  };
};
