// Numbers as people read them; the same rules as on the run's page.

const NO_NUMBER = "–";
const minus = (text) => text.replace("-", "−");

/** A measured number with so many significant digits. */
export const figure = (value, digits = 4) => {
  if (value === null || value === undefined) return NO_NUMBER;
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return count(value);
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e7)
    return minus(value.toExponential(digits - 1))
      .replace("e+", "e")
      .replace("e-", "e−");
  const places = Math.max(digits - 1 - Math.floor(Math.log10(size)), 0);
  return minus(value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places }));
};

/** A number that someone chose, such as a learning rate, without digits that say nothing. */
export const chosen = (value) => (value === null || value === undefined ? NO_NUMBER : minus(String(Number(Number(value).toPrecision(4)))));

/** A whole number with its thousands apart. */
export const count = (value) => (value === null || value === undefined ? NO_NUMBER : minus(value.toLocaleString("en")));

/** A share as a percentage; 100 % and 0 % only when it is exactly that. */
export const percent = (share, digits = 2) => {
  if (share === null || share === undefined || Number.isNaN(share)) return NO_NUMBER;
  if (share === 0 || share === 1) return `${100 * share} %`;
  const rounded = (100 * share).toFixed(digits),
    least = 10 ** -digits;
  if (Number(rounded) === 100) return `over ${(100 - least).toFixed(digits)} %`;
  return Number(rounded) === 0 ? `under ${least.toFixed(digits)} %` : `${rounded} %`;
};

/** A count with its noun. */
export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

/** A span of time in its two largest units. */
export const duration = (seconds) => {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NO_NUMBER;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
};

/** How long ago or how far ahead a moment is. */
export const when = (moment, now = Date.now()) => {
  const minutes = (new Date(moment).getTime() - now) / 60000,
    size = Math.abs(minutes);
  if (!Number.isFinite(minutes)) return NO_NUMBER;
  if (size < 1) return "now";
  const said =
    size < 90
      ? plural(Math.round(size), "minute")
      : size < 36 * 60
        ? plural(Math.round(size / 60), "hour")
        : plural(Math.round(size / 1440), "day");
  return minutes > 0 ? `in ${said}` : `${said} ago`;
};

/** A step or a span of steps in words. */
export const steps = (first, last = first) => (first === last ? `step ${count(last)}` : `steps ${count(first)}–${count(last)}`);

/** A rule's or setting's name as words. */
export const words = (name) => name.replaceAll("_", " ");

const SETTINGS = {
  lr: "learning rate",
  norm: "batch norm",
  init: "first weights",
  batch_size: "images a step",
  clip_norm: "gradients clipped at",
  one_cycle: "1cycle",
  model: "network",
};

/** A setting's name, or a choice's, as people call it. */
export const setting = (name) => SETTINGS[name] ?? words(name);
