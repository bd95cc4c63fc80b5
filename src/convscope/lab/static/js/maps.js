// Arrays as pictures: every channel a small map of square cells, with its values under the pointer or the cursor keys.
//
// It receives arrays as `decoded` gives them, of shape (channels, rows, columns), (rows, columns) or (units). One canvas draws all the maps
// and is one stop of the Tab key: arrow keys move from cell to cell and from map to map. It asks nothing of the server.
import { channels, colour, onTheme, paint } from "./colours.js";
import { h } from "./dom.js";
import { canvasFigure } from "./figure.js";
import { extent, GREY, readable, shader, SIGNED } from "./shades.js";
import { figure } from "./words.js";

const GAP = 8; // CSS pixels between maps
const NAME = 15; // CSS pixels for a map's name above it
const SMALLEST_NUMBER = 30; // CSS pixels of a cell in which a number can be read
const LONGEST_ROW = 32; // units of a vector side by side

/** How an array lies in maps: `unit` of a place (map, row, column), `place` of a unit, and the index of its value. */
export const layout = (shape, most = Infinity) => {
  if (shape.length === 1) {
    const columns = Math.min(shape[0], LONGEST_ROW);
    const rows = Math.ceil(shape[0] / columns);
    return {
      maps: 1,
      rows,
      columns,
      count: shape[0],
      unit: ([, r, c]) => [r * columns + c],
      place: ([i]) => [0, Math.floor(i / columns), i % columns],
    };
  }
  const [rows, columns] = shape.slice(-2);
  const maps = Math.min(shape.length === 3 ? shape[0] : 1, most);
  return {
    maps,
    rows,
    columns,
    count: maps * rows * columns,
    unit: (place) => (shape.length === 3 ? place : place.slice(1)),
    place: (unit) => (shape.length === 3 ? unit : [0, ...unit]),
  };
};

/** A unit in words: "channel 3, row 5, column 2". */
export const unitInWords = (unit) =>
  unit.length === 1
    ? `unit ${unit[0]}`
    : [...(unit.length === 3 ? [`channel ${unit[0]}`] : []), `row ${unit.at(-2)}`, `column ${unit.at(-1)}`].join(", ");

/** An image in its own colours, for the eye alone: grey, or red, green and blue together; `most` is the value of white. */
export const colourPicture = ({ shape: [channelCount, rows, columns], values }, most) => {
  const canvas = h("canvas", { class: "pixels picture", "aria-hidden": "true" });
  const size = rows * columns;
  paint(canvas, rows, columns, (row, column) =>
    [0, 1, 2].map((part) => (255 * values[(channelCount === 3 ? part : 0) * size + row * columns + column]) / most),
  );
  return canvas;
};

const cellFor = (side, target, largest) => {
  const cell = Math.min(target / side, largest);
  return cell >= 6 ? Math.floor(cell) : cell >= 1 ? Math.floor(2 * cell) / 2 : cell; // whole pixels where a part of one would show
};

/**
 * A grid of maps.
 * @param {object} options
 *   label: what it shows, for a screen reader
 *   target: CSS pixels of a map's side; largest: of a cell
 *   numbers: whether the values are written into the cells where there is room
 *   onChoose(unit): a cell was clicked, or Enter was pressed; onPoint(unit or null): the pointer or cursor is there
 * @returns {{element, show, light, unit, redraw, destroy}}
 */
export const mapGrid = ({ label, target = 84, largest = 22, numbers = false, onChoose, onPoint }) => {
  let content = null;
  let lit = {};
  let strip = null;
  let shades = null;

  // ---------------------------------------------------------------- where things are

  const measures = (width) => {
    const { maps, rows, columns } = content.layout;
    const cell = Math.min(cellFor(Math.max(rows, columns), content.target ?? target, content.largest ?? largest), width / columns);
    const named = maps > 1 || content.names ? NAME : 0;
    const wide = Math.max(cell * columns, content.names ? 20 : 0);
    const high = cell * rows + named;
    const across = Math.max(1, Math.min(maps, Math.floor((width + GAP) / (wide + GAP))));
    return { cell, named, wide, high, across, down: Math.ceil(maps / across) };
  };
  const corner = (map, m) => ({ x: (map % m.across) * (m.wide + GAP), y: Math.floor(map / m.across) * (m.high + GAP) + m.named });
  const indexOf = ([map, row, column]) => (map * content.layout.rows + row) * content.layout.columns + column;
  const inside = (place) => indexOf(place) < content.layout.count;

  // ---------------------------------------------------------------- drawing

  const paintStrip = () => {
    const { maps, rows, columns, count } = content.layout;
    const { values } = content.array;
    shades = [];
    if (content.picture) {
      strip = content.picture;
      return;
    }
    strip = new OffscreenCanvas(columns, rows * maps);
    const context = strip.getContext("2d");
    const image = context.createImageData(columns, rows * maps);
    shades = Array.from({ length: maps }, (_, map) =>
      shader(content.style, content.each ? extent(values, map * rows * columns, (map + 1) * rows * columns) : content.ends),
    );
    for (let index = 0; index < count; index += 1) {
      const special = content.special?.(index);
      const [red, green, blue] = special ? channels(special) : shades[Math.floor(index / (rows * columns))](values[index]);
      image.data[4 * index] = red;
      image.data[4 * index + 1] = green;
      image.data[4 * index + 2] = blue;
      image.data[4 * index + 3] = content.blank?.(index) ? 0 : 255;
    }
    context.putImageData(image, 0, 0);
  };

  const drawNames = (context, map, x, y, m) => {
    const name = content.names?.[map] ?? (m.named ? String(map) : "");
    if (!name) return;
    context.fillStyle = colour(content.bold === map ? "--ink" : "--muted");
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    context.fillText(content.silent?.has(map) ? `${name} ∅` : name, x, y - 4, m.wide);
  };

  const drawNumbers = (context, map, x, y, m) => {
    const { rows, columns } = content.layout;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let row = 0; row < rows; row += 1) {
      for (let column = 0; column < columns; column += 1) {
        const index = indexOf([map, row, column]);
        if (index >= content.layout.count || content.blank?.(index)) continue;
        const special = content.special?.(index);
        context.fillStyle = readable(special ? channels(special) : shades[map](content.array.values[index]));
        const value = content.array.values[index] + 0;
        const room = m.cell - 4;
        const text =
          [3, 2, 1].map((digits) => figure(value, digits)).find((shorter) => context.measureText(shorter).width <= room) ??
          figure(value, 1);
        context.fillText(text, x + (column + 0.5) * m.cell, y + (row + 0.5) * m.cell, room);
      }
    }
  };

  const outline = (context, x, y, wide, high, tint, thick = 2) => {
    context.lineWidth = thick + 2;
    context.strokeStyle = colour("--surface");
    context.strokeRect(x, y, wide, high);
    context.lineWidth = thick;
    context.strokeStyle = colour(tint);
    context.strokeRect(x, y, wide, high);
  };

  const drawLit = (context, map, x, y, m) => {
    const { box } = lit;
    const { rows, columns } = content.layout;
    if (!box || (lit.maps && !lit.maps.has(map))) return;
    const [left, top, right, bottom] = [box.left, box.top, box.right + 1, box.bottom + 1].map((edge) => edge * m.cell);
    if (left <= 0 && top <= 0 && right >= columns * m.cell && bottom >= rows * m.cell) return;
    context.globalAlpha = lit.faint ? 0.3 : 0.66;
    context.fillStyle = content.style === GREY ? "#1c2026" : colour("--surface"); // a spotlight on images, faded colours elsewhere
    context.beginPath();
    context.rect(x - 1, y - 1, columns * m.cell + 2, rows * m.cell + 2);
    context.rect(x + left, y + top, right - left, bottom - top);
    context.fill("evenodd");
    context.globalAlpha = 1;
    if (right > left && bottom > top) outline(context, x + left, y + top, right - left, bottom - top, "--lit", 1.5);
  };

  const drawSilent = (context, x, y, m) => {
    // a diagonal, which no value can look like
    context.strokeStyle = colour("--muted");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, y + content.layout.rows * m.cell);
    context.lineTo(x + content.layout.columns * m.cell, y);
    context.stroke();
  };

  const draw = (context, width, _height, place) => {
    if (!content) return;
    if (!strip) paintStrip();
    const { maps, rows, columns } = content.layout;
    const m = measures(width);
    context.font = context.font.replace(/^\d+px/, "11px");
    for (let map = 0; map < maps; map += 1) {
      const { x, y } = corner(map, m);
      drawNames(context, map, x, y, m);
      context.imageSmoothingEnabled = m.cell < 1;
      context.drawImage(strip, 0, map * rows, columns, rows, x, y, columns * m.cell, rows * m.cell);
      context.lineWidth = 1;
      context.strokeStyle = colour("--rule");
      if (content.layout.count === maps * rows * columns) context.strokeRect(x - 0.5, y - 0.5, columns * m.cell + 1, rows * m.cell + 1);
      if (content.silent?.has(map)) drawSilent(context, x, y, m);
      if ((content.numbers ?? numbers) && m.cell >= SMALLEST_NUMBER) drawNumbers(context, map, x, y, m);
      drawLit(context, map, x, y, m);
    }
    const mark = (unit, tint) => {
      const [map, row, column] = content.layout.place(unit);
      if (map >= maps) return;
      const { x, y } = corner(map, m);
      outline(context, x + column * m.cell, y + row * m.cell, m.cell, m.cell, tint);
    };
    for (const unit of lit.units ?? []) mark(unit, "--lit");
    if (place) mark(content.layout.unit(place), "--ink");
  };

  // ---------------------------------------------------------------- pointer, keys and words

  const at = (px, py, width) => {
    if (!content) return null;
    const m = measures(width);
    const { maps, rows, columns } = content.layout;
    const map = Math.floor(py / (m.high + GAP)) * m.across + Math.floor(px / (m.wide + GAP));
    if (px >= m.across * (m.wide + GAP) || map >= maps || map < 0) return null;
    const { x, y } = corner(map, m);
    const column = Math.floor((px - x) / m.cell);
    const row = Math.floor((py - y) / m.cell);
    const place = [map, row, column];
    return row < 0 || row >= rows || column < 0 || column >= columns || !inside(place) || content.blank?.(indexOf(place)) ? null : place;
  };

  const move = (place, key) => {
    if (!content) return null;
    if (!place)
      return lit.units?.length && content.layout.place(lit.units[0])[0] < content.layout.maps
        ? content.layout.place(lit.units[0])
        : [0, 0, 0];
    const { maps, rows, columns } = content.layout;
    const { across } = measures(figureOf.element.clientWidth);
    let [map, row, column] = place;
    const jump = (to, nextRow, nextColumn) => {
      if (to >= 0 && to < maps) [map, row, column] = [to, nextRow, nextColumn];
    };
    if (key === "ArrowRight") column + 1 < columns ? (column += 1) : jump(map + 1, row, 0);
    else if (key === "ArrowLeft") column > 0 ? (column -= 1) : jump(map - 1, row, columns - 1);
    else if (key === "ArrowDown") row + 1 < rows ? (row += 1) : jump(map + across, 0, column);
    else if (key === "ArrowUp") row > 0 ? (row -= 1) : jump(map - across, rows - 1, column);
    else if (key === "PageDown") jump(map + 1, row, column);
    else if (key === "PageUp") jump(map - 1, row, column);
    else column = key === "Home" ? 0 : columns - 1;
    return inside([map, row, column]) ? [map, row, column] : place;
  };

  const said = (place) => {
    const unit = content.layout.unit(place);
    const value = content.array.values[indexOf(place)] + 0; // "−0" would only puzzle
    return [figure(value, 6), content.words?.(unit) ?? unitInWords(unit), ...(content.more?.(unit, value) ?? [])];
  };

  const figureOf = canvasFigure({
    label,
    height: (width) => {
      if (!content) return 0;
      const m = measures(width);
      return m.down * (m.high + GAP) - GAP + 1;
    },
    draw,
    at,
    move,
    said,
    spot: (place, width) => {
      const m = measures(width);
      const { x, y } = corner(place[0], m);
      return { x: x + (place[2] + 0.5) * m.cell, y: y + (place[1] + 0.5) * m.cell };
    },
    choose: onChoose && ((place) => onChoose(content.layout.unit(place))),
    onPlace: onPoint && ((place) => onPoint(place && content.layout.unit(place))),
  });
  figureOf.element.classList.add("maps");
  if (onChoose) figureOf.canvas.classList.add("can-choose");
  const endTheme = onTheme(() => {
    strip = null;
  });

  return {
    element: figureOf.element,
    canvas: figureOf.canvas,
    redraw: figureOf.redraw,
    /**
     * @param {object} next
     *   array: {shape, values}; style: SIGNED or GREY; ends: {low, high} of the scale; each: every map has a scale of its own
     *   names: of the maps; silent: Set of maps that are zero everywhere; blank(index): cells where there is nothing
     *   special(index): the name of a colour for cells that are not on the scale, such as padding
     *   picture: a canvas to show instead of shades, such as an image in its colours
     *   words(unit), more(unit, value): what the tooltip says; numbers, target, largest: as in the options
     */
    show(next) {
      content = { style: SIGNED, ends: extent(next.array.values), layout: layout(next.array.shape, next.most), ...next };
      strip = null;
      figureOf.setPlace(null, { silent: true });
      figureOf.redraw();
    },
    /** Lights a box of rows and columns in every map (or in `maps`), and single units. */
    light(next = {}) {
      lit = next;
      figureOf.redraw();
    },
    point: (unit) => figureOf.setPlace(unit && content.layout.place(unit), { silent: true }),
    destroy() {
      figureOf.destroy();
      endTheme();
    },
  };
};

export { extent, GREY, SIGNED };
