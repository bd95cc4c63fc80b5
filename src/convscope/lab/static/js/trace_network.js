// The network of the trace tab: the maps to click in, what lights up in them, and the same choice by name and numbers.
import { field, h, put } from "./dom.js";
import { extent, GREY, mapGrid, SIGNED } from "./maps.js";

const targetOf = (layer) => {
  const size = Math.max(...layer.array.shape.slice(1), 1);
  return layer.array.shape.length === 1 ? 999 : size >= 20 ? 84 : size >= 10 ? 56 : size >= 6 ? 49 : 36;
};

/**
 * Every layer's maps, small, from the image to the answer; those that the activation depends on lit.
 * @returns {{element, show(trace), point(trace, term or null)}}
 */
export const networkMaps = (found, ends, onChoose) => {
  const grids = new Map();
  const drawnAs = new Map();
  const rows = found.layers.map((layer) => {
    const grey = layer.kind === "image";
    const grid = mapGrid({
      label: `Activations of layer ${layer.name}, ${layer.kind}. Arrow keys move, Page Up and Page Down change the map, Enter traces.`,
      onChoose: (unit) => onChoose(layer.name, unit),
    });
    grid.show({
      array: layer.array,
      style: grey ? GREY : SIGNED,
      ends: grey ? { low: 0, high: 255 } : extent(layer.array.values),
      target: targetOf(layer),
      largest: 20,
      more: () => ["click: trace it"],
    });
    ends.push(grid.destroy);
    const seen = h("span", { class: "muted" });
    const element = h(
      "div",
      { class: "way", data: { operation: layer.name } },
      h("div", { class: "way-head" }, h("h4", {}, h("code", {}, layer.name), ` ${layer.kind}`), seen),
      grid.element,
    );
    grids.set(layer.name, { grid, element, seen, layer });
    return element;
  });
  const lights = (trace, name) => {
    const box = trace.fields[name];
    const own = name === trace.layer;
    const alone = own || name === trace.summed_by || trace.steps.some((step) => step.layer === name); // operations that stay in the unit's channel
    return { box, maps: alone && trace.unit.length === 3 ? new Set([trace.unit[0]]) : null, units: own ? [trace.unit] : [] };
  };
  return {
    element: h("div", { class: "network" }, rows),
    show(trace) {
      for (const [name, { grid, element, seen }] of grids) {
        const lit = lights(trace, name);
        const { box } = lit;
        const same = JSON.stringify([box, lit.units, trace.unit[0]]);
        if (same !== drawnAs.get(name)) grid.light(lit); // redrawing what stays the same would cost a click its quickness
        drawnAs.set(name, same);
        element.classList.toggle("lit", Boolean(box) || name === trace.layer);
        element.classList.toggle("own", name === trace.layer);
        seen.textContent =
          !box || name === trace.layer
            ? ""
            : box.bottom < box.top
              ? "only padding"
              : `rows ${box.top}–${box.bottom}, columns ${box.left}–${box.right}`;
      }
      const own = grids.get(trace.layer)?.element;
      const scroll = own?.parentElement;
      if (own && scroll.scrollHeight > scroll.clientHeight) scroll.scrollTop = own.offsetTop - scroll.clientHeight / 2;
    },
    /** Marks the unit that a product comes from. */
    point(trace, term) {
      const source = term?.source ?? trace.terms[0]?.source;
      const kept = grids.get(source);
      drawnAs.delete(source);
      if (kept) kept.grid.light({ ...lights(trace, source), units: term ? [term.unit] : lights(trace, source).units });
    },
  };
};

/**
 * A layer's name and the numbers of a unit of it, for the keyboard and for exact places.
 * @returns {{element, show(trace)}}
 */
export const unitForm = (layers, onChoose) => {
  const place = h("div", { class: "unit-fields" });
  let chosen = null;
  let inputs = [];
  const names = h(
    "select",
    {
      on: {
        change: () => {
          build(layers.find((layer) => layer.name === names.value));
          submit();
        },
      },
    },
    layers.map((layer) => h("option", { value: layer.name }, `${layer.name} ${layer.kind}`)),
  );
  const submit = () => {
    if (inputs.every((input) => input.value !== "" && input.checkValidity()))
      onChoose(
        chosen.name,
        inputs.map((input) => Number(input.value)),
      );
  };
  const build = (layer, unit = layer.shape.map((size) => Math.floor((size - 1) / 2))) => {
    chosen = layer;
    const labels =
      layer.shape.length === 3
        ? ["Channel", "Row", "Column"]
        : layer.shape.length === 1
          ? ["Unit"]
          : layer.shape.map((_, axis) => `Axis ${axis}`);
    inputs = layer.shape.map((size, axis) =>
      h("input", { type: "number", min: 0, max: size - 1, value: unit[axis], on: { change: submit } }),
    );
    put(
      place,
      inputs.map((input, axis) => field(h("span", {}, labels[axis], h("span", { class: "muted" }, ` 0–${layer.shape[axis] - 1}`)), input)),
    );
  };
  return {
    element: h("div", { class: "unit-form" }, field("Layer", names), place),
    show({ layer, unit }) {
      const found = layers.find((other) => other.name === layer);
      if (!found) return;
      names.value = layer;
      if (chosen?.name !== layer) build(found, unit);
      else
        inputs.forEach((input, axis) => {
          input.value = unit[axis];
        });
    },
  };
};
