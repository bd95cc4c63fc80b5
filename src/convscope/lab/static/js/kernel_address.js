// What the kernel tab shows, in its address: image, filters, stride, padding and dilation, so that a reload or a link shows the same.
import { filterOf } from "./kernel_editor.js";
import { asked, imageForAddress, imageOf } from "./looking.js";

export const STEPS = [
  ["stride", "Stride", 1, 8],
  ["padding", "Padding", 0, 8],
  ["dilation", "Dilation", 1, 6],
]; // name, label, least, most offered

const imageText = (image) =>
  image.name && !image.png ? `ready:${image.name}` : image.run ? `run:${image.run}:${image.valid}` : imageForAddress(image);
/** The image that an address names, or null. */
export const imageFrom = (text) => {
  if (text?.startsWith("ready:")) return { name: text.slice(6) };
  const own = /^run:(.+):(\d+)$/.exec(text ?? "");
  return own ? { run: own[1], valid: Number(own[2]) } : text?.startsWith("own:") ? imageOf(text) : null;
};
/** An image as a request has it. */
export const requested = (image) =>
  image.png
    ? { ...asked(image), ...(image.grey === false ? { grey: false } : {}) }
    : image.run
      ? { run: image.run, valid: image.valid }
      : { name: image.name };

const filterText = ({ alike, kernels, bias }) =>
  `${alike ? "" : "~"}${kernels
    .map((kernel) =>
      kernel
        .flat()
        .map((value) => Number(value.toPrecision(7)))
        .join(),
    )
    .join("_")}${bias ? `+${bias}` : ""}`;
const filterFrom = (text) => {
  const found = /^(~?)([-\d.e,_]+)(?:\+(-?[\d.e-]+))?$/.exec(text);
  if (!found) return null;
  const kernels = found[2].split("_").map((part) => part.split(",").map(Number));
  const side = Math.sqrt(kernels[0].length);
  if (![3, 5].includes(side) || kernels.some((numbers) => numbers.length !== side * side || !numbers.every(Number.isFinite))) return null;
  return {
    alike: !found[1],
    bias: Number(found[3] ?? 0),
    kernels: kernels.map((numbers) => Array.from({ length: side }, (_, row) => numbers.slice(row * side, (row + 1) * side))),
  };
};

/** What an address asks for: image, filters, stride, padding and dilation; what it leaves out or says wrongly is as at first. */
export const stateFrom = (query, known) => {
  const filters = (query.get("filters") ?? "").split(";").map(filterFrom).filter(Boolean);
  const number = ([name, , least, most]) => Math.min(Math.max(Math.round(Number(query.get(name) ?? least)) || least, least), most);
  return {
    image: imageFrom(query.get("image")) ?? { name: known.images[0].name },
    filters: filters.length ? filters : [filterOf(known.kernels[0].kernel.map((row) => [...row]))],
    ...Object.fromEntries(STEPS.map((step) => [step[0], number(step)])),
  };
};
/** The address of a state. */
export const stateText = (state) =>
  new URLSearchParams({
    image: imageText(state.image),
    filters: state.filters.map(filterText).join(";"),
    ...Object.fromEntries(STEPS.map(([name]) => [name, state[name]])),
  });
