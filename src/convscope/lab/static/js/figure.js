// A canvas that draws itself sharp at any size, again in light and dark, at most once a frame, and tells what is under the pointer or the cursor keys.
import { colour, onTheme } from "./colours.js";
import { h, newId } from "./dom.js";

const UNSEEN_EVERY = 1000; // milliseconds between two drawings of a figure that is out of view

let family = null;
const font = () => `12px ${(family ??= getComputedStyle(document.body).fontFamily)}`;

/**
 * A canvas figure.
 * @param {object} options
 *   label: what the picture shows, for a screen reader
 *   height: CSS pixels, or a function of the width
 *   draw(context, width, height): in CSS pixels
 *   at(x, y, width, height): the place under the pointer, as any value; null for none
 *   said(place): the tooltip: a text, or a list of lines; the first is bold
 *   spot(place, width, height): {x, y} where the tooltip points to, in CSS pixels
 *   move(place, key): the place after "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp" or "PageDown";
 *     place is null at first; return the same place for keys without meaning. Without it the figure cannot be focused.
 *   choose(place): clicked, or Enter was pressed
 *   onPlace(place): the place has changed
 *   slider: true when places are steps along one axis: a screen reader then hears a slider
 * @returns {{element, canvas, redraw, place, setPlace, destroy}}
 */
export const canvasFigure = (options) => {
  const { label, height = 220, draw, at, said, spot, move, choose, onPlace, slider = false } = options;
  const tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  const role = move ? (slider ? "slider" : "application") : "img";
  const canvas = h("canvas", { class: "drawn", role, "aria-label": label, tabindex: move ? "0" : null, id: newId("figure") });
  if (slider) for (const name of ["aria-valuenow", "aria-valuemin", "aria-valuemax"]) canvas.setAttribute(name, "0");
  const heard = move && !slider ? h("span", { class: "quiet", "aria-live": "polite" }) : null;
  const element = h("div", { class: "figure" }, canvas, tip, heard);
  let width = 0,
    tall = 0,
    asked = 0,
    place = null,
    seen = true,
    drawnAt = -Infinity,
    timer = 0;

  const paintNow = () => {
    asked = 0;
    if (!width) return; // not in the page, or hidden
    tall = typeof height === "function" ? height(width) : height;
    canvas.style.height = `${tall}px`; // also out of view, so that nothing jumps when it comes into it
    clearTimeout(timer);
    const rest = drawnAt + UNSEEN_EVERY - performance.now();
    if (!seen && rest > 0) {
      timer = setTimeout(redraw, rest);
      return;
    }
    drawnAt = performance.now();
    const sharp = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * sharp) || canvas.height !== Math.round(tall * sharp)) {
      canvas.width = Math.round(width * sharp);
      canvas.height = Math.round(tall * sharp);
    }
    const context = canvas.getContext("2d");
    context.setTransform(sharp, 0, 0, sharp, 0, 0);
    context.clearRect(0, 0, width, tall);
    context.font = font();
    draw(context, width, tall, place);
  };
  const redraw = () => {
    asked ||= requestAnimationFrame(paintNow);
  };

  const point = () => {
    const lines = place === null ? null : said?.(place);
    tip.hidden = !lines?.length;
    if (tip.hidden) return;
    tip.replaceChildren(...[lines].flat().map((line, i) => h(i || typeof lines === "string" ? "span" : "b", {}, line)));
    const { x, y } = spot?.(place, width, tall) ?? { x: width / 2, y: 0 };
    const side = x > width / 2;
    tip.style.left = `${Math.round(Math.max(0, Math.min(side ? x - tip.offsetWidth - 12 : x + 12, width - tip.offsetWidth)))}px`;
    tip.style.top = `${Math.round(Math.max(0, Math.min(y - tip.offsetHeight / 2, tall - tip.offsetHeight)))}px`;
  };
  const setPlace = (next, { silent = false } = {}) => {
    if (JSON.stringify(next) === JSON.stringify(place)) return;
    place = next;
    point();
    redraw();
    const text = place === null ? "" : [said?.(place) ?? []].flat().join(", ");
    if (slider && place !== null) canvas.setAttribute("aria-valuetext", text);
    if (heard && document.activeElement === canvas) heard.textContent = text;
    if (!silent) onPlace?.(place);
  };

  if (at) {
    const found = (event) => at(event.offsetX, event.offsetY, width, tall);
    canvas.addEventListener("pointermove", (event) => setPlace(found(event)));
    canvas.addEventListener("pointerdown", (event) => setPlace(found(event)));
    canvas.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse" && document.activeElement !== canvas) setPlace(null);
    });
    if (choose)
      canvas.addEventListener("click", (event) => {
        const here = found(event);
        if (here !== null) choose(here);
      });
  }
  if (move) {
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Escape") setPlace(null);
      else if (event.key === "Enter" && place !== null) choose?.(place);
      else if (/^(Arrow|Home|End|Page)/.test(event.key)) {
        event.preventDefault();
        setPlace(move(place, event.key));
      }
    });
    canvas.addEventListener("blur", () => setPlace(null));
  }

  const resized = new ResizeObserver(([{ contentRect }]) => {
    // what it measures is known: asking the element would make the page be laid out anew
    width = Math.round(contentRect.width);
    redraw();
  });
  resized.observe(element);
  const looked = new IntersectionObserver(
    (entries) => {
      seen = entries.at(-1).isIntersecting;
      if (seen) redraw();
    },
    { rootMargin: "200px" },
  );
  looked.observe(element);
  const endTheme = onTheme(redraw);
  return {
    element,
    canvas,
    redraw,
    setPlace,
    get place() {
      return place;
    },
    /** For sliders: the range that a screen reader hears. */
    setRange(now, least, most) {
      for (const [name, value] of [
        ["now", now],
        ["min", least],
        ["max", most],
      ]) {
        if (canvas.getAttribute(`aria-value${name}`) !== String(value)) canvas.setAttribute(`aria-value${name}`, value);
      }
    },
    destroy() {
      resized.disconnect();
      looked.disconnect();
      endTheme();
      cancelAnimationFrame(asked);
      clearTimeout(timer);
    },
  };
};

/** A text on a canvas in one of the page's colours. */
export const write = (context, text, x, y, { tint = "--muted", align = "left", baseline = "middle" } = {}) => {
  context.fillStyle = colour(tint);
  context.textAlign = align;
  context.textBaseline = baseline;
  context.fillText(text, x, y);
};
