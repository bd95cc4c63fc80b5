// The ways to answer a question, by its kind: each is {element, focus(), text(), lock(on)}, where it makes sense also restore(text) and key(pressed);
// the text is what the server grades.
import { h, newId } from "./dom.js";

const HINTS = {
  number: "A number, also as arithmetic, such as 4 * 4 * 1152.",
  shape: "Whole numbers with commas between, such as 2, 3, 4.",
  code: "One expression of Python.",
  text: "In your own words; nobody but you reads it. You say yourself how well you knew it.",
};

const typed = (kind, submit) => {
  const id = newId("answer");
  const long = kind === "text";
  const control = h(long ? "textarea" : "input", {
    id,
    type: long ? null : "text",
    rows: long ? 4 : null,
    class: kind === "code" ? "code" : null,
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: String(long),
    "aria-describedby": `${id}-hint`,
    inputmode: kind === "number" ? "text" : null,
  });
  if (long)
    control.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
    });
  return {
    element: h(
      "div",
      { class: "field" },
      h("label", { for: id }, "Your answer"),
      control,
      h("p", { class: "hint", id: `${id}-hint` }, HINTS[kind], long && " Ctrl and Enter shows the answer."),
    ),
    focus: () => control.focus(),
    text: () => control.value,
    restore: (text) => {
      control.value = text;
    },
    lock: (on) => {
      control.readOnly = on;
    },
  };
};

const ROWS = 3,
  COLUMNS = 3; // the only matrix that is asked for is a kernel

const matrix = () => {
  const cells = Array.from({ length: ROWS * COLUMNS }, (_, i) => {
    const [row, column] = [Math.floor(i / COLUMNS), i % COLUMNS];
    return h("input", {
      type: "text",
      inputmode: "text",
      value: "0",
      autocomplete: "off",
      "aria-label": `Row ${row + 1}, column ${column + 1}`,
    });
  });
  const element = h(
    "fieldset",
    { class: "matrix-answer" },
    h("legend", {}, "Your kernel"),
    h("div", { class: "matrix-cells" }, cells),
    h("p", { class: "hint" }, "The arrow keys move between the cells."),
  );
  const place = (cell, value) => {
    cell.value = value;
    tint(cell);
  };
  const tint = (cell) => {
    const value = Number(cell.value.replace("−", "-"));
    cell.dataset.sign = value > 0 ? "plus" : value < 0 ? "minus" : "";
  };
  element.addEventListener("input", ({ target }) => tint(target));
  element.addEventListener("focusin", ({ target }) => target.select?.());
  element.addEventListener("keydown", (event) => {
    const at = cells.indexOf(event.target),
      edge = event.target.selectionStart === 0 || event.target.selectionEnd === event.target.value.length;
    const to = { ArrowUp: at - COLUMNS, ArrowDown: at + COLUMNS, ArrowLeft: edge ? at - 1 : null, ArrowRight: edge ? at + 1 : null }[
      event.key
    ];
    if (at < 0 || to === undefined || to === null || !cells[to]) return;
    event.preventDefault();
    cells[to].focus();
  });
  element.addEventListener("paste", (event) => {
    // a whole matrix at once, as in "1 2 3 / 4 5 6 / 7 8 9"
    const numbers = event.clipboardData.getData("text").match(/[-−]?\d+(\.\d+)?/g) ?? [];
    if (numbers.length !== cells.length) return;
    event.preventDefault();
    cells.forEach((cell, i) => place(cell, numbers[i]));
  });
  return {
    element,
    focus: () => cells[0].focus(),
    text: () =>
      Array.from({ length: ROWS }, (_, row) =>
        cells
          .slice(row * COLUMNS, (row + 1) * COLUMNS)
          .map((cell) => cell.value.trim() || "0")
          .join(" "),
      ).join(" / "),
    lock: (on) => {
      for (const cell of cells) cell.readOnly = on;
    },
  };
};

const choice = (choices) => {
  const name = newId("choice");
  const inputs = choices.map((_, i) => h("input", { type: "radio", name, value: String.fromCharCode(97 + i) }));
  return {
    element: h(
      "fieldset",
      { class: "choice-answer" },
      h("legend", {}, "Your answer"),
      choices.map((text, i) => h("label", {}, inputs[i], h("b", {}, String.fromCharCode(97 + i)), h("span", {}, text))),
    ),
    focus: () => inputs[0].focus(),
    text: () => inputs.find((input) => input.checked)?.value ?? "",
    lock: (on) => {
      for (const input of inputs) input.disabled = on;
    },
    /** The choice with this letter, for the keyboard. */
    key: (letter) => {
      const input = inputs.find(({ value, disabled }) => value === letter && !disabled);
      if (input) {
        input.checked = true;
        input.focus();
      }
      return Boolean(input);
    },
  };
};

/** What a question is answered with. */
export const answerOf = ({ kind, choices }, submit) =>
  kind === "choice" ? choice(choices) : kind === "matrix" ? matrix() : typed(kind, submit);
