// The kernel tab's convolution as a matrix: a small copy of the image, the matrix that the library makes, and the output, each showing where the others are.
import { h } from "./dom.js";
import { extent, GREY, mapGrid, SIGNED } from "./maps.js";
import { figure } from "./words.js";

/** Pixels a side of the copy: so small that every number of the matrix can be seen, and large enough for the kernel. */
export const copySide = ({ side, padding, dilation }) => Math.max(6, Math.min(12, dilation * (side - 1) + 3 - padding));

/**
 * @returns {{element, show(found), destroy}} `found` is the server's answer for the small copy and one filter
 */
export const matrixView = () => {
  const said = h("p", { class: "hint" }, "");
  const text = h("p", {}, "");
  const row = h("p", { class: "muted", role: "status" });
  let found = null;
  let places = null;
  const grid = (label, more) => mapGrid({ label, target: 170, largest: 28, ...more });
  const light = (output) => {
    if (!found) return;
    const [channels, , columns] = found.image.shape;
    const [, , wide] = found.output.shape;
    const [y, x] = output;
    const at = y * wide + x;
    const size = places[1] / channels;
    const ties = found.matrix.ties.values;
    const seen = [];
    for (let place = 0; place < places[1]; place += 1)
      if (ties[at * places[1] + place] >= 0) seen.push([Math.floor(place / size), Math.floor((place % size) / columns), place % columns]);
    matrix.light({ box: { top: at, bottom: at, left: 0, right: places[1] - 1 }, faint: true });
    image.light({ units: seen });
    outputs.light({ units: [[0, y, x]] });
    row.textContent = `Row ${at} of the matrix times the flattened image is the output's row ${y}, column ${x}: ${figure(found.output.values[at], 6)}. It looks at ${seen.length} of ${places[1]} pixels.`;
  };
  const image = grid("The small copy of the image");
  const outputs = grid("The output of the small copy. Arrow keys move; the row of the matrix that makes it is lit.", {
    onPoint: (unit) => unit && light(unit.slice(1)),
  });
  const matrix = grid("The convolution as a matrix: a row for each output, a column for each pixel. Arrow keys move.", {
    target: 900,
    largest: 20,
    onPoint: (unit) => unit && light([Math.floor(unit[0] / found.output.shape[2]), unit[0] % found.output.shape[2]]),
  });
  const figureOf = (name, made, wide) => h("figure", { class: wide ? "wide" : "" }, h("figcaption", {}, name), made.element);
  const element = h(
    "div",
    { class: "stack tight" },
    text,
    h(
      "div",
      { class: "matrix-view" },
      h("div", { class: "matrix-images" }, figureOf("small copy", image), figureOf("its output", outputs)),
      figureOf("the matrix", matrix, true),
    ),
    row,
    said,
  );
  return {
    element,
    show(next) {
      found = next;
      places = next.matrix.shape;
      const [, rows, columns] = next.image.shape;
      const [filters, , channels, taps] = [next.kernel.shape[0], 0, next.kernel.shape[1], next.kernel.shape[3]];
      const ties = next.matrix.ties.values;
      const tied = new Map();
      for (const tie of ties) tied.set(tie, (tied.get(tie) ?? 0) + 1);
      const square = next.kernel.shape[2] * taps;
      image.show({
        names: channels === 3 ? ["red", "green", "blue"] : null,
        target: channels === 3 ? 80 : 170,
        array: next.image,
        style: GREY,
        ends: { low: 0, high: 1 },
      });
      outputs.show({ array: next.output });
      matrix.show({
        array: { shape: places, values: next.matrix.data.values },
        style: SIGNED,
        ends: extent(next.kernel.values),
        special: (index) => (ties[index] < 0 ? "--no-weight" : null),
        words: ([r, c]) =>
          `output ${r} from pixel ${c} (${channels > 1 ? `channel ${Math.floor(c / (rows * columns))}, ` : ""}row ${Math.floor((c % (rows * columns)) / columns)}, column ${c % columns})`,
        more: ([r, c]) => {
          const tie = ties[r * places[1] + c];
          return [
            tie < 0
              ? "no weight stands here: zero for good"
              : `the weight in row ${Math.floor((tie % square) / taps)}, column ${tie % taps} of the kernel, one of ${tied.get(tie)} places tied to it`,
          ];
        },
      });
      text.textContent = next.matrix.text[0].toUpperCase() + next.matrix.text.slice(1) + ".";
      said.textContent = `${filters > 1 ? "The first filter. " : ""}${next.image_note ? `The copy was ${next.image_note}. ` : ""}A linear layer would learn every place of this matrix by itself; the convolution has the same few weights in every row, each moved along.`;
      light([Math.floor(next.output.shape[1] / 2), Math.floor(next.output.shape[2] / 2)]);
    },
    destroy() {
      for (const made of [image, outputs, matrix]) made.destroy();
    },
  };
};
