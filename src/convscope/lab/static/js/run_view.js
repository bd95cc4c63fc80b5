// One run, finished or going on: how far it is, its diagnosis, its curves and the values of its layers; all figures point to the same step.
import { get, post, runPath } from "./api.js";
import { makeCursor } from "./axes.js";
import { announce, button, failure, h, notice, put, putIfNew, showWhere, table } from "./dom.js";
import { findingsView } from "./findings.js";
import { layersView } from "./layers_view.js";
import { lineChart, logarithmicButton, reachOf, smoothed } from "./lines.js";
import { follow } from "./live.js";
import { belongs, makeSeries, marksOf } from "./series.js";
import { chosen, count, duration, figure, percent, plural, setting, words } from "./words.js";

const GOING = new Set(["starting", "running"]);
const STATES = { starting: "Starting", running: "Training", finished: "Finished", stopped: "Stopped", failed: "Failed", broken: "Cut off" };

/**
 * The view of a run.
 * @param {string} name
 * @param {object} context the shell's
 * @param {{onEnd: function(), onResume: function(), apply: function(run, change)}} actions
 * @returns {{element, end: function()}}
 */
export const runView = (name, context, { onEnd, onResume, apply }) => {
  const { run, take } = makeSeries();
  const cursor = makeCursor();
  const heading = h("h1", { tabindex: "-1" }, name);
  const chip = h("span", { class: "chip" });
  const stop = button("Stop", () => stopRun(), { class: "danger", hidden: true });
  const lead = h("p", { class: "muted", role: "status" });
  const bar = h("progress", { max: 1, "aria-label": `Progress of ${name}`, hidden: true });
  const tiles = h("dl", { class: "tiles" });
  const said = h("div");
  const actions = h("div", { class: "actions" });
  let detail = null,
    connection = "",
    stopping = false,
    asked = 0,
    ended = false,
    wasGoing = false;

  // ---------------------------------------------------------------- figures

  const findings = () => run.verdict?.findings ?? [];
  const firstProblem = () =>
    findings().reduce((first, { severity, step }) => (severity === "problem" && (first === null || step < first) ? step : first), null);
  const lossLines = () => {
    const { step, first, loss } = run.steps,
      reach = reachOf(loss.length);
    const valid = run.results.filter((row) => row.valid_loss !== undefined);
    return [
      { name: "loss", first, x: step, y: loss, tint: "--series-1-soft", width: 1.2 },
      { name: `mean of ${2 * reach + 1}`, x: step, y: smoothed(loss, reach), tint: "--series-1", heard: reach > 0 },
      {
        name: "validation loss",
        x: valid.map((row) => row.steps - 1),
        y: valid.map((row) => row.valid_loss),
        tint: "--series-2",
        dots: true,
      },
    ];
  };
  const loss = lineChart({
    label: `Loss of ${name} over the steps`,
    height: (width) => (width < 500 ? 240 : 320),
    lines: lossLines,
    marks: () => marksOf(findings()),
    shade: firstProblem,
    cursor,
  });
  const small = (title, key, tint, more = {}) => {
    const chart = lineChart({
      label: `${title} of ${name} over the steps`,
      height: 190,
      cursor,
      lines: () => [
        { name: title.toLowerCase(), first: run.steps.first, x: run.steps.step, y: run.steps[key], tint, width: 1.6, bridge: true },
      ],
      ...more,
    });
    const place = h(
      "section",
      { class: "panel", "aria-label": title },
      h("div", { class: "chart-head" }, h("h3", {}, title)),
      chart.element,
    );
    return { key, title, chart, place };
  };
  const others = [
    small("Learning rate", "lr", "--series-1"),
    small("Momentum", "momentum", "--series-2"),
    small("Gradient norm", "gradient_norm", "--series-3", {
      marks: () => marksOf(findings()).filter(({ name: rule }) => /gradient|explod/.test(rule)),
    }),
  ];
  others[2].chart.setLogarithmic(true);
  const layers = layersView({ run, cursor, findings });

  const logarithmic = logarithmicButton(loss, () => run.steps.loss);
  const legend = h(
    "ul",
    { class: "legend" },
    [
      ["Training loss", "--series-1-soft"],
      ["smoothed", "--series-1"],
      ["Validation loss", "--series-2"],
    ].map(([text, tint]) => h("li", {}, h("span", { class: "swatch", style: { background: `var(${tint})` } }), text)),
  );
  const lossPanel = h(
    "section",
    { class: "panel", "aria-label": "Loss" },
    h("div", { class: "chart-head" }, h("h3", {}, "Loss"), logarithmic.element),
    loss.element,
    legend,
  );
  const epochs = h("div");
  const waitingFor = h(
    "p",
    { class: "muted" },
    "The first step has not been taken yet: data is being read, and the learning rate looked for.",
  );
  const constants = h("p", { class: "muted", hidden: true });
  const curves = h(
    "div",
    { class: "stack", hidden: true },
    lossPanel,
    h(
      "div",
      { class: "small-charts" },
      others.map(({ place }) => place),
    ),
    constants,
    layers.element,
    epochs,
  );

  // ---------------------------------------------------------------- findings

  const layerOf = (finding) => [...run.layers.keys()].find((layer) => belongs(finding, layer)) ?? null;
  const show = (finding) => {
    const layer = layerOf(finding),
      gradient = others[2];
    if (layer !== null) layers.choose(layer);
    cursor.set(finding.step);
    const place = layer !== null ? layers.picture : /gradient/.test(finding.name) && !gradient.place.hidden ? gradient.place : lossPanel;
    showWhere(place);
    place.querySelector("canvas.drawn")?.focus({ preventScroll: true });
    cursor.set(finding.step);
  };
  const diagnosis = findingsView({
    show,
    apply: (change) => apply(detail, change),
    where: (finding) =>
      layerOf(finding) !== null ? `in layer ${layerOf(finding)}` : /gradient/.test(finding.name) ? "in the gradient" : "on the loss",
  });
  diagnosis.element.hidden = true;

  // ---------------------------------------------------------------- words and numbers

  const state = () => run.state?.state ?? detail?.state ?? "running";
  const going = () => GOING.has(state());
  const last = (column) => run.steps[column].findLast((value) => value !== null) ?? null;
  const rate = { at: 0, step: 0, perSecond: null }; // steps a second while this page looks on
  const measure = () => {
    const now = performance.now(),
      step = run.steps.step.at(-1) ?? 0;
    if (!rate.at || step < rate.step) Object.assign(rate, { at: now, step });
    else if (now - rate.at > 2_000 && step > rate.step) {
      const seen = (1000 * (step - rate.step)) / (now - rate.at);
      Object.assign(rate, { at: now, step, perSecond: rate.perSecond === null ? seen : 0.6 * rate.perSecond + 0.4 * seen });
    }
  };
  const known = () => {
    const result = detail?.config?.result ?? {},
      row = run.results.at(-1),
      done = (run.steps.step.at(-1) ?? -1) + 1,
      total = run.state?.steps;
    const left = going() && total && rate.perSecond ? (total - done) / rate.perSecond : null;
    const accuracy = row?.metrics?.accuracy ?? result.accuracy ?? null;
    return [
      ["Accuracy", accuracy !== null ? percent(accuracy) : null, row ? `after ${plural(row.epoch, "epoch")}` : null],
      ["Training loss", figure(last("loss")), null],
      ["Validation loss", row ? figure(row.valid_loss) : null, null],
      [going() ? "Step" : "Steps", done ? count(done) : null, going() && total ? `of ${count(total)}` : null],
      going()
        ? [
            "Time left",
            left === null ? null : duration(left),
            rate.perSecond ? `${chosen(Number(rate.perSecond.toPrecision(2)))} steps a second` : null,
          ]
        : [
            "Time",
            result.seconds ? duration(result.seconds) : null,
            detail?.config?.device?.name ? `on ${detail.config.device.name}` : null,
          ],
      [
        "Learning rate",
        last("lr") !== null ? chosen(going() ? last("lr") : (detail?.config?.train?.lr ?? Math.max(...run.steps.lr))) : null,
        going() ? "at this step" : detail?.config?.train?.lr_source === "finder" ? "at most; found by the finder" : "at most",
      ],
    ];
  };
  const tile = (term, value, note) => [h("dt", {}, term), h("dd", {}, value ?? "–", note && h("small", {}, note))];
  const drawWords = () => {
    const word = state();
    chip.className = `chip ${word === "starting" ? "running" : word}`;
    putIfNew(chip, [word, connection], () => [
      going() && h("span", { class: "dot", "aria-hidden": "true" }),
      connection === "waiting" ? "Reconnecting …" : (STATES[word] ?? word),
    ]);
    stop.hidden = !going() || detail?.stoppable === false;
    stop.disabled = stopping;
    putIfNew(stop, stopping, () => (stopping ? "Stopping …" : "Stop"));
    const done = (run.steps.step.at(-1) ?? -1) + 1,
      total = run.state?.steps;
    bar.hidden = !going();
    if (total) bar.value = Math.min(1, done / total);
    else bar.removeAttribute("value");
    known().forEach((facts, i) => putIfNew(tiles.children[i] ?? tiles.appendChild(h("div")), facts, () => tile(...facts)));
    const message = going() ? null : (run.state?.message ?? detail?.message);
    putIfNew(said, [message, word], () => message && notice(message, word === "failed" || word === "broken" ? "failed" : ""));
    const facts = detail?.config
      ? [
          detail.model,
          detail.data,
          detail.config.train?.batch_size && `batches of ${count(detail.config.train.batch_size)}`,
          detail.config.train?.schedule && setting(detail.config.train.schedule),
          detail.config.model?.arguments?.norm === false && "no batch norm",
          detail.config.train?.seed !== undefined && `seed ${detail.config.train.seed}`,
        ]
      : [];
    putIfNew(lead, facts, () => facts.filter(Boolean).join(" · "));
  };
  const drawEpochs = () => {
    if (!run.results.length) return put(epochs);
    const metrics = [...new Set(run.results.flatMap((row) => Object.keys(row.metrics ?? {})))];
    const title = (metric) => words(metric).replace(/^./, (letter) => letter.toUpperCase());
    put(
      epochs,
      table(
        "Losses and metrics at the end of each epoch",
        ["Epoch", "Steps done", "Training loss", "Validation loss", ...metrics.map(title), "Time"],
        run.results.map((row) => [
          count(row.epoch),
          count(row.steps),
          figure(row.train_loss),
          figure(row.valid_loss),
          ...metrics.map((metric) => (/accuracy/.test(metric) ? percent(row.metrics[metric]) : figure(row.metrics[metric]))),
          duration(row.seconds),
        ]),
        [0, 1, 2, 3, ...metrics.map((_, i) => 4 + i), 4 + metrics.length],
      ),
    );
  };

  const drawOthers = () => {
    // what is the same at every step is a sentence, not a chart
    const same = [];
    for (const { key, title, chart, place } of others) {
      const held = run.steps[key].filter((value) => value !== null);
      const constant = held.length > 0 && held.every((value) => value === held[0]);
      if (constant) same.push(`${title.toLowerCase()} ${chosen(held[0])}`);
      place.hidden = !held.length || constant;
      chart.redraw();
    }
    constants.hidden = !same.length;
    constants.textContent = `The same at every step: ${same.join(", ")}.`;
  };

  // ---------------------------------------------------------------- events, drawn at most once a frame

  const fresh = new Set();
  const flush = () => {
    asked = 0;
    if (ended) return;
    const has = run.steps.step.length > 0;
    curves.hidden = !has;
    waitingFor.hidden = has || !going();
    measure();
    if (fresh.has("verdict") && run.verdict) {
      diagnosis.element.hidden = false;
      diagnosis.update(run.verdict, { live: wasGoing });
    }
    if (fresh.has("results")) drawEpochs();
    if (has) {
      drawOthers();
      logarithmic.suit();
      loss.redraw();
      layers.update();
    }
    drawWords();
    fresh.clear();
  };
  const later = (kind) => {
    fresh.add(kind);
    asked ||= requestAnimationFrame(flush);
  };
  const handlers = Object.fromEntries(
    Object.keys(take).map((kind) => [
      kind,
      (event) => {
        const before = run.state?.state;
        take[kind](event);
        wasGoing ||= GOING.has(run.state?.state);
        if (kind === "state" && event.state !== "starting" && before !== event.state) load(); // before that there is nothing to be read
        if (kind === "state" && before && GOING.has(before) && !GOING.has(event.state))
          announce(`${name}: ${STATES[event.state] ?? event.state}.`);
        later(kind);
      },
    ]),
  );
  const load = async () => {
    try {
      detail = await get(runPath(name));
      if (ended) return;
      put(
        actions,
        detail.can_inspect && h("a", { class: "button", href: context.link("inside", name) }, "Look inside"),
        h("a", { class: "button", href: context.link("compare", "runs", name) }, "Compare"),
        ["stopped", "broken"].includes(detail.state) && detail.command === "train" && button("Go on", goOn, { class: "primary" }),
        stop,
      );
    } catch (error) {
      if (ended) return;
      if (error.status === 404) {
        stream.close();
        connection = "ended";
        heading.nextElementSibling.hidden = tiles.hidden = bar.hidden = waitingFor.hidden = true;
      }
      put(actions);
      put(said, failure(error));
      return;
    }
    later("state");
  };
  const goOn = async () => {
    try {
      await post(runPath(name, "resume"));
      onResume();
    } catch (error) {
      put(said, failure(error));
    }
  };
  const stream = follow(name, handlers, (status) => {
    connection = status;
    if (status === "ended") {
      stopping = false;
      onEnd();
    } else if (status === "waiting" && !run.state) load(); // no stream at all: perhaps there is no such run
    later("state");
  });
  const stopRun = async () => {
    stopping = true;
    drawWords();
    try {
      await post(runPath(name, "stop"));
    } catch (error) {
      stopping = false;
      put(said, failure(error));
    }
  };

  put(actions, stop);
  const element = h(
    "div",
    { class: "stack run-view" },
    h("div", { class: "run-head" }, h("div", {}, h("div", { class: "run-name" }, heading, chip), lead), actions),
    bar,
    said,
    tiles,
    diagnosis.element,
    waitingFor,
    curves,
  );
  drawWords();
  return {
    element,
    end() {
      ended = true;
      cancelAnimationFrame(asked);
      stream.close();
      loss.end();
      for (const { chart } of others) chart.end();
      layers.end();
    },
  };
};
