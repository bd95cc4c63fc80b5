// What is known of a run as words and numbers. Pure functions of its series and of what /api/runs/{run} says (null while that is not known).
import { table } from "./dom.js";
import { chosen, count, duration, figure, percent, plural, setting, words } from "./words.js";

export const GOING = new Set(["starting", "running"]);
export const STATES = {
  opening: "Opening …",
  starting: "Starting",
  running: "Training",
  finished: "Finished",
  stopped: "Stopped",
  failed: "Failed",
  broken: "Cut off",
};

/** Steps taken so far. */
export const stepsDone = (run) => (run.steps.step.at(-1) ?? -1) + 1;

const last = (run, column) => run.steps[column].findLast((value) => value !== null) ?? null;

const timeLeft = (run, perSecond) => {
  const total = run.state?.steps;
  const left = total && perSecond ? duration((total - stepsDone(run)) / perSecond) : null;
  return ["Time left", left, perSecond ? `${chosen(Number(perSecond.toPrecision(2)))} steps a second` : null];
};

const timeTaken = ({ config } = {}) => [
  "Time",
  config?.result?.seconds ? duration(config.result.seconds) : null,
  config?.device?.name ? `on ${config.device.name}` : null,
];

const rateOf = (run, train, going) => {
  const now = last(run, "lr");
  if (going || now === null) return ["Learning rate", now === null ? null : chosen(now), going ? "at this step" : null];
  const most = train?.lr ?? Math.max(...run.steps.lr);
  return ["Learning rate", chosen(most), train?.lr_source === "finder" ? "at most; found by the finder" : "at most"];
};

/** The tiles: [name, value or null, note or null]. */
export const tilesOf = (run, detail, going, perSecond) => {
  const row = run.results.at(-1),
    done = stepsDone(run),
    total = run.state?.steps;
  const accuracy = row?.metrics?.accuracy ?? detail?.config?.result?.accuracy ?? null;
  return [
    ["Accuracy", accuracy === null ? null : percent(accuracy), row ? `after ${plural(row.epoch, "epoch")}` : null],
    ["Training loss", figure(last(run, "loss")), null],
    ["Validation loss", row ? figure(row.valid_loss) : null, null],
    [going ? "Step" : "Steps", done ? count(done) : null, going && total ? `of ${count(total)}` : null],
    going ? timeLeft(run, perSecond) : timeTaken(detail ?? {}),
    rateOf(run, detail?.config?.train, going),
  ];
};

/** The settings that matter most, in a line. */
export const settingsLine = (detail) => {
  const { train, model } = detail?.config ?? {};
  if (!train) return "";
  const said = [
    detail.model,
    detail.data,
    train.batch_size && `batches of ${count(train.batch_size)}`,
    train.schedule && setting(train.schedule),
    model?.arguments?.norm === false && "no batch norm",
    train.seed !== undefined && `seed ${train.seed}`,
  ];
  return said.filter(Boolean).join(" · ");
};

/** The results of each epoch as a table, or null. */
export const epochsTable = (results) => {
  if (!results.length) return null;
  const metrics = [...new Set(results.flatMap((row) => Object.keys(row.metrics ?? {})))];
  const title = (metric) => words(metric).replace(/^./, (letter) => letter.toUpperCase());
  const cell = (metric, value) => (/accuracy/.test(metric) ? percent(value) : figure(value));
  const head = ["Epoch", "Steps done", "Training loss", "Validation loss", ...metrics.map(title), "Time"];
  const rows = results.map((row) => [
    count(row.epoch),
    count(row.steps),
    figure(row.train_loss),
    figure(row.valid_loss),
    ...metrics.map((metric) => cell(metric, row.metrics[metric])),
    duration(row.seconds),
  ]);
  return table("Losses and metrics at the end of each epoch", head, rows, [...head.keys()]);
};

const MEASURED_EVERY = 2_000; // milliseconds; events come in bursts
const NEW = 0.4; // share of the newest measurement in the rate that is shown

/** How many steps a second are taken while this page looks on: `measure(steps)` returns it, or null while that is not known. */
export const makeRate = () => {
  let at = null,
    before = 0,
    perSecond = null;
  return (step) => {
    const now = performance.now();
    if (at === null || step < before) [at, before] = [now, step];
    else if (now - at > MEASURED_EVERY && step > before) {
      const seen = (1000 * (step - before)) / (now - at);
      perSecond = perSecond === null ? seen : (1 - NEW) * perSecond + NEW * seen;
      [at, before] = [now, step];
    }
    return perSecond;
  };
};
