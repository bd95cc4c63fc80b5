// Lines over training steps, on a canvas: drawn in a millisecond, so that a run can redraw them at every frame.
import { drawCursor, drawMarks, drawRules, drawSteps, logTicks, moved, nearest, plotArea, stepTicks, ticks } from "./axes.js";
import { colour } from "./colours.js";
import { button } from "./dom.js";
import { canvasFigure } from "./figure.js";
import { figure, steps as stepWords } from "./words.js";

/**
 * Lines over steps.
 * @param {object} options
 *   label, height: of the figure
 *   lines(): what to draw now, as [{name, x, y, tint, width = 2, dots = false, heard = true, bridge = false}]; y may hold null for gaps,
 *     which `bridge` draws over; x is sorted.
 *     Pointing goes along the first line; `heard: false` keeps a line out of the tooltip.
 *   marks(): the findings, as [{step, severity, place}]
 *   shade(): the step from which the ground is tinted as a problem's, or null
 *   bounds(): [low, high] of the values, or null to fit
 *   cursor: what makeCursor gave
 * @returns canvasFigure's object, with `logarithmic` (settable)
 */
export const lineChart = ({
  label,
  height = 220,
  lines,
  marks = () => [],
  shade = () => null,
  bounds = () => null,
  cursor,
  title = "step",
}) => {
  let logarithmic = false,
    current = [],
    frame = null; // frame: how values become pixels in what is drawn now

  const fit = (width, tall) => {
    const area = plotArea(width, tall);
    let [first, last, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const { x, y } of current) {
      if (!x.length) continue;
      first = Math.min(first, x[0]);
      last = Math.max(last, x.at(-1));
      for (const value of y) {
        if (value === null || (logarithmic && value <= 0)) continue;
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    if (!(last >= first)) [first, last] = [0, 1];
    if (last === first) last = first + 1;
    if (!(high >= low)) [low, high] = logarithmic ? [0.1, 1] : [0, 1];
    [low, high] = bounds() ?? [low, high];
    if (high === low) [low, high] = logarithmic ? [low / 2, high * 2] : [low - Math.abs(low || 1) / 2, high + Math.abs(high || 1) / 2];
    const scaled = logarithmic ? Math.log10 : (value) => value;
    const room = bounds() ? 0 : 0.05 * (scaled(high) - scaled(low));
    const [bottom, top] = [scaled(low) - room, scaled(high) + room];
    const x = (step) => area.left + ((step - first) / (last - first)) * area.width;
    const y = (value) => area.bottom - ((scaled(value) - bottom) / (top - bottom)) * area.height;
    const valueTicks = logarithmic ? logTicks(10 ** bottom, 10 ** top) : ticks(bottom, top, Math.max(2, Math.round(area.height / 45)));
    return { area, x, y, first, last, valueTicks };
  };

  const trace = (context, { x, y, tint, width = 2, dots = false, bridge = false }) => {
    context.strokeStyle = context.fillStyle = colour(tint);
    context.lineWidth = width;
    context.lineJoin = "round";
    context.beginPath();
    let down = false;
    for (let i = 0; i < x.length; i += 1) {
      const lost = y[i] === null || (logarithmic && y[i] <= 0);
      if (!lost) context[down ? "lineTo" : "moveTo"](frame.x(x[i]), frame.y(y[i]));
      if (!lost && !down && (i + 1 === x.length || y[i + 1] === null)) context.lineTo(frame.x(x[i]) + 0.5, frame.y(y[i])); // a single point between gaps
      down = !lost || (bridge && down);
    }
    context.stroke();
    if (!dots) return;
    for (let i = 0; i < x.length; i += 1) {
      if (y[i] === null) continue;
      const [at, up] = [frame.x(x[i]), frame.y(y[i])];
      context.beginPath();
      for (const [right, down] of [
        [0, -5],
        [5, 0],
        [0, 5],
        [-5, 0],
      ])
        context.lineTo(at + right, up + down);
      context.fill();
    }
  };

  const draw = (context, width, tall) => {
    current = lines();
    frame = fit(width, tall);
    const { area, x } = frame,
      from = shade();
    if (from !== null && from < frame.last) {
      context.fillStyle = colour("--problem-shade");
      context.fillRect(x(from), area.top, area.right - x(from), area.height);
    }
    drawRules(context, area, frame.valueTicks, frame.y);
    drawSteps(context, area, stepTicks(area, frame.first, frame.last), x, title);
    context.save();
    context.beginPath();
    context.rect(area.left - 6, area.top - 6, area.width + 12, area.height + 12);
    context.clip();
    for (const line of current) trace(context, line);
    context.restore();
    drawMarks(
      context,
      area,
      marks().filter(({ step }) => step >= frame.first && step <= frame.last),
      x,
    );
    if (cursor.step !== null) drawCursor(context, area, x(cursor.step));
    const axis = current[0]?.x ?? [];
    if (axis.length) made.setRange(cursor.step ?? axis.at(-1), axis[0], axis.at(-1));
  };

  const axis = () => current[0]?.x ?? [];
  const said = (step) => {
    const first = current[0]?.first,
      place = nearest(axis(), step);
    const lines = [first ? stepWords(first[place], axis()[place]) : `${title} ${step.toLocaleString("en")}`];
    for (const { name, x, y, heard = true, dots = false } of current) {
      const i = nearest(x, step);
      if (heard && i >= 0 && (!dots || x[i] === step)) lines.push(`${name} ${figure(y[i])}`);
    }
    return lines;
  };
  const made = canvasFigure({
    label,
    height,
    draw,
    slider: true,
    at: (across) => {
      if (!frame || !axis().length) return null;
      const { area, first, last } = frame;
      return axis()[nearest(axis(), first + ((across - area.left) / area.width) * (last - first))];
    },
    said,
    spot: (step, _, tall) => ({ x: frame.x(step), y: tall / 2 }),
    move: (step, key) => axis()[moved(step === null ? axis().length : nearest(axis(), step), key, axis().length)] ?? null,
    onPlace: (step) => cursor.set(step),
  });
  const end = cursor.listen(made.redraw);
  return Object.assign(made, {
    setLogarithmic(on) {
      logarithmic = on;
      made.redraw();
    },
    end() {
      end();
      made.destroy();
    },
  });
};

const STEEP = 50; // a peak so many times the median hides everything else on a linear axis

/** A switch between a linear and a logarithmic axis of a chart. `suit()` chooses by the values until somebody has chosen by hand. */
export const logarithmicButton = (chart, values) => {
  let byHand = false;
  const set = (on) => {
    if (element.getAttribute("aria-pressed") === String(on)) return;
    element.setAttribute("aria-pressed", String(on));
    chart.setLogarithmic(on);
  };
  const element = button(
    "Logarithmic",
    () => {
      byHand = true;
      set(element.getAttribute("aria-pressed") !== "true");
    },
    { "aria-pressed": "false" },
  );
  const suit = () => {
    if (byHand) return;
    const held = values()
      .filter((value) => value > 0)
      .sort((one, other) => one - other);
    set(held.length > 0 && held.at(-1) > STEEP * held[held.length >> 1]);
  };
  return { element, suit };
};

/** The mean over up to `reach` neighbours on either side, fewer near the ends, so that the line neither lags nor bends there; as on the run's page. */
export const smoothed = (values, reach) => {
  const sums = new Float64Array(values.length + 1),
    counts = new Uint32Array(values.length + 1);
  values.forEach((value, i) => {
    sums[i + 1] = sums[i] + (value ?? 0);
    counts[i + 1] = counts[i] + (value === null ? 0 : 1);
  });
  return values.map((_, i) => {
    const near = Math.min(reach, i, values.length - 1 - i),
      held = counts[i + near + 1] - counts[i - near];
    return held ? (sums[i + near + 1] - sums[i - near]) / held : null;
  });
};

/** How far to smooth so many records. */
export const reachOf = (records) => Math.min(50, Math.round(records / 50));
