// One run, finished or going on: how far it is, its diagnosis, its curves and the values of its layers; all figures point to the same step.
import { get, post, runPath } from "./api.js";
import { makeCursor } from "./axes.js";
import { announce, button, failure, h, notice, put, putIfNew, showWhere } from "./dom.js";
import { findingsView } from "./findings.js";
import { layersView } from "./layers_view.js";
import { follow } from "./live.js";
import { runCurves } from "./run_curves.js";
import { GOING, STATES, epochsTable, makeRate, settingsLine, stepsDone, tilesOf } from "./run_facts.js";
import { belongs, makeSeries } from "./series.js";

const NOT_BEGUN = "The first step has not been taken yet: data is being read, and the learning rate looked for.";

/**
 * The view of a run.
 * @param {string} name
 * @param {object} context the shell's
 * @param {{onEnd: function(), onResume: function(), apply: function(run, change)}} actions
 * @returns {{element, end: function()}}
 */
export const runView = (name, context, { onEnd, onResume, apply }) => {
  const { run, take } = makeSeries(),
    cursor = makeCursor(),
    rate = makeRate();
  const findings = () => run.verdict?.findings ?? [];
  let detail = null, // what /api/runs/{run} said last
    connection = "",
    stopping = false,
    ended = false, // the view is closed
    wasGoing = false,
    asked = 0;
  const state = () => run.state?.state ?? detail?.state ?? "opening";
  const going = () => GOING.has(state());

  // ---------------------------------------------------------------- the parts

  const chip = h("span", { class: "chip" });
  const line = h("p", { class: "muted" });
  const stop = button("Stop", () => stopRun(), { class: "danger", hidden: true });
  const actions = h("div", { class: "actions" }, stop);
  const bar = h("progress", { max: 1, "aria-label": `Progress of ${name}`, hidden: true });
  const said = h("div");
  const tiles = h("dl", { class: "tiles" });
  const notBegun = h("p", { class: "muted" }, NOT_BEGUN);
  const curves = runCurves({ name, run, cursor, findings });
  const layers = layersView({ run, cursor, findings });
  const epochs = h("div");
  const figures = h("div", { class: "stack", hidden: true }, curves.element, layers.element, epochs);

  const layerOf = (finding) => [...run.layers.keys()].find((layer) => belongs(finding, layer)) ?? null;
  const show = (finding) => {
    const layer = layerOf(finding);
    if (layer !== null) layers.choose(layer);
    const place = layer !== null ? layers.picture : curves.placeOf(finding).place;
    showWhere(place);
    place.querySelector("canvas.drawn").focus({ preventScroll: true });
    cursor.set(finding.step);
  };
  const diagnosis = findingsView({
    show,
    apply: (change) => apply(detail, change),
    where: (finding) => (layerOf(finding) !== null ? `in layer ${layerOf(finding)}` : curves.placeOf(finding).words),
  });
  diagnosis.element.hidden = true;

  // ---------------------------------------------------------------- drawing

  const drawState = () => {
    const word = state();
    chip.className = `chip ${word === "starting" ? "running" : word}`;
    putIfNew(chip, [word, connection], () => [
      going() && h("span", { class: "dot", "aria-hidden": "true" }),
      connection === "waiting" ? "Reconnecting …" : (STATES[word] ?? word),
    ]);
    putIfNew(line, settingsLine(detail), () => settingsLine(detail));
    stop.hidden = !going() || detail?.stoppable === false;
    stop.disabled = stopping;
    putIfNew(stop, stopping, () => (stopping ? "Stopping …" : "Stop"));
    const total = run.state?.steps;
    bar.hidden = !going();
    if (total) bar.value = Math.min(1, stepsDone(run) / total);
    else bar.removeAttribute("value");
    const message = going() ? null : (run.state?.message ?? detail?.message);
    putIfNew(said, [message, word], () => message && notice(message, word === "failed" || word === "broken" ? "failed" : ""));
  };
  const tile = ([term, value, note]) => [h("dt", {}, term), h("dd", {}, value ?? "–", note && h("small", {}, note))];
  const drawTiles = () => {
    const known = tilesOf(run, detail, going(), rate(stepsDone(run)));
    known.forEach((facts, i) => putIfNew(tiles.children[i] ?? tiles.appendChild(h("div")), facts, () => tile(facts)));
  };
  const fresh = new Set(); // kinds of events since the last drawing
  const draw = () => {
    asked = 0;
    if (ended) return;
    const hasSteps = stepsDone(run) > 0;
    figures.hidden = !hasSteps;
    notBegun.hidden = hasSteps || !going();
    if (fresh.has("verdict") && run.verdict) {
      diagnosis.element.hidden = false;
      diagnosis.update(run.verdict, { live: wasGoing });
    }
    if (fresh.has("results")) put(epochs, epochsTable(run.results));
    if (hasSteps) {
      curves.update();
      layers.update();
    }
    drawState();
    drawTiles();
    fresh.clear();
  };
  const drawSoon = (kind) => {
    fresh.add(kind);
    asked ||= requestAnimationFrame(draw); // however many events come, a frame draws once
  };

  // ---------------------------------------------------------------- the server

  const onState = (event) => {
    const before = run.state?.state;
    take.state(event);
    wasGoing ||= GOING.has(event.state);
    if (event.state !== "starting" && before !== event.state) load(); // before that there is nothing to be read
    if (GOING.has(before) && !GOING.has(event.state)) announce(`${name}: ${STATES[event.state] ?? event.state}.`);
  };
  const handlers = {};
  for (const [kind, taken] of Object.entries({ ...take, state: onState })) {
    handlers[kind] = (event) => {
      taken(event);
      drawSoon(kind);
    };
  }

  const load = async () => {
    try {
      detail = await get(runPath(name));
      if (ended) return;
      const isUnfinished = ["stopped", "broken"].includes(detail.state) && detail.command === "train";
      put(
        actions,
        detail.can_inspect && h("a", { class: "button", href: context.link("inside", name) }, "Look inside"),
        h("a", { class: "button", href: context.link("compare", "runs", name) }, "Compare"),
        isUnfinished && button("Go on", goOn, { class: "primary" }),
        stop,
      );
      drawSoon("state");
    } catch (error) {
      if (!ended) fail(error);
    }
  };
  const fail = (error) => {
    put(said, failure(error));
    if (error.status !== 404) return;
    ended = true; // there is no such run
    cancelAnimationFrame(asked);
    stream.close();
    for (const part of [chip, actions, bar, tiles, notBegun]) part.hidden = true;
  };
  const goOn = async () => {
    try {
      await post(runPath(name, "resume"));
      onResume();
    } catch (error) {
      fail(error);
    }
  };
  const stopRun = async () => {
    stopping = true;
    drawState();
    try {
      await post(runPath(name, "stop"));
    } catch (error) {
      stopping = false;
      fail(error);
      drawState();
    }
  };
  const stream = follow(name, handlers, (status) => {
    if (status === "live" && connection === "waiting") put(said); // what was said while the server was away
    connection = status;
    if (status === "ended") {
      stopping = false;
      onEnd();
    } else if (status === "waiting" && !run.state) load(); // nothing came at all: perhaps there is no such run
    drawSoon("state");
  });

  const head = h("div", {}, h("div", { class: "run-name" }, h("h1", { tabindex: "-1" }, name), chip), line);
  const element = h("div", { class: "stack run-view" });
  put(element, h("div", { class: "run-head" }, head, actions), bar, said, tiles, diagnosis.element, notBegun, figures);
  drawState();
  drawTiles();
  return {
    element,
    end() {
      ended = true;
      cancelAnimationFrame(asked);
      stream.close();
      curves.end();
      layers.end();
    },
  };
};
