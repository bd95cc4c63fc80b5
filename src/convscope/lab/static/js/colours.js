// The colours of the style sheet for canvases, in light and dark, and who draws again when that changes.

const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);
const kept = new Map(); // name -> what it is now

/** What a CSS variable ("--series-1") is at the moment, as "rgb(...)". */
export const colour = (name) => {
  if (!kept.has(name)) {
    probe.style.color = `var(${name})`;
    kept.set(name, getComputedStyle(probe).color);
  }
  return kept.get(name);
};

/** The same as [red, green, blue], 0 to 255. */
export const channels = (name) => {
  const parts = colour(name)
    .match(/[\d.]+/g)
    .map(Number);
  return colour(name).startsWith("color(") ? parts.slice(-3).map((part) => 255 * part) : parts.slice(0, 3);
};

const STEPS = 256; // shades of a scale

/** A scale through several colours: a function from 0..1 to [red, green, blue]. */
export const scale = (...names) => {
  const stops = names.map(channels);
  const shades = Array.from({ length: STEPS }, (_, i) => {
    const place = (i / (STEPS - 1)) * (stops.length - 1),
      low = Math.min(Math.floor(place), stops.length - 2);
    return stops[low].map((part, c) => Math.round(part + (stops[low + 1][c] - part) * (place - low)));
  });
  return (share) => shades[Math.max(0, Math.min(STEPS - 1, Math.round(share * (STEPS - 1))))];
};

/** How many: from nothing to all. */
export const heat = () => scale("--heat-0", "--heat-1", "--heat-2", "--heat-3");

/** Signed values: 0 is the most negative, 0.5 is zero, 1 the most positive. */
export const signed = () => scale("--signed-low", "--signed-zero", "--signed-high");

/** Images as they are: 0 black, 1 white, whatever the page's ground. */
export const grey = () => (share) => new Array(3).fill(Math.round(255 * Math.max(0, Math.min(1, share))));

/**
 * Paints a matrix, one pixel of the canvas for each value; CSS makes it larger (`image-rendering: pixelated`).
 * @param shade from (row, column) to [red, green, blue]
 */
export const paint = (canvas, rows, columns, shade) => {
  canvas.width = Math.max(columns, 1);
  canvas.height = Math.max(rows, 1);
  const context = canvas.getContext("2d"),
    image = context.createImageData(canvas.width, canvas.height),
    pixels = image.data;
  let at = 0;
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const [red, green, blue] = shade(row, column);
      pixels[at] = red;
      pixels[at + 1] = green;
      pixels[at + 2] = blue;
      pixels[at + 3] = 255;
      at += 4;
    }
  }
  context.putImageData(image, 0, 0);
};

// ---------------------------------------------------------------- light and dark

const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();
const root = document.documentElement;

/** Whether the page is dark now. */
export const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

/** Calls back after every change between light and dark; returns what ends that. */
export const onTheme = (listener) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

const changed = () => {
  kept.clear();
  for (const listener of listeners) listener();
};
system.addEventListener("change", changed);

/** Turns light into dark and back, and remembers it. */
export const toggleTheme = () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  try {
    localStorage.setItem("convscope-theme", root.dataset.theme);
  } catch {
    // storage may be forbidden: the choice holds for this page
  }
  changed();
};
