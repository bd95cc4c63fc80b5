// What is known of a run: the events of its live stream gathered into series that can be drawn. It draws nothing.
// A row is a span of steps, from `first` to `step`. A row that comes again, with the same first step, has grown; `restart` begins anew.

const STEPS = ["first", "step", "loss", "loss_low", "loss_high", "lr", "momentum", "gradient_norm"];
const LAYER = ["first", "step", "mean", "std", "near_zero", "nan", "inf"];

/** Appends an event's columns to those that are there; returns how many old ones stay. */
const append = (columns, names, event) => {
  const keep = event.restart ? 0 : firstFrom(columns.first, event.first[0]);
  for (const name of names) {
    columns[name].length = keep;
    columns[name].push(...(event[name] ?? event.step.map(() => null)));
  }
  return keep;
};

/** The first place in a sorted list whose value is at least `value`; quick near the end. */
const firstFrom = (sorted, value) => {
  let place = sorted.length;
  while (place > 0 && sorted[place - 1] >= value) place -= 1;
  return place;
};

const columnsOf = (names) => Object.fromEntries(names.map((name) => [name, []]));

/** A layer of which nothing is known but its name and kind. `version` changes whenever columns that are there change. */
export const emptyLayer = (name, kind = "") => ({ name, kind, ...columnsOf(LAYER), counts: [], samples: [], edges: [], version: 0 });

/** Takes a `layers` event into a layer. */
export const extendLayer = (layer, event) => {
  const before = layer.first.length,
    { counts, samples, edges } = event.color_dim;
  const keep = append(layer, LAYER, event);
  if (event.restart) layer.version += 1;
  layer.edges = edges;
  layer.kind = event.kind ?? layer.kind;
  layer.counts.length = layer.samples.length = keep;
  layer.counts.push(...counts);
  layer.samples.push(...samples);
  layer.changed = Math.min(layer.changed ?? Infinity, keep, before); // the first column that has to be painted again
  return layer;
};

/** The column of a layer that holds a step, the last one when the step lies behind it. */
export const columnOf = (layer, step) => Math.min(firstFrom(layer.step, step), layer.step.length - 1);

/** Whether a finding is about this layer or one of its parameters. */
export const belongs = (finding, name) =>
  Boolean(finding.where) &&
  (finding.where === name || (finding.where.startsWith(`${name}.`) && !finding.where.slice(name.length + 1).includes(".")));

/** The findings as marks on a figure: all of them, or those of a layer, numbered in their order. */
export const marksOf = (findings, name = null) =>
  findings
    .map((finding, i) => ({ place: i + 1, step: finding.step, severity: finding.severity, name: finding.name, finding }))
    .filter(({ finding }) => name === null || belongs(finding, name));

/** A run's series, and what takes the events of its stream into them. */
export const makeSeries = () => {
  const run = { steps: columnsOf(STEPS), layers: new Map(), results: [], verdict: null, state: null };
  const take = {
    steps(event) {
      append(run.steps, STEPS, event);
    },
    layers(event) {
      if (!run.layers.has(event.layer)) run.layers.set(event.layer, emptyLayer(event.layer, event.kind));
      extendLayer(run.layers.get(event.layer), event);
    },
    results(event) {
      run.results = event.rows;
    },
    verdict(event) {
      run.verdict = event;
    },
    state(event) {
      run.state = event;
    },
  };
  return { run, take };
};
