// One traced activation as a sum that can be read: the steps to its value, the window as pictures, and every product.
//
// It receives the server's trace and draws; every number is the server's, and only the sums by channel are added up here.
import { button, choices, h, put } from "./dom.js";
import { extent, mapGrid } from "./maps.js";
import { count, figure as figureOf, plural } from "./words.js";

const PAGE = 25; // products on a page
const DIGITS = 6; // significant digits of a number in the sum, as the command line has them
const TOTAL_DIGITS = 9; // of the totals that are compared: float32 has 7 to 9
const CELL = 44; // CSS pixels of a window's cell, in which a number can be read
const SMALL_CELL = 38; // the same for windows of more than 3×3
const PHONE_CELL = 30; // the same for three windows side by side on a phone
const NARROW = 500; // CSS pixels of a phone's width

const figure = (value, digits) => figureOf(value + 0, digits); // "−0" would only puzzle
const signed = (value) => (value < 0 ? `− ${figure(-value, DIGITS)}` : `+ ${figure(value, DIGITS)}`);

export const unitName = (layer, unit) => `${layer} [${unit.join(", ")}]`;

// ---------------------------------------------------------------- the steps to the value

const FORMULA = {
  BatchNorm2d: ({ mean, variance, eps, weight, bias }) =>
    `(x ${signed(-mean)}) / √(${figure(variance, DIGITS)} + ${figureOf(eps, 1)}) · ${figure(weight ?? 1, DIGITS)} ${signed(bias ?? 0)}`,
  ReLU: () => "max(0, x)",
};

const stepInWords = (step) => {
  const formula = FORMULA[step.operation];
  if (formula && (step.operation !== "BatchNorm2d" || step.numbers.mean !== undefined)) return formula(step.numbers);
  return Object.entries(step.numbers)
    .map(([name, number]) => `${name} ${figure(number, DIGITS)}`)
    .join(", ");
};

/** The sum line by line: products, bias, further steps, total, PyTorch's value and the difference. */
const sumList = (found) => {
  const products = found.terms.reduce((sum, term) => sum + term.product, found.left_out_sum ?? 0);
  const how = found.operation === "constant" || !found.summed_by ? "" : `${found.operation} ${found.summed_by}`;
  const row = (name, detail, value, kind = "") =>
    h("div", { class: kind }, h("dt", {}, name), h("dd", { class: "formula" }, detail), h("dd", { class: "n" }, value));
  const share = found.magnitude ? Math.abs(found.difference) / found.magnitude : 0;
  return h(
    "dl",
    { class: "sum", "aria-label": "How the value comes about" },
    row(plural(found.terms.length + (found.terms_left_out ?? 0), "product"), how, figure(products, DIGITS)),
    found.bias ? row("bias", "added to them", figure(found.bias, DIGITS)) : null,
    found.bias && found.steps.length ? row("sum", "x of the next step", figure(products + found.bias, DIGITS)) : null,
    found.steps.map((step) => row([step.operation, " ", h("code", {}, step.layer)], stepInWords(step), figure(step.value, DIGITS))),
    row(
      "our total",
      "added up in double precision",
      h("data", { class: "total", value: found.total }, figure(found.total, TOTAL_DIGITS)),
      "end",
    ),
    row("PyTorch's own value", "", h("data", { class: "value", value: found.value }, figure(found.value, TOTAL_DIGITS))),
    row(
      "difference",
      share ? `${figure(share, 2)} of the sum of all sizes: rounding` : "",
      h("data", { class: "difference", value: found.difference }, figure(found.difference, 2)),
    ),
  );
};

// ---------------------------------------------------------------- the window as pictures

/** Terms by channel, as windows over the rows and columns that occur; null when they are no windows. */
const windowsOf = (terms) => {
  if (terms.length < 2 || terms.some((term) => term.unit.length !== 3 || term.source !== terms[0].source)) return null;
  const distinct = (axis) => [...new Set(terms.map((term) => term.unit[axis]))].sort((a, b) => a - b);
  const [channels, rows, columns] = [0, 1, 2].map(distinct);
  if (rows.length * columns.length * channels.length < terms.length || rows.length > 16 || columns.length > 16) return null;
  const at = new Map(terms.map((term) => [term.unit.join(), term]));
  const sums = channels.map((channel) => terms.reduce((sum, term) => (term.unit[0] === channel ? sum + term.product : sum), 0));
  return { channels, rows, columns, sums, term: (channel, row, column) => at.get([channel, rows[row], columns[column]].join()) };
};

const windowPictures = (found, ended, actions) => {
  const view = windowsOf(found.terms);
  if (!view) return null;
  const { channels, rows, columns, sums } = view;
  const side = Math.max(rows.length, columns.length);
  const cell = side > 7 ? 16 : innerWidth < NARROW ? PHONE_CELL : side > 3 ? SMALL_CELL : CELL;
  const whole = extent(Float32Array.from(found.terms, (term) => term.value));
  const products = extent(Float32Array.from(found.terms, (term) => term.product));
  const weights = extent(Float32Array.from(found.terms, (term) => term.weight));
  let channel = channels[sums.indexOf(sums.reduce((most, sum) => (Math.abs(sum) > Math.abs(most) ? sum : most), sums[0]))];

  const one = (name, ends) => {
    const grid = mapGrid({
      label: `${name} of the window. Arrow keys move, Enter goes to where a value came from.`,
      numbers: true,
      target: 999,
      largest: cell,
      onChoose: (unit) => actions.down(view.term(channel, ...unit)),
      onPoint: (unit) => actions.point(unit && view.term(channel, ...unit)),
    });
    grid.element.style.width = `${cell * columns.length + 1}px`;
    ended.push(grid.destroy);
    return { grid, key: { values: "value", weights: "weight", products: "product" }[name], ends };
  };
  const three = [one("values", whole), one("weights", weights), one("products", products)];
  const title = h("p", { class: "hint", "aria-live": "polite" });
  const show = (next) => {
    channel = next;
    for (const { grid, key, ends } of three) {
      const terms = rows.flatMap((_, row) => columns.map((__, column) => view.term(channel, row, column)));
      grid.show({
        array: { shape: [rows.length, columns.length], values: Float64Array.from(terms, (term) => term?.[key] ?? NaN) },
        ends,
        blank: (index) => !terms[index],
        words: ([row, column]) => unitName(found.terms[0].source, [channel, rows[row], columns[column]]),
        more: ([row, column]) => {
          const term = view.term(channel, row, column);
          return [`${figure(term.value, DIGITS)} × ${figure(term.weight, DIGITS)} = ${figure(term.product, DIGITS)}`];
        },
      });
    }
    const place = channels.indexOf(channel);
    title.textContent = `${channels.length > 1 ? `Channel ${channel} of ${found.terms[0].source}` : `The window in ${found.terms[0].source}`}: its products add up to ${figure(sums[place], DIGITS)}.`;
    strip?.light({ units: [[place]] });
  };

  let strip = null;
  if (channels.length > 1) {
    strip = mapGrid({
      label: "What each channel adds. Arrow keys move from channel to channel, Enter shows its window.",
      target: 1200,
      largest: channels.length <= 16 && innerWidth >= NARROW ? SMALL_CELL : 22,
      numbers: channels.length <= 16,
      onChoose: ([place]) => show(channels[place]),
    });
    strip.show({
      array: { shape: [channels.length], values: Float64Array.from(sums) },
      words: ([place]) => `channel ${channels[place]}`,
      more: () => ["click: its window"],
    });
    ended.push(strip.destroy);
  }
  const labelled = (name, grid) => h("figure", {}, h("figcaption", {}, name), grid.element);
  const element = h(
    "section",
    { class: "window" },
    h("h3", {}, "The window"),
    strip && h("p", { class: "hint" }, "What each channel adds to the sum; click one to see its window."),
    strip?.element,
    title,
    h(
      "div",
      { class: "times" },
      labelled("value", three[0].grid),
      h("span", { "aria-hidden": "true" }, "×"),
      labelled("weight", three[1].grid),
      h("span", { "aria-hidden": "true" }, "="),
      labelled("product", three[2].grid),
    ),
  );
  show(channel);
  return element;
};

// ---------------------------------------------------------------- every product

const productBar = (product, most) => {
  const share = most ? Math.abs(product) / most : 0;
  return h(
    "span",
    { class: "signed-bar", "aria-hidden": "true" },
    h("span", { class: product < 0 ? "below" : "above", style: { width: `${50 * share}%`, [product < 0 ? "right" : "left"]: "50%" } }),
  );
};

const termsTable = (found, actions) => {
  const { terms } = found;
  const most = terms.reduce((size, term) => Math.max(size, Math.abs(term.product)), 0);
  const bySize = terms.map((_, place) => place).sort((a, b) => Math.abs(terms[b].product) - Math.abs(terms[a].product) || a - b);
  const inOrder = terms.map((_, place) => place);
  let order = terms.length > PAGE ? bySize : inOrder;
  let first = 0;
  const body = h("tbody");
  const foot = h("tfoot");
  const range = h("span", { class: "muted", role: "status" });
  const back = button("‹", () => turn(first - PAGE), { "aria-label": "Products before" });
  const on = button("›", () => turn(first + PAGE), { "aria-label": "Further products" });
  const rowOf = (place) => {
    const term = terms[place];
    const name = unitName(term.source, term.unit);
    const enter = () => actions.point(term);
    const leave = () => actions.point(null);
    return h(
      "tr",
      { on: { pointerenter: enter, pointerleave: leave, focusin: enter, focusout: leave } },
      h("td", { class: "n place" }, count(place + 1)),
      h(
        "th",
        { scope: "row" },
        button(name, () => actions.down(term), { class: "plain", "aria-label": `Go down to ${name}` }),
      ),
      h("td", { class: "n" }, figure(term.value, DIGITS)),
      h("td", { class: "n" }, figure(term.weight, DIGITS)),
      h("td", { class: "n" }, figure(term.product, DIGITS)),
      h("td", { class: "bar-cell" }, productBar(term.product, most)),
    );
  };
  const turn = (to) => {
    first = Math.max(0, Math.min(to, terms.length - 1));
    const shown = order.slice(first, first + PAGE);
    put(body, shown.map(rowOf));
    const part = shown.reduce((sum, place) => sum + terms[place].product, 0);
    const all = terms.reduce((sum, term) => sum + term.product, found.left_out_sum ?? 0);
    const line = (name, value, kind) =>
      h("tr", { class: kind }, h("td"), h("th", { scope: "row", colspan: "3" }, name), h("td", { class: "n" }, value), h("td"));
    put(
      foot,
      terms.length > PAGE && line(`these ${shown.length}`, figure(part, DIGITS), "part"),
      found.terms_left_out > 0 &&
        line(`${count(found.terms_left_out)} smaller ones that are not listed`, figure(found.left_out_sum, DIGITS), "part"),
      line(`all ${count(terms.length + (found.terms_left_out ?? 0))}`, figure(all, DIGITS)),
    );
    range.textContent = `${count(first + 1)}–${count(first + shown.length)} of ${count(terms.length)}`;
    back.disabled = first === 0;
    on.disabled = first + PAGE >= terms.length;
  };
  const sorted = choices(
    "Order",
    [
      ["size", "largest first"],
      ["order", "as in the kernel"],
    ],
    order === bySize ? "size" : "order",
    (value) => {
      order = value === "size" ? bySize : inOrder;
      turn(0);
    },
  );
  turn(0);
  return h(
    "section",
    { class: "terms" },
    h("h3", {}, "Every product"),
    h("div", { class: "actions" }, sorted, terms.length > PAGE && h("div", { class: "actions pager" }, back, range, on)),
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        {},
        h("caption", { class: "quiet" }, "The products that are added up; the first column is the place in the kernel's order"),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col", class: "n place" }, "no."),
            h("th", { scope: "col" }, "from"),
            ["value", "weight", "product"].map((name) => h("th", { scope: "col", class: "n" }, name)),
            h("td"),
          ),
        ),
        body,
        foot,
      ),
    ),
  );
};

/**
 * The whole sum.
 * @param {object} found the server's trace
 * @param {Array<function()>} ended where functions are put that end its figures
 * @param {{down(term), point(term or null)}} actions
 */
export const sumOf = (found, ended, actions) => {
  const pixel = found.operation === "image" || found.terms.every((term) => term.source === found.layer); // the first of all operations
  if (pixel || !found.terms.length) {
    return [
      h(
        "p",
        {},
        pixel
          ? `This is a pixel of the image; its value is ${figure(found.value, DIGITS)} of 255. Nothing came before it: this is the end of the way down.`
          : `There are no products: ${found.note || "the window lies in the padding, and only the bias is left."}`,
      ),
      !pixel && sumList(found),
    ];
  }
  return [
    sumList(found),
    found.note && h("p", { class: "notice" }, found.note),
    windowPictures(found, ended, actions),
    termsTable(found, actions),
  ];
};
