// The kernel tab's pictures: the image and the output, and one place of it with its window and products.
import { h, panel, put } from "./dom.js";
import { colourPicture, extent, GREY, mapGrid, SIGNED, unitInWords } from "./maps.js";
import { colourBar } from "./shades.js";
import { count, figure, plural } from "./words.js";

export const COLOURS = ["red", "green", "blue"]; // names of a colour image's channels
const SHOWN = 300; // CSS pixels of the image's and the output's side
const cellFor = (side) => (innerWidth < 500 ? 30 : side > 3 ? 38 : 46); // CSS pixels in which a number can be read; three pictures side by side on a phone

// ---------------------------------------------------------------- image and output

/** Where a filter answers most: [row, column]. */
export const strongest = ({ shape: [, rows, columns], values }, filter) => {
  let best = filter * rows * columns;
  for (let at = best; at < (filter + 1) * rows * columns; at += 1) if (Math.abs(values[at]) > Math.abs(values[best])) best = at;
  const at = best - filter * rows * columns;
  return [Math.floor(at / columns), at % columns];
};

/** An image with its padding around it: values, and which cells are padding. */
const padded = (image, padding) => {
  const [channels, rows, columns] = image.shape;
  const [high, wide] = [rows + 2 * padding, columns + 2 * padding];
  const values = new Float32Array(channels * high * wide);
  const real = new Uint8Array(channels * high * wide);
  for (let channel = 0; channel < channels; channel += 1) {
    for (let row = 0; row < rows; row += 1) {
      for (let column = 0; column < columns; column += 1) {
        const to = (channel * high + row + padding) * wide + column + padding;
        values[to] = image.values[(channel * rows + row) * columns + column];
        real[to] = 1;
      }
    }
  }
  return { shape: [channels, high, wide], values, real };
};

/**
 * The image with its padding, the output, and how large it is.
 * @returns {{element, show(found, state), light(unit, state)}}
 */
export const convolutionPanel = (ends, onPlace) => {
  const image = mapGrid({ label: "The image with its padding", target: SHOWN, largest: 20 });
  const output = mapGrid({
    label: "The output. Arrow keys move from place to place; the window and its products follow.",
    target: SHOWN,
    largest: 20,
    onPoint: (unit) => unit && onPlace(unit),
    onChoose: onPlace,
  });
  const bar = colourBar();
  const formula = h("dl", { class: "facts" });
  const note = h("p", { class: "hint" });
  const captions = [h("figcaption"), h("figcaption")];
  const together = h("div", { class: "together" });
  ends.push(image.destroy, output.destroy, bar.destroy);
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  let shown = null;
  return {
    element: panel(
      "Image and output",
      h(
        "div",
        { class: "before-after" },
        h("figure", {}, captions[0], together, image.element),
        h("figure", {}, captions[1], output.element, bar.element),
      ),
      note,
      formula,
    ),
    show(found, state) {
      shown = found;
      const [channels, rows, columns] = found.image.shape;
      const [filters, high, wide] = found.output.shape;
      const around = padded(found.image, state.padding);
      image.show({
        array: around,
        style: GREY,
        ends: { low: 0, high: 1 },
        names: channels === 3 ? COLOURS : null,
        target: channels > 1 ? 150 : SHOWN,
        special: state.padding ? (index) => (around.real[index] ? null : "--padding") : null,
        words: ([channel, row, column]) =>
          around.real[(channel * around.shape[1] + row) * around.shape[2] + column]
            ? unitInWords([channel, row - state.padding, column - state.padding])
            : "padding: always 0",
      });
      put(together, channels === 3 && colourPicture(found.image, 1));
      const scale = extent(found.output.values);
      output.show({
        array: found.output,
        ends: scale,
        target: filters > 1 ? 190 : SHOWN,
        names: filters > 1 ? Array.from({ length: filters }, (_, filter) => `filter ${filter}`) : null,
        words: ([filter, row, column]) => `${filters > 1 ? `filter ${filter}, ` : ""}row ${row}, column ${column}`,
      });
      bar.show({ style: SIGNED, ends: scale, counts: scale });
      captions[0].textContent = `image, ${found.image.shape.join("×")}${state.padding ? `, with ${plural(state.padding, "row and column", "rows and columns")} of zeros around it` : ""}`;
      captions[1].textContent = `output, ${found.output.shape.join("×")}`;
      note.textContent = found.image_note ? `The image was ${found.image_note}.` : "";
      const [, , taps, across] = found.kernel.shape;
      const weights = filters * channels * taps * across;
      put(
        formula,
        fact("Rows", h("code", {}, found.formula.rows)),
        fact("Columns", h("code", {}, found.formula.columns)),
        fact("In words", "floor((size + 2·padding − dilation·(kernel − 1) − 1) / stride) + 1"),
        fact(
          "Weights",
          `${filters} × ${channels} × ${taps} × ${across} = ${count(weights)}, and ${plural(filters, "bias", "biases")}: filters × channels × rows × columns`,
        ),
        fact(
          "Places",
          `${filters} × ${high} × ${wide} = ${count(filters * high * wide)} outputs of ${count(channels * taps * across)} products each`,
        ),
      );
      return { rows, columns };
    },
    /** Lights the window of an output place, and the place. */
    light([filter, row, column], state) {
      const side = shown.kernel.shape[2];
      const units = [];
      const [channels] = shown.image.shape;
      const [top, left] = [row * state.stride, column * state.stride];
      const reach = state.dilation * (side - 1);
      const box = { top, left, bottom: top + reach, right: left + reach };
      if (state.dilation > 1)
        for (let c = 0; c < channels; c += 1)
          for (let a = 0; a < side; a += 1)
            for (let b = 0; b < side; b += 1) units.push([c, top + a * state.dilation, left + b * state.dilation]);
      image.light({ box, units, faint: true });
      output.light({ units: [[filter, row, column]] });
    },
  };
};

// ---------------------------------------------------------------- one place

/**
 * The window, the products and their sum at one place of the output.
 * @returns {{element, show(found, unit, filters, channels)}} `found` as the server answers for the place
 */
export const placePanel = (ends) => {
  const title = h("p", { class: "muted" });
  const rows = h("div", { class: "stack" });
  const sum = h("p", { class: "place-sum" });
  let grids = [];
  const three = (channels, side) =>
    Array.from({ length: channels }, () =>
      ["value", "weight", "product"].map((key) => {
        const grid = mapGrid({ label: `${key}s of the window`, numbers: true, target: 999, largest: cellFor(side) });
        grid.element.style.width = `${cellFor(side) * side + 1}px`;
        return { key, grid };
      }),
    );
  ends.push(() => grids.flat().forEach(({ grid }) => grid.destroy()));
  return {
    element: panel("At this place", title, rows, sum),
    show(found, unit, filterCount, channels) {
      const size = found.terms.length / channels;
      const side = Math.sqrt(size);
      if (grids.length !== channels || grids.side !== side) {
        grids.flat().forEach(({ grid }) => grid.destroy());
        grids = three(channels, side);
        grids.side = side;
        put(
          rows,
          grids.map((row, channel) =>
            h(
              "div",
              { class: "times" },
              channels > 1 && h("b", { class: "of-channel" }, COLOURS[channel] ?? channel),
              row.flatMap(({ key, grid }, place) => [
                place ? h("span", { "aria-hidden": "true" }, place === 1 ? "×" : "=") : null,
                h("figure", {}, h("figcaption", {}, key), grid.element),
              ]),
              h("span", { class: "of-sum muted" }),
            ),
          ),
        );
      }
      const ends1 = (key) => extent(Float64Array.from(found.terms, (term) => term[key]));
      const scales = { weight: ends1("weight"), product: ends1("product") };
      grids.forEach((row, channel) => {
        const terms = found.terms.slice(channel * size, (channel + 1) * size);
        for (const { key, grid } of row) {
          grid.show({
            array: { shape: [side, side], values: Float64Array.from(terms, (term) => term[key]) },
            ...(key === "value"
              ? { style: GREY, ends: { low: 0, high: 1 }, special: (index) => (terms[index].padding ? "--padding" : null) }
              : { style: SIGNED, ends: scales[key] }),
            words: ([r, c]) =>
              terms[r * side + c].padding ? "padding: always 0" : `pixel in ${unitInWords(terms[r * side + c].unit.slice(1))}`,
            more: ([r, c]) => [
              `${figure(terms[r * side + c].value, 6)} × ${figure(terms[r * side + c].weight, 6)} = ${figure(terms[r * side + c].product, 6)}`,
            ],
          });
        }
        rows.children[channel].querySelector(".of-sum").textContent =
          channels > 1
            ? `adds ${figure(
                terms.reduce((all, term) => all + term.product, 0),
                6,
              )}`
            : "";
      });
      const padding = found.terms.filter((term) => term.padding).length;
      title.textContent = `Output${filterCount > 1 ? ` of filter ${unit[0]}` : ""}, row ${unit[1]}, column ${unit[2]}${padding ? `; ${padding} of its ${found.terms.length} products are with padding, and 0` : ""}.`;
      put(
        sum,
        `The ${plural(found.terms.length, "product")} add up${found.bias ? `, with the bias ${figure(found.bias, 6)},` : ""} to `,
        h("data", { class: "total", value: found.total }, figure(found.total, 7)),
        "; PyTorch's conv2d says ",
        h("data", { class: "value", value: found.value }, figure(found.value, 7)),
        ".",
      );
    },
  };
};
