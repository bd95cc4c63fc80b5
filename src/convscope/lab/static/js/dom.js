// Small helpers that make elements. Every text goes in as text, never as HTML, so names of files and layers can hold anything.

/**
 * An element with attributes and children.
 * Attributes: `class`, `style` (an object; the page's policy forbids style attributes), `on` (an object of listeners), `data` (an object),
 * any other name as it is; true stands for an empty attribute; false, null and undefined leave it out.
 * Children: elements, texts, numbers, lists of them; null, undefined and false are left out.
 */
export const h = (name, attributes = {}, ...children) => fill(named(document.createElement(name), attributes), children);

const named = (element, attributes) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "style") for (const [property, part] of Object.entries(value)) element.style.setProperty(property, part);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  return element;
};

const fill = (element, children) => {
  for (const child of children.flat(Infinity)) if (child !== null && child !== undefined && child !== false) element.append(child);
  return element;
};

/** Replaces what is inside an element. */
export const put = (element, ...children) => {
  element.replaceChildren();
  return fill(element, children);
};

/** Replaces what is inside an element if the key is another than the last time; for what is drawn many times a second and seldom changes. */
export const putIfNew = (element, key, make) => {
  const text = JSON.stringify(key);
  if (keys.get(element) === text) return;
  keys.set(element, text);
  put(element, make());
};

const keys = new WeakMap();
let made = 0;

/** An id that no other element of the page has. */
export const newId = (stem = "part") => `${stem}-${(made += 1)}`;

/** A button. */
export const button = (label, onClick, attributes = {}) => h("button", { type: "button", on: { click: onClick }, ...attributes }, label);

/** A card: a heading and what belongs to it. */
export const panel = (title, ...children) =>
  h("section", { class: "panel" }, title && h("div", { class: "chart-head" }, h("h3", {}, title)), ...children);

/**
 * A labelled control of a form: `field("Epochs", h("input", {type: "number", name: "epochs"}), "Passes over the images.")`.
 * The hint is read with the control.
 */
export const field = (label, control, hint = null) => {
  control.id ||= newId("field");
  const hintId = hint && `${control.id}-hint`;
  if (hintId) control.setAttribute("aria-describedby", hintId);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, hint && h("p", { class: "hint", id: hintId }, hint));
};

/** A select with options of text, or of [value, text]. */
export const select = (options, chosen, attributes = {}) =>
  h(
    "select",
    attributes,
    options.map((option) => {
      const [value, text] = Array.isArray(option) ? option : [option, option];
      return h("option", { value, selected: value === chosen }, text);
    }),
  );

/** One of several choices as a row of buttons (radio buttons to a screen reader). onChoose gets the value. */
export const choices = (legend, options, chosen, onChoose) => {
  const name = newId("choice");
  return h(
    "fieldset",
    { class: "choices" },
    h("legend", {}, legend),
    options.map((option) => {
      const [value, text] = Array.isArray(option) ? option : [option, option];
      return h(
        "label",
        {},
        h("input", { type: "radio", name, value, checked: value === chosen, on: { change: () => onChoose(value) } }),
        h("span", {}, text),
      );
    }),
  );
};

/** A table that scrolls by itself when it is too wide: head is a list of texts, rows a list of lists; numeric lists the columns of numbers. */
export const table = (caption, head, rows, numeric = []) => {
  const cell = (name, place, content, more = {}) => h(name, { class: numeric.includes(place) && "n", ...more }, content);
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", {}, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          head.map((text, place) => cell("th", place, text, { scope: "col" })),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            row.map((content, place) => (place ? cell("td", place, content) : cell("th", 0, content, { scope: "row" }))),
          ),
        ),
      ),
    ),
  );
};

/** A message in the page; kind is "failed", "running" or "" (a warning). */
export const notice = (text, kind = "", hint = null) =>
  h(
    "div",
    { class: `notice ${kind}`.trim(), role: kind === "failed" ? "alert" : "status" },
    h("p", {}, text),
    hint && h("p", { class: "muted" }, hint),
  );

/** An error as a message: what is wrong, and what to do next. */
export const failure = (error) => notice(error.message, "failed", error.hint);

/** Shows that something is being fetched, once it takes long enough to be noticed. */
export const waiting = (text = "Loading …") => h("p", { class: "waiting muted", role: "status" }, text);

const spoken = document.getElementById("spoken");

const TOGETHER = 150; // milliseconds; what is said within them is said in one go, so that nothing cuts off what came before
let toSay = [];

/** Says something to a screen reader that the eye sees elsewhere. */
export const announce = (text) => {
  toSay.push(text);
  if (toSay.length > 1) return;
  spoken.textContent = "";
  setTimeout(() => {
    spoken.textContent = toSay.join(" ");
    toSay = [];
  }, TOGETHER);
};

/** Whether things may move. */
export const mayMove = () => !matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Brings an element into view and, for a moment, marks it. */
export const showWhere = (element) => {
  element.scrollIntoView({ behavior: mayMove() ? "smooth" : "instant", block: "center" });
  element.classList.remove("pointed");
  void element.offsetWidth; // begins the animation anew
  element.classList.add("pointed");
};
