// The trace tab: one activation, what it sees in the image and in every layer between, and the products it is made of; down to the pixels.
//
// The address holds the run, the image, the layer and unit, and the way that led there, so that a reload or a link shows the same.
import { get, post, runPath } from "./api.js";
import { button, failure, h, notice, panel, put, waiting } from "./dom.js";
import { asked, imageFor, imageForAddress, imageInWords, imageKey, insideOf, latest, remember, runChoice } from "./looking.js";
import { imagePicker } from "./picker.js";
import { activation } from "./trace_activation.js";
import { networkMaps, unitForm } from "./trace_network.js";
import { percent } from "./words.js";

let ends = []; // what unmount has to end
let shown = null; // {run, key, context, show(query)}
let mounted = 0; // changes whenever the tab is entered or left: what was awaited meanwhile is dropped

// ---------------------------------------------------------------- the way, in the address

const wayOf = (text) =>
  (text ?? "")
    .split(";")
    .filter(Boolean)
    .map((step) => {
      const cut = step.lastIndexOf("@");
      return {
        layer: step.slice(0, cut),
        unit: step
          .slice(cut + 1)
          .split(",")
          .map(Number),
      };
    });
const wayText = (way) => way.map(({ layer, unit }) => `${layer}@${unit.join()}`).join(";");
const unitOf = (text) => (/^\d+(,\d+)*$/.test(text ?? "") ? text.split(",").map(Number) : null);

// ---------------------------------------------------------------- the tab

const answerInWords = (image, found) => {
  const name = imageInWords(image);
  const label = found.label === null ? "" : `, a ${found.label}`;
  const begin = `${name[0].toUpperCase()}${name.slice(1)}${label}; the network answers `;
  return h("p", { class: "hint" }, begin, h("b", {}, found.prediction), ` with ${percent(found.confidence)}.`);
};

/** A button that opens the picker; a drawing is traced when it is said to be finished. */
const anotherImage = ({ run, facts, image, trouble, onImage }) => {
  const place = h("div", { hidden: true });
  const ready = h("div", { class: "actions" });
  const chosen = latest(async (next) => {
    try {
      await insideOf(run, next); // so that the page changes at once when it does
      if (next.kind === "drawn")
        put(
          ready,
          button("Trace this drawing", () => onImage(next), { class: "primary" }),
        );
      else onImage(next);
    } catch (error) {
      put(trouble, failure(error));
    }
  });
  const opener = button(
    "Another image",
    () => {
      place.hidden = !place.hidden;
      opener.setAttribute("aria-expanded", String(!place.hidden));
      if (!place.childElementCount)
        put(place, imagePicker({ run, classes: facts.classes, shape: facts.image, chosen: image, onImage: chosen }), ready);
    },
    { "aria-expanded": "false" },
  );
  return [opener, place];
};

/** Notes how long a click took until its trace was painted, for whoever measures it. */
const measured = () => {
  if (!performance.getEntriesByName("trace-asked").length) return;
  requestAnimationFrame(() => {
    performance.measure("trace", "trace-asked");
    performance.clearMarks("trace-asked");
  });
};

const look = async (root, context) => {
  const { route } = context;
  const mine = (mounted += 1);
  const said = await runChoice(route.parts[0] ?? context.run, (run) => context.go(context.link("trace", run)));
  const head = [
    h("h1", {}, "Trace"),
    h(
      "p",
      { class: "intro" },
      "Click any activation: what it sees lights up in the image and in every layer between, and the products that made it are listed and add up. Click a product to go one level down, until you reach the pixels.",
    ),
  ];
  if (mine !== mounted) return;
  if (!said.run) return put(root, head, said.element);
  const run = said.run;
  context.chooseRun(run);
  const { image, missing } = imageFor(run, route.query);
  const key = imageForAddress(image);
  const [facts, found] = await Promise.all([get(runPath(run)), insideOf(run, image)]);
  if (mine !== mounted) return;
  remember(run, image);

  const hash = (layer, unit, way = []) =>
    `${context.link("trace", run)}?${new URLSearchParams({ image: key, layer, unit: unit.join(), ...(way.length ? { via: wayText(way) } : {}) })}`;
  const go = (layer, unit, way) => {
    performance.mark("trace-asked");
    context.go(hash(layer, unit, way));
  };
  let way = [];
  let now = null;
  const actions = {
    hash,
    image: () => image,
    down: (term) => go(term.source, term.unit, [...way, { layer: now.layer, unit: now.unit }]),
    point: (trace, term) => network.point(trace, term),
  };
  const chosen = (layer, unit) => go(layer, unit, []);
  const network = networkMaps(found, ends, chosen);
  const form = unitForm(found.layers, chosen);
  const unit = activation(run, facts.classes, found, ends, actions);
  const trouble = h("div");
  const show = latest(async (query) => {
    const layer = query.get("layer");
    const asks = layer && unitOf(query.get("unit"));
    try {
      const trace = await post(runPath(run, "trace"), {
        image: asked(image),
        ...(asks ? { layer, unit: asks } : { layer: found.output, unit: [facts.classes.indexOf(found.prediction)] }),
      });
      if (mine !== mounted) return;
      [way, now] = [wayOf(query.get("via")), trace];
      put(trouble);
      unit.show(trace, way);
      form.show(trace);
      network.show(trace);
      measured();
    } catch (error) {
      if (mine === mounted) put(trouble, failure(error));
    }
  });
  const other = (next) => {
    const same = now ? { layer: now.layer, unit: now.unit.join() } : {};
    context.go(`${context.link("trace", run)}?${new URLSearchParams({ image: imageForAddress(next), ...same })}`);
  };
  shown = { run, key: `${run} ${key}`, context, show };
  put(
    root,
    head,
    missing && notice("The image that this address names was drawn or uploaded in another browser window.", "", "Choose or draw one here."),
    trouble,
    h(
      "div",
      { class: "tracing" },
      h(
        "div",
        { class: "stack" },
        h(
          "div",
          { class: "panel looked-at" },
          said.element,
          answerInWords(image, found),
          anotherImage({ run, facts, image, trouble, onImage: other }),
        ),
        panel("The network", form.element, network.element),
      ),
      unit.element,
    ),
  );
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
