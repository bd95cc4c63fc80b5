// The form that starts a run.
import { post } from "./api.js";
import { choices, failure, field, h, notice, put, select } from "./dom.js";
import { setting } from "./words.js";

const NAMES = {
  pytorch: "PyTorch's default",
  kaiming_normal: "Kaiming, normal",
  kaiming_uniform: "Kaiming, uniform",
  xavier_normal: "Xavier, normal",
};
const ALSO = { clip: "clip_norm" }; // settings that findings change under another name
const MEANT = { init: { kaiming: "kaiming_normal" } }; // and their values
const named = (name) => [name, NAMES[name] ?? setting(name)];

const wide = (element) => {
  element.classList.add("wide");
  return element;
};
const number = (name, value, attributes = {}) => h("input", { type: "number", name, value, ...attributes });

/**
 * The form.
 * @param {object} state /api/state
 * @param {function(string)} onStarted told the run's name
 * @returns {{element, update: function(state), fill: function(settings), told: function(change, string[])}}
 */
export const runForm = (state, onStarted) => {
  const folder = h("input", { type: "text", name: "folder", placeholder: "/home/me/photos", autocomplete: "off", spellcheck: "false" });
  const folderField = field("Folder or CSV file", folder, "Class folders, train/ and valid/, or a CSV of path,label.");
  const { defaults } = state;
  const fields = {
    model: select([["", "what suits the data"], ...state.models], "", { name: "model" }),
    epochs: number("epochs", defaults.epochs, { min: 1, max: 1000, step: 1, required: true }),
    batch_size: number("batch_size", "", { min: 1, max: 65536, step: 1, placeholder: "512" }),
    lr: h("input", { type: "text", name: "lr", value: "auto", autocomplete: "off", required: true }),
    schedule: select(state.schedules.map(named), defaults.schedule, { name: "schedule" }),
    init: select([["", "the network's own"], ...state.inits.map(named)], "", { name: "init" }),
    seed: number("seed", defaults.seed, { min: 0, max: 2 ** 31 - 1, step: 1, required: true }),
  };
  const more = {
    augment: select(
      [
        ["", "by the data"],
        ["true", "on"],
        ["false", "off"],
      ],
      "",
      { name: "augment" },
    ),
    weight_decay: number("weight_decay", "", { min: 0, max: 10, step: "any", placeholder: "0.01" }),
    clip_norm: number("clip_norm", "", { min: 0, step: "any", placeholder: "off" }),
    label_smoothing: number("label_smoothing", "", { min: 0, max: 0.99, step: "any", placeholder: "0" }),
  };
  const controls = { ...fields, ...more };
  const norm = h("input", { type: "checkbox", name: "norm", checked: true });
  const start = h("button", { type: "submit", class: "primary" }, "Start");
  const said = h("div");
  let onMnist = true;

  const chooseSource = (value) => {
    onMnist = value === "mnist";
    folderField.hidden = onMnist;
    folder.required = !onMnist;
  };
  const source = choices(
    "Data",
    [
      ["mnist", "MNIST"],
      ["folder", "My images"],
    ],
    "mnist",
    (value) => {
      chooseSource(value);
      if (!onMnist) folder.focus();
    },
  );
  folderField.hidden = true;

  const read = {
    // how a control's text becomes a setting
    lr: (text) => (text.trim() === "auto" ? "auto" : Number(text.trim().replace(",", "."))),
    augment: (text) => text === "true",
    model: String,
    schedule: String,
    init: String,
  };
  const values = () => ({
    data: onMnist ? "mnist" : folder.value.trim(),
    norm: norm.checked,
    ...Object.fromEntries(
      Object.entries(controls)
        .filter(([, { value }]) => value !== "")
        .map(([name, { value }]) => [name, (read[name] ?? Number)(value)]),
    ),
  });

  const checked = () => {
    // what the browser cannot check by itself
    const { lr } = values(),
      bad = lr !== "auto" && !(Number.isFinite(lr) && lr > 0);
    fields.lr.setCustomValidity(bad ? "Type auto, or a number above 0 such as 0.06." : "");
    for (const control of [...Object.values(controls), folder]) control.setAttribute("aria-invalid", String(!control.validity.valid));
    if (Object.values(more).some((control) => !control.validity.valid)) rest.open = true;
    return element.reportValidity();
  };

  const submit = async (event) => {
    event.preventDefault();
    if (!checked()) return;
    put(said);
    start.disabled = true;
    start.textContent = "Starting …";
    try {
      onStarted((await post("/api/train", values())).run);
    } catch (error) {
      put(said, failure(error));
    } finally {
      start.textContent = "Start";
      start.disabled = busy;
    }
  };

  const rest = h(
    "details",
    {},
    h("summary", {}, "More settings"),
    h(
      "div",
      { class: "fields" },
      field("Augmentation", more.augment),
      field("Weight decay", more.weight_decay),
      field("Clip gradients at", more.clip_norm),
      field("Label smoothing", more.label_smoothing),
    ),
  );
  let busy = Boolean(state.training);
  const note = h("p", { class: "hint" });
  const element = h(
    "form",
    {
      class: "stack",
      novalidate: true,
      on: {
        submit,
        input: ({ target }) => {
          if (target === fields.lr) target.setCustomValidity("");
          target.setAttribute("aria-invalid", "false");
        },
      },
    },
    source,
    folderField,
    h(
      "div",
      { class: "fields" },
      wide(field("Network", fields.model)),
      field("Epochs", fields.epochs),
      field("Batch size", fields.batch_size),
      field("Learning rate", fields.lr, "A number, or auto."),
      field("Schedule", fields.schedule),
      wide(field("First weights", fields.init)),
      field("Seed", fields.seed),
      h("label", { class: "check" }, norm, "Batch norm"),
    ),
    rest,
    h("div", { class: "actions" }, start, note),
    said,
  );

  let awaited = false; // the button would have the focus, were it not for a training that is just ending
  const focusStart = () => {
    awaited = start.disabled;
    if (!awaited) start.focus();
  };
  const update = (now) => {
    busy = Boolean(now.training);
    start.disabled = busy;
    note.textContent = busy ? `${now.training} is training; one run at a time.` : "";
    if (awaited && !busy && document.activeElement === document.body) focusStart();
  };
  update(state);

  /** Puts settings into the form, such as the change that a finding proposes; what the form does not have is returned. */
  const fill = (settings) => {
    const left = {};
    for (const [given, wanted] of Object.entries(settings)) {
      const name = ALSO[given] ?? given,
        value = MEANT[name]?.[wanted] ?? wanted;
      if (name === "norm") norm.checked = Boolean(value);
      else if (name === "data") {
        source.querySelector(`input[value=${value === "mnist" ? "mnist" : "folder"}]`).checked = true;
        chooseSource(value === "mnist" ? "mnist" : "folder");
        if (value !== "mnist") folder.value = value;
      } else if (!controls[name]) left[given] = value;
      else {
        controls[name].value = value ?? "";
        if (controls[name].value !== String(value ?? "")) left[given] = value; // a choice that the form does not offer
        if (more[name] && controls[name].value) rest.open = true;
      }
    }
    return left;
  };

  /** Says what was changed, and what could not be. */
  const told = (change, left) => {
    const list = (names) => names.map((name) => `${setting(name)} ${setting(String(change[name]))}`).join(", ");
    const set = Object.keys(change).filter((name) => !left.includes(name));
    put(
      said,
      set.length > 0 && notice(`Changed: ${list(set)}. Look it over and start.`, "running"),
      left.length > 0 && notice(`The form has no such setting: ${list(left)}.`),
    );
    focusStart();
  };
  return { element, update, fill, told };
};
