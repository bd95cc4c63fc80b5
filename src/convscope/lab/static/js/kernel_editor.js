// The filters of the kernel tab: numbers typed cell by cell, ready-made kernels, turns, and one kernel or several.
//
// It keeps filters as plain lists, [filter][channel][row][column], and hands every change on; it computes no convolution.
import { button, choices, field, h, put, select } from "./dom.js";
import { readable, shader, SIGNED } from "./shades.js";
import { onTheme } from "./colours.js";
import { chosen as shortly } from "./words.js";

const MOST_FILTERS = 4; // as many as can be seen side by side
const LARGEST = 1e6; // of a number that the server takes

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const sized = (kernel, side) => {
  // cut or filled with zeros, about the middle
  const shift = (kernel.length - side) / 2;
  return Array.from({ length: side }, (_, row) => Array.from({ length: side }, (__, column) => kernel[row + shift]?.[column + shift] ?? 0));
};
const turned = (kernel) => kernel.map((row, i) => row.map((_, j) => kernel[kernel.length - 1 - j][i]));
const negated = (kernel) => kernel.map((row) => row.map((value) => 0 - value));

/** A filter that is the same for every channel, or (alike = false) holds a kernel for each. */
export const filterOf = (kernel) => ({ alike: true, kernels: [kernel], bias: 0 });

/** The filters as the server takes them. */
export const weightsOf = (filters, channels) =>
  filters.map(({ alike, kernels }) =>
    Array.from({ length: channels }, (_, channel) => (alike ? kernels[0] : (kernels[channel] ?? kernels[0]))),
  );

/**
 * The editor.
 * @param {object} options
 *   known: [{name, title, kernel}]; filters: at the start, changed in place; colours: names of the channels of a colour image
 *   onChange(filters, chosen): after every change that makes sense
 * @returns {{element, setChannels, destroy}}
 */
export const kernelEditor = ({ known, filters, colours, onChange }) => {
  let at = 0;
  let channel = 0;
  let channels = 1;
  const place = h("div", { class: "kernel-cells" });
  const tabs = h("div");
  const ways = h("div");
  const bias = h("input", {
    type: "number",
    step: "any",
    on: {
      input: () =>
        typed(bias, (value) => {
          filters[at].bias = value;
        }),
    },
  });
  const current = () => (filters[at].alike ? filters[at].kernels[0] : filters[at].kernels[channel]);
  const replace = (kernel) => {
    filters[at].kernels[filters[at].alike ? 0 : channel] = kernel;
  };

  const tint = () => {
    const kernel = current();
    const most = Math.max(...kernel.flat().map(Math.abs), 1e-9);
    const shade = shader(SIGNED, { low: -most, high: most });
    [...place.querySelectorAll("input")].forEach((input, index) => {
      const rgb = shade(kernel[Math.floor(index / kernel.length)][index % kernel.length]);
      input.style.backgroundColor = `rgb(${rgb.join()})`;
      input.style.color = readable(rgb);
    });
  };
  const typed = (input, keep) => {
    const value = Number(input.value);
    const fit = input.value.trim() !== "" && Number.isFinite(value) && Math.abs(value) <= LARGEST;
    input.setAttribute("aria-invalid", String(!fit));
    if (!fit) return;
    keep(value);
    tint();
    showName();
    onChange(filters, at);
  };
  const showName = () => {
    ready.value = known.find(({ kernel }) => same(kernel, current()))?.name ?? "";
  };
  const cells = () => {
    const kernel = current();
    place.style.gridTemplateColumns = `repeat(${kernel.length}, minmax(0, 1fr))`;
    put(
      place,
      kernel.map((row, i) =>
        row.map((value, j) => {
          const input = h("input", {
            type: "text",
            inputmode: "decimal",
            autocomplete: "off",
            "aria-label": `row ${i}, column ${j}`,
            value: shortly(value).replace("−", "-"),
          });
          input.addEventListener("input", () =>
            typed(input, (number) => {
              current()[i][j] = number;
            }),
          );
          input.addEventListener("focus", () => input.select());
          return input;
        }),
      ),
    );
    tint();
    showName();
    bias.value = filters[at].bias;
  };
  place.addEventListener("keydown", (event) => {
    // arrow keys go up and down from cell to cell, and with Alt change the number by 1
    const inputs = [...place.querySelectorAll("input")];
    const index = inputs.indexOf(event.target);
    const side = current().length;
    const step = { ArrowUp: -side, ArrowDown: side }[event.key];
    if (step === undefined || index < 0) return;
    event.preventDefault();
    if (!event.altKey) return inputs[index + step]?.focus();
    event.target.value = shortly(Number(event.target.value) - Math.sign(step)).replace("−", "-");
    event.target.dispatchEvent(new Event("input"));
  });

  const changed = () => {
    cells();
    onChange(filters, at);
  };
  const change = (make) => () => {
    replace(make(current()));
    changed();
  };
  const ready = select([["", "your own"], ...known.map(({ name, title }) => [name, title ?? name])], "", {
    on: {
      change: () => {
        const found = known.find(({ name }) => name === ready.value);
        if (!found) return;
        filters.forEach((filter) => {
          filter.kernels = filter.kernels.map((kernel) =>
            kernel.length === found.kernel.length ? kernel : sized(kernel, found.kernel.length),
          );
        });
        replace(found.kernel.map((row) => [...row]));
        build();
        onChange(filters, at);
      },
    },
  });
  const resize = (side) => {
    for (const filter of filters) filter.kernels = filter.kernels.map((kernel) => sized(kernel, side));
    changed();
  };
  const add = () => {
    filters.push(structuredClone(filters[at]));
    at = filters.length - 1;
    build();
    onChange(filters, at);
  };
  const remove = () => {
    filters.splice(at, 1);
    at = Math.min(at, filters.length - 1);
    build();
    onChange(filters, at);
  };
  const build = () => {
    put(
      tabs,
      choices(
        "Filter",
        filters.map((_, i) => [i, String(i)]),
        at,
        (value) => {
          at = value;
          build();
          onChange(filters, at);
        },
      ),
      filters.length < MOST_FILTERS && button("Add one", add),
      filters.length > 1 && button("Remove", remove),
    );
    const { alike } = filters[at];
    put(
      ways,
      channels > 1 &&
        choices(
          "Channels",
          [
            [true, "all alike"],
            [false, "each its own"],
          ],
          alike,
          (value) => {
            filters[at].alike = value;
            filters[at].kernels = value
              ? [filters[at].kernels[channel]]
              : Array.from({ length: channels }, () => structuredClone(filters[at].kernels[0]));
            channel = 0;
            build();
            onChange(filters, at);
          },
        ),
      channels > 1 &&
        !alike &&
        choices(
          "Kernel for",
          Array.from({ length: channels }, (_, i) => [i, colours[i] ?? String(i)]),
          channel,
          (value) => {
            channel = value;
            cells();
          },
        ),
    );
    const side = current().length;
    put(
      size,
      choices(
        "Size",
        [
          [3, "3×3"],
          [5, "5×5"],
        ],
        side,
        resize,
      ),
    );
    cells();
  };
  const size = h("div");
  const element = h(
    "div",
    { class: "stack tight" },
    h("div", { class: "actions" }, tabs),
    ways,
    field("Kernel", ready),
    place,
    h(
      "div",
      { class: "actions" },
      button("Turn 90°", change(turned)),
      button("Negate", change(negated)),
      button(
        "Clear",
        change((kernel) => kernel.map((row) => row.map(() => 0))),
      ),
    ),
    h("div", { class: "fields" }, size, field("Bias", bias)),
  );
  tabs.classList.add("actions");
  build();
  const destroy = onTheme(tint);
  return {
    element,
    setChannels(next) {
      if (next === channels) return;
      channels = next;
      channel = 0;
      for (const filter of filters)
        if (!filter.alike)
          filter.kernels = Array.from({ length: channels }, (_, i) => filter.kernels[i] ?? structuredClone(filter.kernels[0]));
      build();
    },
    destroy,
  };
};
