// The form that starts a run.
import { post } from "./api.js";
import { choices, failure, field, h, notice, put, select } from "./dom.js";
import { words } from "./words.js";

const SCHEDULES = [["", "1cycle (usual)"], ["cosine", "cosine"], ["constant", "constant"]];
const INITS = { "": "the network's own", pytorch: "PyTorch's default", kaiming_normal: "Kaiming, normal", kaiming_uniform: "Kaiming, uniform", xavier_normal: "Xavier, normal", orthogonal: "orthogonal" };

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
  const fields = {
    model: select([["", "what suits the data"], ...state.models.map((model) => model.name ?? model)], "", { name: "model" }),
    epochs: number("epochs", 3, { min: 1, max: 1000, step: 1, required: true }),
    batch_size: number("batch_size", "", { min: 1, max: 65536, step: 1, placeholder: "512" }),
    lr: h("input", { type: "text", name: "lr", value: "auto", autocomplete: "off", inputmode: "decimal", required: true }),
    init: select((state.inits?.length ? ["", ...state.inits.filter(Boolean)] : Object.keys(INITS)).map((name) => [name, INITS[name] ?? name]), "", { name: "init" }),
    schedule: select(state.schedules?.length ? state.schedules.map((name) => [name === "one_cycle" ? "" : name, name === "one_cycle" ? "1cycle (usual)" : name]) : SCHEDULES, "", { name: "schedule" }),
    seed: number("seed", 0, { min: 0, step: 1, required: true }),
  };
  const norm = h("input", { type: "checkbox", name: "norm", checked: true });
  const start = h("button", { type: "submit", class: "primary" }, "Start");
  const said = h("div");
  let onMnist = true;

  const source = choices("Data", [["mnist", "MNIST"], ["folder", "My images"]], "mnist", (value) => {
    onMnist = value === "mnist";
    folderField.hidden = onMnist;
    folder.required = !onMnist;
    if (!onMnist) folder.focus();
  });
  folderField.hidden = true;

  const values = () => ({
    data: onMnist ? "mnist" : folder.value.trim(),
    model: fields.model.value || null,
    epochs: Number(fields.epochs.value),
    batch_size: fields.batch_size.value ? Number(fields.batch_size.value) : null,
    lr: fields.lr.value.trim() === "auto" ? "auto" : Number(fields.lr.value.trim().replace(",", ".")),
    norm: norm.checked,
    init: fields.init.value || null,
    schedule: fields.schedule.value || null,
    seed: Number(fields.seed.value),
  });

  const checked = () => { // what the browser cannot check by itself
    const { lr } = values(), bad = lr !== "auto" && !(Number.isFinite(lr) && lr > 0);
    fields.lr.setCustomValidity(bad ? "Type auto, or a number above 0 such as 0.06." : "");
    for (const control of [...Object.values(fields), folder]) control.setAttribute("aria-invalid", String(!control.validity.valid));
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

  let busy = Boolean(state.training);
  const note = h("p", { class: "hint" });
  const element = h("form", { class: "stack", novalidate: true, on: { submit, input: ({ target }) => { if (target === fields.lr) target.setCustomValidity(""); target.setAttribute("aria-invalid", "false"); } } },
    source, folderField,
    h("div", { class: "fields" },
      field("Network", fields.model),
      field("Epochs", fields.epochs),
      field("Batch size", fields.batch_size),
      field("Learning rate", fields.lr, "A number, or auto."),
      field("Schedule", fields.schedule),
      field("First weights", fields.init),
      field("Seed", fields.seed),
      h("label", { class: "check" }, norm, "Batch norm")),
    h("div", { class: "actions" }, start, note),
    said);

  const update = (now) => {
    busy = Boolean(now.training);
    start.disabled = busy;
    note.textContent = busy ? `${now.training} is training; one run at a time.` : "";
  };
  update(state);

  /** Puts settings into the form, such as the change that a finding proposes; what the form does not have is returned. */
  const fill = (settings) => {
    const left = {};
    for (const [name, value] of Object.entries(settings)) {
      if (name === "norm") norm.checked = Boolean(value);
      else if (name === "data") {
        onMnist = value === "mnist";
        source.querySelector(`input[value=${onMnist ? "mnist" : "folder"}]`).checked = true;
        folderField.hidden = onMnist;
        if (!onMnist) folder.value = value;
      } else if (!fields[name]) left[name] = value;
      else {
        fields[name].value = value ?? "";
        if (fields[name].value !== String(value ?? "")) left[name] = value; // a choice that the form does not offer
      }
    }
    return left;
  };
  /** Says what was changed, and what could not be. */
  const told = (change, left) => {
    const list = (names) => names.map((name) => `${words(name)} ${change[name]}`).join(", ");
    const set = Object.keys(change).filter((name) => !left.includes(name));
    put(said, set.length > 0 && notice(`Changed: ${list(set)}. Look it over and start.`, "running"), left.length > 0 && notice(`The form has no such setting: ${list(left)}.`));
    start.focus();
  };
  return { element, update, fill, told };
};
