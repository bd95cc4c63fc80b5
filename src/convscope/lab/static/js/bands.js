// A layer's values over the steps as a picture: a column for each span of steps, a row for each band of values, darker where more values lie
// (color_dim). And the histogram of one column.
import { drawCursor, drawMarks, drawSteps, MARGIN, moved, plotArea, stepTicks } from "./axes.js";
import { colour, heat, isDark } from "./colours.js";
import { canvasFigure, write } from "./figure.js";
import { columnOf } from "./series.js";
import { chosen, count, figure, percent, steps as stepWords } from "./words.js";

// Elements on a logarithmic scale, from 0 (none) to 1 (all that were looked at), as in fastai's color_dim.
const darkness = (held, samples) => (held ? Math.log1p(held) / Math.log1p(samples) : 0);

/** The row of the values near zero. */
const middleOf = (edges) => edges.findIndex((edge) => edge > 0) - 1;

/** A row's values in words. */
const bandName = (edges, row) =>
  row === middleOf(edges) ? `|x| < ${short(edges[row + 1])}` : `${short(edges[row])} to ${short(edges[row + 1])}`;

const short = (value) =>
  value !== 0 && Math.abs(value) < 1e-4 ? value.toExponential(2).replace("-", "−") : chosen(Number(value.toPrecision(3)));

const SAME = 1e-6; // relative difference of edges that are the same

/** Gives two layers the same bands, so that their pictures can be compared; layers whose bands are of different width stay as they are. */
export const alignBands = (one, other) => {
  const sides = (layer) => [layer.edges.filter((edge) => edge < 0).reverse(), layer.edges.filter((edge) => edge > 0)];
  const longest = sides(one).map((side, i) => (side.length >= sides(other)[i].length ? side : sides(other)[i]));
  const fits = [one, other].every((layer) =>
    sides(layer).every((side, i) => side.every((edge, at) => Math.abs(edge - longest[i][at]) <= SAME * Math.abs(edge))),
  );
  if (!fits) return;
  for (const layer of [one, other]) {
    const [below, above] = sides(layer).map((side, i) => new Array(longest[i].length - side.length).fill(0));
    layer.counts = layer.counts.map((column) => [...below, ...column, ...above]);
    layer.edges = [...longest[0].toReversed(), ...longest[1]];
    layer.version += 1;
  }
};

const painters = new WeakMap(); // layer -> what keeps its picture, shared by all figures of it

/** A layer's picture, one pixel for each cell; only columns that are new are painted. */
const paintedOf = (layer) => {
  if (!painters.has(layer)) painters.set(layer, makePainter());
  return painters.get(layer)(layer);
};

const makePainter = () => {
  const canvas = document.createElement("canvas");
  let done = 0,
    version = null,
    edges = null,
    shade = null,
    dark = null;
  return (layer) => {
    const rows = layer.edges.length - 1,
      columns = layer.counts.length;
    if (version !== layer.version || edges?.length !== layer.edges.length || columns > canvas.width || dark !== isDark()) {
      Object.assign(canvas, { width: Math.max(512, 2 ** Math.ceil(Math.log2(columns))), height: rows });
      [done, version, edges, shade, dark] = [0, layer.version, layer.edges, heat(), isDark()];
    }
    done = Math.min(done, layer.changed ?? done);
    layer.changed = undefined;
    if (done < columns) {
      const image = new ImageData(columns - done, rows);
      for (let column = done; column < columns; column += 1) {
        for (let row = 0; row < rows; row += 1) {
          const [red, green, blue] = shade(darkness(layer.counts[column][rows - 1 - row], layer.samples[column]));
          const at = 4 * (row * (columns - done) + column - done);
          image.data[at] = red;
          image.data[at + 1] = green;
          image.data[at + 2] = blue;
          image.data[at + 3] = 255;
        }
      }
      canvas.getContext("2d").putImageData(image, done, 0);
      done = columns;
    }
    return canvas;
  };
};

const drawColumns = (context, painted, layer, left, top, width, height) => {
  context.imageSmoothingEnabled = layer.counts.length > width; // more columns than pixels: mixed rather than dropped
  context.drawImage(painted, 0, 0, layer.counts.length, layer.edges.length - 1, left, top, width, height);
};

/** A small picture of a layer without axes. `layer()` is what to draw now, `marks()` its findings. */
export const bandsThumbnail = (layer, marks) => {
  const draw = (context, width, height) => {
    const now = layer();
    if (!now.counts.length) return;
    drawColumns(context, paintedOf(now), now, 0, 0, width, height);
    for (const mark of marks()) {
      context.fillStyle = colour(`--${mark.severity}`);
      context.fillRect((columnOf(now, mark.step) / now.counts.length) * width, 0, Math.max(1.5, width / 120), height);
    }
  };
  return canvasFigure({ label: "", height: 56, draw });
};

// Edges with a text: octaves apart, about every 18 pixels, zero in the middle.
const edgeTicks = (edges, height) => {
  const rows = edges.length - 1,
    zero = middleOf(edges),
    every = 2 * Math.max(1, Math.ceil(rows / (height / 20) / 2)); // two bands are an octave
  const found = [{ at: zero + 0.5, text: "0" }];
  for (let edge = 0; edge < edges.length; edge += 1) {
    const away = edge <= zero ? zero - edge : edge - zero - 1; // bands between this edge and the middle row
    if (away > 0 && away % every === 0) found.push({ at: edge, text: short(edges[edge]) });
  }
  return found;
};

const drawEdges = (context, area, layer, withText = true) => {
  const rows = layer.edges.length - 1;
  for (const { at, text } of edgeTicks(layer.edges, area.height)) {
    const y = area.bottom - (at / rows) * area.height;
    context.fillStyle = colour("--rule");
    context.fillRect(area.left - 4, Math.round(y), 4, 1);
    if (withText) write(context, text, area.left - 7, y, { align: "right" });
  }
};

/**
 * The large picture of a layer over the steps.
 * @param {object} options label, height, layer() and marks() as above, cursor
 * @returns canvasFigure's object with `repaint()`
 */
export const bandsFigure = ({ label, height = 320, layer, marks = () => [], cursor }) => {
  let area = null;
  const columnAt = (x, now) => Math.max(0, Math.min(now.counts.length - 1, Math.floor(((x - area.left) / area.width) * now.counts.length)));
  const middle = (column, now) => area.left + ((column + 0.5) / now.counts.length) * area.width;
  const place = (column, row, now) => ({ column, row, step: now.step[column] });

  const draw = (context, width, tall) => {
    area = plotArea(width, tall);
    const now = layer();
    context.strokeStyle = colour("--rule");
    context.strokeRect(area.left - 0.5, area.top - 0.5, area.width + 1, area.height + 1);
    if (!now?.counts.length) return;
    drawColumns(context, paintedOf(now), now, area.left, area.top, area.width, area.height);
    drawEdges(context, area, now);
    const x = (step) => middle(columnOf(now, step), now);
    drawSteps(context, area, stepTicks(area, now.first[0], now.step.at(-1)), x);
    drawMarks(context, area, marks(), x);
    if (cursor.step !== null) drawCursor(context, area, x(cursor.step));
    made.setRange(cursor.step ?? now.step.at(-1), now.step[0], now.step.at(-1));
  };
  const made = canvasFigure({
    label,
    height,
    draw,
    slider: true,
    at: (x, y) => {
      const now = layer();
      if (!area || !now?.counts.length) return null;
      const rows = now.edges.length - 1,
        row = Math.floor(((area.bottom - y) / area.height) * rows);
      return place(columnAt(x, now), row >= 0 && row < rows ? row : null, now);
    },
    said: ({ column, row }) => {
      const now = layer();
      if (!now.counts[column]) return null;
      const found = marks()
        .filter((mark) => columnOf(now, mark.step) === column)
        .map((mark) => `${mark.place}. ${mark.name.replaceAll("_", " ")}`);
      const band =
        row === null || row >= now.edges.length - 1
          ? []
          : [`${bandName(now.edges, row)}: ${count(now.counts[column][row])} of ${count(now.samples[column])} values`];
      const lost = [
        ["NaN", now.nan[column]],
        ["infinite", now.inf[column]],
      ]
        .filter(([, held]) => held)
        .map(([name, held]) => `${name} ${count(held)}`);
      return [
        stepWords(now.first[column], now.step[column]),
        ...band,
        `mean ${figure(now.mean[column])}, spread ${figure(now.std[column])}`,
        `near zero ${percent(now.near_zero[column], 1)}`,
        ...lost,
        ...found,
      ];
    },
    spot: ({ column, row }) => {
      const now = layer(),
        rows = now.edges.length - 1;
      return { x: middle(column, now), y: row === null ? area.top + 40 : area.bottom - ((row + 0.5) / rows) * area.height };
    },
    move: (from, key) => {
      const now = layer();
      if (!now?.counts.length) return null;
      const start = from?.column ?? (cursor.step === null ? now.counts.length - 1 : columnOf(now, cursor.step));
      if (key === "ArrowUp" || key === "ArrowDown") {
        // along the bands
        const rows = now.edges.length - 1,
          row = (from?.row ?? middleOf(now.edges)) + (key === "ArrowUp" ? 1 : -1);
        return place(start, Math.max(0, Math.min(rows - 1, row)), now);
      }
      return place(from || cursor.step !== null ? moved(start, key, now.counts.length) : start, from?.row ?? null, now);
    },
    onPlace: (to) => cursor.set(to?.step ?? null),
  });
  const end = cursor.listen(made.redraw);
  return Object.assign(made, {
    end() {
      end();
      made.destroy();
    },
  });
};

/** The histogram of the column that is pointed to, or else of the last one, lying beside the picture with the same rows. */
export const histogramFigure = ({ label, height = 320, layer, cursor }) => {
  const margin = MARGIN;
  let area = null;
  const column = (now) => (cursor.step === null ? now.counts.length - 1 : columnOf(now, cursor.step));
  const share = (now, row) => now.counts[column(now)][row] / (now.samples[column(now)] || 1);
  const draw = (context, width, tall) => {
    area = plotArea(width, tall, margin);
    const now = layer();
    if (!now?.counts.length) return;
    const rows = now.edges.length - 1,
      at = column(now);
    const most = Math.max(...now.counts[at]) / (now.samples[at] || 1) || 1;
    drawEdges(context, area, now);
    context.fillStyle = colour("--series-1");
    const tallness = area.height / rows;
    for (let row = 0; row < rows; row += 1) {
      const long = (share(now, row) / most) * area.width;
      if (long > 0) context.fillRect(area.left, area.bottom - (row + 1) * tallness + tallness * 0.06, Math.max(long, 0.5), tallness * 0.88);
    }
    context.fillStyle = colour("--rule");
    context.fillRect(area.left - 1, area.top, 1, area.height);
    write(context, "0", area.left, area.bottom + 14);
    write(context, percent(most, 0), area.right, area.bottom + 14, { align: "right" });
    write(context, stepWords(now.first[at], now.step[at]), (area.left + area.right) / 2, area.top - 11, { align: "center", tint: "--ink" });
  };
  const made = canvasFigure({
    label,
    height,
    draw,
    at: (_, y) => {
      const now = layer();
      if (!area || !now?.counts.length) return null;
      const row = Math.floor(((area.bottom - y) / area.height) * (now.edges.length - 1));
      return row >= 0 && row < now.edges.length - 1 ? row : null;
    },
    said: (row) => {
      const now = layer();
      return row < now.edges.length - 1
        ? [bandName(now.edges, row), `${count(now.counts[column(now)][row])} values, ${percent(share(now, row))}`]
        : null;
    },
    spot: (row, width, tall) => ({ x: area.left + 40, y: area.bottom - ((row + 0.5) / (layer().edges.length - 1)) * area.height }),
  });
  const end = cursor.listen(made.redraw);
  return Object.assign(made, {
    end() {
      end();
      made.destroy();
    },
  });
};
