// What running an answer gave: the answer in words, what was computed, the wrong answers that people give with what they give, and pictures.
import { makeCursor } from "./axes.js";
import { colour, heat, onTheme, paint, signed } from "./colours.js";
import { h } from "./dom.js";
import { canvasFigure } from "./figure.js";
import { lineChart } from "./lines.js";
import { count, figure } from "./words.js";

const HOW = { computed: "Computed by running", illustrated: "Illustrated by running", definition: "A definition" };
const LONGEST = 400; // characters of one value
const WIDEST = 12; // columns of a matrix that is shown in numbers

const isMatrix = (value) =>
  Array.isArray(value) &&
  value.length > 1 &&
  value.every(
    (row) => Array.isArray(row) && row.length === value[0].length && row.length <= WIDEST && row.every((cell) => typeof cell === "number"),
  );

const number = (value) =>
  Number.isInteger(value)
    ? count(value)
    : figure(Number(value.toPrecision(4)))
        .replace(/(\.\d*?)0+$/, "$1")
        .replace(/\.$/, "");

/** A computed value in words: numbers with four digits, lists and names without quotes; the same as in the terminal. */
const inWords = (value) => {
  let text;
  if (value === null) text = "–";
  else if (typeof value === "boolean") text = value ? "yes" : "no";
  else if (typeof value === "number") text = number(value);
  else if (Array.isArray(value)) text = value.map(inWords).join(value.some(Array.isArray) ? " / " : ", ");
  else if (typeof value === "object")
    text = Object.entries(value)
      .map(([name, part]) => `${name}: ${inWords(part)}`)
      .join("; ");
  else text = value;
  return text.length > LONGEST ? `${text.slice(0, LONGEST)} …` : text;
};

const nested = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** A value as it is shown: matrices as matrices, named numbers under each other, the rest in words. */
const shown = (value) => {
  if (isMatrix(value))
    return h(
      "table",
      { class: "matrix" },
      h(
        "tbody",
        {},
        value.map((row) =>
          h(
            "tr",
            {},
            row.map((cell) => h("td", { data: { sign: cell > 0 ? "plus" : cell < 0 ? "minus" : "" } }, number(cell))),
          ),
        ),
      ),
    );
  if (nested(value))
    return h(
      "ul",
      { class: "values" },
      Object.entries(value).map(([name, part]) =>
        nested(part)
          ? h("li", { class: "group" }, h("span", {}, name), shown(part))
          : h("li", {}, h("span", {}, name), h("b", {}, inWords(part))),
      ),
    );
  return inWords(value);
};

const ROOM = 220; // CSS pixels of a picture's longer side, at most

// A matrix as a picture, with the value under the pointer.
const picture = (title, rows, ends) => {
  const [tall, wide] = [rows.length, rows[0].length],
    values = rows.flat();
  const least = Math.min(...values),
    greatest = Math.max(...values),
    isSigned = least < 0,
    most = Math.max(-least, greatest) || 1;
  const small = document.createElement("canvas");
  const repaint = () => {
    const shade = isSigned ? signed() : heat();
    paint(small, tall, wide, (row, column) => shade(isSigned ? 0.5 + rows[row][column] / (2 * most) : rows[row][column] / (greatest || 1)));
  };
  repaint();
  const cell = (width) => Math.min(width / wide, ROOM / tall);
  const made = canvasFigure({
    label: `${title}: ${tall} rows, ${wide} columns, from ${number(least)} to ${number(greatest)}; the arrow keys read the values`,
    height: (width) => Math.round(cell(width) * tall),
    draw: (context, width, height, place) => {
      const side = cell(width);
      context.imageSmoothingEnabled = false;
      context.drawImage(small, 0, 0, side * wide, side * tall);
      context.strokeStyle = colour(place ? "--ink" : "--rule");
      if (!place) context.strokeRect(0.5, 0.5, side * wide - 1, side * tall - 1);
      if (place) context.strokeRect(place.column * side + 0.5, place.row * side + 0.5, side - 1, side - 1);
    },
    at: (x, y, width) => {
      const [row, column] = [Math.floor(y / cell(width)), Math.floor(x / cell(width))];
      return row >= 0 && column >= 0 && row < tall && column < wide ? { row, column } : null;
    },
    said: ({ row, column }) => [number(rows[row][column]), `row ${row}, column ${column}`],
    spot: ({ row, column }, width) => ({ x: (column + 0.5) * cell(width), y: (row + 0.5) * cell(width) }),
    move: (place, key) => {
      if (!place) return { row: 0, column: 0 };
      const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[key] ?? [0, 0];
      return { row: Math.max(0, Math.min(tall - 1, place.row + by[0])), column: Math.max(0, Math.min(wide - 1, place.column + by[1])) };
    },
  });
  ends.push(
    onTheme(() => {
      repaint();
      made.redraw();
    }),
    made.destroy,
  );
  return h(
    "figure",
    { class: "shown" },
    made.element,
    h("figcaption", {}, title, h("span", { class: "hint" }, ` ${number(least)} to ${number(greatest)}`)),
  );
};

// One row of many numbers: a curve, by step.
const curve = (title, values, ends) => {
  const chart = lineChart({
    label: `${title}, ${values.length} values`,
    height: 170,
    cursor: makeCursor(),
    bounds: () => (title.startsWith("share") ? [0, 1] : null), // so that two shares can be compared
    title: /column/.test(title) ? "bin" : "step",
    lines: () => [{ name: title, x: values.map((_, i) => i), y: values, tint: "--series-1", width: 1.8 }],
  });
  ends.push(chart.end);
  return h("figure", { class: "shown wide" }, chart.element, h("figcaption", {}, title));
};

/**
 * A demonstration.
 * @param {object} from the server's
 * @returns {{element, end: function()}}
 */
export const demonstrationView = (from) => {
  const ends = [];
  const values = Object.entries(from.value ?? {}),
    pictures = Object.entries(from.pictures ?? {});
  const element = h(
    "div",
    { class: "demonstration stack" },
    h("p", { class: "explanation" }, from.explanation),
    (values.length > 0 || pictures.length > 0) &&
      h(
        "section",
        { class: "panel" },
        h(
          "h3",
          {},
          HOW[from.verified] ?? from.verified,
          !from.holds && h("span", { class: "chip problem" }, "did not come out as explained"),
        ),
        h("p", { class: "muted" }, from.how[0].toUpperCase() + from.how.slice(1), "."),
        values.length > 0 &&
          h(
            "dl",
            { class: "facts" },
            values.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, shown(value)))),
          ),
        pictures.length > 0 &&
          h(
            "div",
            { class: "pictures" },
            pictures.map(([title, rows]) => (rows.length === 1 ? curve(title, rows[0], ends) : picture(title, rows, ends))),
          ),
      ),
    from.wrong.length > 0 &&
      h(
        "section",
        {},
        h(
          "h3",
          { class: "people-say" },
          from.wrong.length > 1 ? "Wrong answers that people gave, run" : "A wrong answer that people gave, run",
        ),
        h(
          "div",
          { class: "wrong-answers" },
          from.wrong.map((wrong) =>
            h(
              "article",
              {},
              h("p", { class: "said" }, "“", wrong.answer, "”"),
              h("dl", { class: "facts" }, h("div", {}, h("dt", {}, "gives"), h("dd", {}, shown(wrong.gave)))),
              h("p", {}, wrong.why),
            ),
          ),
        ),
      ),
  );
  return { element, end: () => ends.forEach((end) => end()) };
};
