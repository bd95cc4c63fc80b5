// What Inside and Trace look at: a run and an image of it, which the address names, and the network's answer for them, fetched once.
import { decoded, get, post, runPath } from "./api.js";
import { field, h, notice, select } from "./dom.js";
import { percent } from "./words.js";

const FIRST_IMAGE = { valid: 0 }; // looked at when nothing else is asked for
const KEPT = 6; // answers with every activation in them; net B's is 60 kB
const STORED = "convscope-image-"; // own images, for as long as the browser's tab lives

const answers = new Map(); // "run image" -> promise
const kernels = new Map(); // "run layer" -> promise
const lastImage = new Map(); // run -> image

// ---------------------------------------------------------------- images and their names in the address

/** A short name of the bytes of an own image (FNV-1a), the same for the same image. */
const digest = (text) => {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return (hash >>> 0).toString(36);
};

const own = new Map(); // name -> image, of those that an address names; for browsers whose storage is forbidden or full

/** The name of an image: "valid:3", or "own:1x2y3z" for one that was drawn or uploaded here. */
export const imageKey = (image) =>
  image.valid !== undefined ? `valid:${image.valid}` : `own:${digest(image.png + (image.grey === false ? "colour" : ""))}`;

/** The same for an address that is to be shown: an own image is kept, so that a reload finds it. */
export const imageForAddress = (image) => {
  const key = imageKey(image);
  if (image.valid !== undefined || own.has(key)) return key;
  own.set(key, image);
  try {
    sessionStorage.setItem(STORED + key, JSON.stringify(image));
  } catch {
    // the image is kept for as long as the page lives
  }
  return key;
};

/** The image that an address names, or null when it was drawn or uploaded somewhere else. */
export const imageOf = (key) => {
  const valid = /^valid:(\d+)$/.exec(key ?? "");
  if (valid) return { valid: Number(valid[1]) };
  try {
    return own.get(key) ?? JSON.parse(sessionStorage.getItem(STORED + key));
  } catch {
    return null;
  }
};

/** An image as a request has it. */
export const asked = (image) => (image.valid !== undefined ? { valid: image.valid } : { png: image.png });

/** An image in words. */
export const imageInWords = (image) =>
  image.valid !== undefined ? `validation image ${image.valid}` : image.kind === "drawn" ? "your drawing" : (image.name ?? "your image");

/** The image that the address asks for, or that was looked at last; and a message when the address names one that is not here. */
export const imageFor = (run, query) => {
  const key = query.get("image");
  const named = key && imageOf(key);
  const image = named || lastImage.get(run) || FIRST_IMAGE;
  return { image, missing: Boolean(key && !named) };
};
export const remember = (run, image) => lastImage.set(run, image);

// ---------------------------------------------------------------- what the server says

const kept = (map, key, fetched, most) => {
  if (!map.has(key)) {
    map.set(
      key,
      fetched().catch((error) => {
        map.delete(key);
        throw error;
      }),
    );
    if (map.size > most) map.delete(map.keys().next().value);
  }
  return map.get(key);
};

/** Every activation of a run's network for an image; `layers` have `array` ({shape, values}). */
export const insideOf = (run, image) =>
  kept(
    answers,
    `${run} ${imageKey(image)}`,
    async () => {
      const found = await post(runPath(run, "inside"), { image: asked(image) });
      return { ...found, image: decoded(found.image), layers: found.layers.map((layer) => ({ ...layer, array: decoded(layer.maps) })) };
    },
    KEPT,
  );

/** The kernels of a layer: {shape, array, bias}. */
export const kernelsOf = (run, layer) =>
  kept(
    kernels,
    `${run} ${layer}`,
    async () => {
      const found = await get(runPath(run, "kernels", layer));
      return { ...found, array: decoded(found.kernels) };
    },
    64,
  );

const weightsSeen = new Map(); // run -> what tells that its weights are others than before

/** Forgets the answers of runs that have been trained further since. */
const forgetOld = (rows) => {
  for (const { run, state, steps, epochs_done: epochs } of rows) {
    const stamp = `${state} ${steps} ${epochs}`;
    if (weightsSeen.has(run) && weightsSeen.get(run) !== stamp)
      for (const map of [answers, kernels]) for (const key of [...map.keys()]) if (key.startsWith(`${run} `)) map.delete(key);
    weightsSeen.set(run, stamp);
  }
};

// ---------------------------------------------------------------- choosing a run

/**
 * A select of the runs that can be looked into.
 * @returns {{element, run}} the run asked for, or the newest; null with a message in `element` when there is none
 */
export const runChoice = async (wanted, onChoose) => {
  const { runs } = await get("/api/runs");
  forgetOld(runs);
  const fit = runs.filter((row) => row.can_inspect !== false);
  const found = fit.find((row) => row.run === wanted) ?? (wanted ? null : fit[0]);
  if (!found) {
    const known = runs.some((row) => row.run === wanted);
    const why = !wanted
      ? "There is no trained network here yet."
      : known
        ? `The run ${wanted} has no weights of a network of images yet.`
        : `There is no run ${wanted} here.`;
    const next = fit.length ? "Choose another run." : "Train one in the Train tab; it takes about a minute.";
    return { run: null, element: h("div", { class: "stack" }, notice(why, "", next), fit.length > 0 && runSelect(fit, null, onChoose)) };
  }
  return { run: found.run, row: found, element: runSelect(fit, found.run, onChoose) };
};

const runSelect = (rows, chosen, onChoose) => {
  const named = rows.map(({ run, accuracy }) => [run, typeof accuracy === "number" ? `${run} (${percent(accuracy, 1)})` : run]);
  const options = chosen ? named : [["", "choose a run"], ...named];
  return field("Run", select(options, chosen ?? "", { on: { change: (event) => event.target.value && onChoose(event.target.value) } }));
};

/** Runs one thing at a time: a newer call replaces the one that waits, and answers that come too late are dropped. */
export const latest = (work) => {
  let running = false;
  let waiting = null;
  const next = async () => {
    if (running || !waiting) return;
    const given = waiting;
    waiting = null;
    running = true;
    try {
      await work(...given);
    } finally {
      running = false;
      next();
    }
  };
  return (...given) => {
    waiting = given;
    return next();
  };
};
