// The inside tab: an image, the network's answer, and every layer's activations and kernels as maps.
import { get, runPath } from "./api.js";
import { announce, button, failure, h, notice, panel, put, waiting } from "./dom.js";
import { layersPlace } from "./inside_layers.js";
import { imageFor, imageForAddress, imageInWords, insideOf, latest, remember, runChoice } from "./looking.js";
import { imagePicker } from "./picker.js";
import { percent } from "./words.js";

const ANSWERS = 10; // bars at most
const SETTLED = 400; // milliseconds after which a drawing counts as finished for now

let ends = []; // what unmount has to end
let shown = null; // {context, run, traceLink, update}
let mounted = 0; // changes whenever the tab is entered or left: what was awaited meanwhile is dropped

// ---------------------------------------------------------------- the answer

const answerPanel = () => {
  const place = h("div", { class: "answer" });
  return {
    element: panel("What the network says", place),
    show(found, image) {
      const rows = found.probabilities
        .map((row, unit) => ({ ...row, unit }))
        .sort((a, b) => (found.probabilities.length > ANSWERS ? b.probability - a.probability : 0))
        .slice(0, ANSWERS);
      const right = found.label === null ? null : found.label === found.prediction;
      put(
        place,
        h(
          "p",
          { class: "says" },
          h("b", { class: "prediction" }, found.prediction),
          h("span", {}, percent(found.confidence)),
          right !== null && h("span", { class: `chip ${right ? "right" : "wrong"}` }, right ? "right" : `wrong: it is ${found.label}`),
        ),
        h(
          "ul",
          { class: "bars", "aria-label": "Probability of each class" },
          rows.map((row) =>
            h(
              "li",
              { class: row.label === found.prediction ? "best" : "" },
              h("span", { class: "of-bar" }, row.label),
              h("span", { class: "track", "aria-hidden": "true" }, h("span", { style: { width: `${100 * row.probability}%` } })),
              h("span", { class: "n" }, percent(row.probability, 1).replace("under", "<").replace("over", ">")),
            ),
          ),
        ),
        h("p", { class: "hint" }, `For ${imageInWords(image)}. `),
        h(
          "div",
          { class: "actions" },
          button("Trace this answer to its products", () =>
            shown.context.go(shown.traceLink(found.output, [found.probabilities.findIndex((row) => row.label === found.prediction)])),
          ),
        ),
      );
    },
  };
};

// ---------------------------------------------------------------- the tab

const look = async (root, context) => {
  const { route } = context;
  const mine = (mounted += 1);
  const said = await runChoice(route.parts[0] ?? context.run, (run) => context.go(context.link("inside", run)));
  if (mine !== mounted) return;
  const head = [
    h("h1", {}, "Inside"),
    h(
      "p",
      { class: "intro" },
      "Give the network an image and see every number it computes on the way to its answer. Point at a map to read a value; click it to see the products that made it.",
    ),
  ];
  if (!said.run) return put(root, head, said.element);
  const run = said.run;
  context.chooseRun(run);
  const facts = await get(runPath(run));
  if (mine !== mounted) return;
  let { image, missing } = imageFor(run, route.query);

  const traceLink = (layer, unit) =>
    `${context.link("trace", run)}?${new URLSearchParams({ image: imageForAddress(image), layer, unit: unit.join() })}`;
  const answer = answerPanel();
  const layers = layersPlace({ run, classes: facts.classes, ends, onChoose: (layer, unit) => context.go(traceLink(layer, unit)) });
  const trouble = h("div");
  const quick = h("p", { class: "quick", "aria-hidden": "true" }); // the same in short, beside the drawing
  shown = { context, run, traceLink };
  let settled = 0;
  const update = latest(async (next, { addressed = true } = {}) => {
    try {
      const found = await insideOf(run, next);
      if (mine !== mounted) return;
      image = next;
      remember(run, next);
      put(trouble);
      answer.show(found, next);
      quick.textContent = `${found.prediction}, ${percent(found.confidence)}`;
      layers.show(found);
      clearTimeout(settled);
      settled = setTimeout(() => {
        // while drawing, an answer comes with every movement; browsers refuse hundreds of addresses a minute
        if (mine !== mounted) return;
        announce(`${found.prediction}, ${percent(found.confidence)}`);
        const here = `${context.link("inside", run)}?${new URLSearchParams({ image: imageForAddress(next) })}`;
        if (addressed && location.hash !== here) history.replaceState(null, "", here);
      }, SETTLED);
    } catch (error) {
      if (mine === mounted) put(trouble, failure(error));
    }
  });
  shown.update = update;
  const picker = imagePicker({ run, classes: facts.classes, shape: facts.image, chosen: image, onImage: update });
  put(
    root,
    head,
    missing && notice("The image that this address names was drawn or uploaded in another browser window.", "", "Choose or draw one here."),
    h(
      "div",
      { class: "split inside" },
      h("div", { class: "stack side" }, h("div", { class: "panel" }, said.element, picker, quick), trouble, answer.element),
      layers.element,
    ),
  );
  await update(image, { addressed: route.query.has("image") });
};

export const mount = async (root, context) => {
  put(root, waiting());
  await look(root, context);
};

/** Another image of the same run by the address only, such as with the browser's Back. */
export const routed = (route) => {
  const { image } = shown ? imageFor(shown.run, route.query) : {};
  if (shown && route.parts[0] === shown.run && image) shown.update(image);
  else if (shown) {
    const { context } = shown;
    unmount();
    mount(document.getElementById("panel"), context);
  }
};

export const unmount = () => {
  mounted += 1;
  for (const end of ends) end();
  ends = [];
  shown = null;
};
