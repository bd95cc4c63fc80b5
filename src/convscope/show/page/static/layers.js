// Small pictures of layers; and their explorer: one of them large, with the histogram and the numbers of the step under the pointer.
"use strict";

(() => {
  const { colour, coloured, layoutOf, options, touch, drawn } = convscope;
  const by = (id) => document.getElementById(id);

  // ---------------------------------------------------------------- colours and words

  const channels = (name) => colour(name).match(/[\d.]+/g).slice(0, 3).map(Number);
  const heat = () => ["--heat-0", "--heat-1", "--heat-2", "--heat-3"].map(channels);
  // Elements on a logarithmic scale, from 0 (none) to 1 (all that were looked at), as in fastai's colour_dim.
  const darkness = (count, samples) => (count ? Math.log1p(count) / Math.log1p(samples) : 0);
  const mix = (stops, at) => {
    const place = Math.min(at, 1) * (stops.length - 1), low = Math.min(Math.floor(place), stops.length - 2);
    return stops[low].map((part, i) => part + (stops[low + 1][i] - part) * (place - low));
  };
  const short = (value) => {
    if (value === null) return "–";
    const tiny = value !== 0 && Math.abs(value) < 1e-4;
    return (tiny ? value.toExponential(2) : String(Number(value.toPrecision(3)))).replace("-", "−");
  };
  const steps = (layer, i) => (layer.first[i] === layer.last[i] ? `step ${layer.last[i].toLocaleString("en")}` : `steps ${layer.first[i].toLocaleString("en")}–${layer.last[i].toLocaleString("en")}`);
  const percent = (share) => { // never 100 % or 0 % when it is not quite that
    if (share === null) return "–";
    if (share === 0 || share === 1) return `${100 * share} %`;
    return share > 0.9995 ? "over 99.9 %" : share < 0.0005 ? "under 0.1 %" : `${(100 * share).toFixed(1)} %`;
  };
  const plain = (text) => new DOMParser().parseFromString(text, "text/html").documentElement.textContent; // names are escaped for plotly
  const middle = (layer) => layer.edges.findIndex((edge) => edge > 0) - 1; // the row of the values near zero
  const bandName = (layer, row) => (row === middle(layer) ? `|x| < ${short(layer.edges[row + 1])}` : `${short(layer.edges[row])} to ${short(layer.edges[row + 1])}`);

  // ---------------------------------------------------------------- small pictures

  // Paints one pixel for each cell: a layer's bands over its columns, positive values above.
  const paint = (canvas, width, height, shade) => {
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    for (let x = 0; x < width; x += 1)
      for (let y = 0; y < height; y += 1) image.data.set([...shade(x, y), 255], 4 * (y * width + x));
    context.putImageData(image, 0, 0);
    return context;
  };

  // A picture of each layer with its name and findings: buttons when there is something to do with a chosen one.
  const thumbnails = (container, layers, onChoose) => layers.map((layer, place) => {
    const element = document.createElement(onChoose ? "button" : "div");
    const name = plain(layer.name) || "(whole)";
    const found = layer.marks.map((mark) => `${plain(mark.name)} from step ${mark.step}`).join("; ");
    element.setAttribute("aria-label", `Layer ${name}, ${layer.type}${found ? `: ${found}` : ""}`);
    if (onChoose) {
      element.type = "button";
      element.addEventListener("click", () => onChoose(place));
    } else element.setAttribute("role", "img");
    const canvas = document.createElement("canvas");
    const of = document.createElement("span");
    of.className = "of";
    const text = document.createElement("span");
    const kind = document.createElement("span");
    kind.className = "kind";
    kind.textContent = ` ${layer.type}`;
    text.append(name, kind);
    of.append(text);
    for (const mark of layer.marks) {
      const badge = document.createElement("span");
      badge.className = `badge ${mark.severity}`;
      badge.textContent = mark.place;
      of.append(badge);
    }
    element.append(canvas, of);
    container.append(element);
    return { element, canvas };
  });

  const columnOf = (layer, step) => {
    const found = layer.last.findIndex((last) => last >= step);
    return found < 0 ? layer.last.length - 1 : found;
  };

  const drawThumbnails = (made, layers) => {
    const stops = heat();
    layers.forEach((layer, place) => {
      const height = layer.edges.length - 1;
      const context = paint(made[place].canvas, layer.counts.length, height, (x, y) => mix(stops, darkness(layer.counts[x][height - 1 - y], layer.samples[x])));
      for (const mark of layer.marks) {
        context.fillStyle = colour(`--${mark.severity}`);
        context.fillRect(columnOf(layer, mark.step), 0, Math.max(1, layer.counts.length / 120), height);
      }
    });
  };

  for (const strip of document.querySelectorAll("[data-strip]")) {
    const { layers } = JSON.parse(by(strip.dataset.strip).textContent);
    const made = thumbnails(strip, layers);
    const draw = () => drawThumbnails(made, layers);
    drawn.push(draw);
    draw();
  }

  const source = by("layers-values");
  if (!source) return;
  const { layers } = JSON.parse(source.textContent);
  const slider = by("layer-step");
  const firstMark = (layer) => Math.min(...layer.marks.map((mark) => mark.place));
  let chosen = layers.reduce((best, layer, place) => (firstMark(layer) < firstMark(layers[best]) ? place : best), 0); // where the first finding is
  let column = 0;

  // ---------------------------------------------------------------- the chosen layer

  const ticks = (layer) => {
    const rows = layer.edges.length - 1, every = 2 * Math.ceil(rows / 18); // two bands are an octave
    const zero = middle(layer);
    const at = [], text = [];
    for (let edge = 0; edge < layer.edges.length; edge += 1) {
      const away = edge <= zero ? zero - edge : edge - zero - 1; // bands between this edge and the middle row
      if (away >= 0 && away % every === 0 && (away || every < 3)) {
        at.push(edge - 0.5);
        text.push(short(layer.edges[edge]));
      }
    }
    return { tickmode: "array", tickvals: [...at, zero], ticktext: [...text, "0"], range: [-0.5, rows - 0.5], showgrid: false, zeroline: false, fixedrange: true };
  };

  const drawPicture = () => {
    const layer = layers[chosen];
    const rows = layer.edges.length - 1;
    const z = Array.from({ length: rows }, (_, row) => layer.counts.map((counts, i) => darkness(counts[row], layer.samples[i])));
    const said = Array.from({ length: rows }, (_, row) => layer.counts.map((counts, i) =>
      `${steps(layer, i)}<br>${bandName(layer, row).replace("<", "&lt;")}: ${counts[row].toLocaleString("en")} of ${layer.samples[i].toLocaleString("en")} values`));
    const stops = heat().map((rgb, i) => [i / 3, `rgb(${rgb.join(",")})`]);
    const data = [{ type: "heatmap", x: layer.last, z, zmin: 0, zmax: 1, colorscale: stops, showscale: false, text: said, hovertemplate: "%{text}<extra></extra>" }];
    const upright = { type: "line", xref: "x", yref: "paper", y0: 0, y1: 1 };
    const lines = layer.marks.map((mark) => ({ ...upright, x0: mark.step, x1: mark.step, line: { color: `--${mark.severity}`, width: 1.5, dash: "dot" } }));
    const cursor = { ...upright, x0: layer.last[column], x1: layer.last[column], line: { color: "--ink", width: 1 } };
    const badges = layer.marks.map((mark) => ({
      x: mark.step, y: 1, xref: "x", yref: "paper", yanchor: "bottom", showarrow: false, text: String(mark.place), hovertext: `${mark.place}. ${mark.name}`,
      bgcolor: `--${mark.severity}`, borderpad: 3, font: { color: "--on-badge", size: 11 },
    }));
    const layout = layoutOf({ layout: { hovermode: "closest", showlegend: false, shapes: [...lines, cursor], annotations: badges,
      xaxis: { title: { text: "step" }, showgrid: false, zeroline: false, fixedrange: true }, yaxis: { ...ticks(layer), title: { text: "value" } } } }, 320);
    layout.margin.t = 26;
    layout.dragmode = false;
    Plotly.react("layer-picture", coloured(data), layout, options);
  };

  const drawHistogram = () => {
    const layer = layers[chosen];
    const rows = [...layer.counts[column].keys()];
    const share = layer.counts[column].map((count) => count / (layer.samples[column] || 1));
    const said = rows.map((row) => `${bandName(layer, row).replace("<", "&lt;")}: ${layer.counts[column][row].toLocaleString("en")} values, ${(100 * share[row]).toFixed(2)} %`);
    const data = [{ type: "bar", orientation: "h", x: share, y: rows, marker: { color: "--series-1" }, text: said, textposition: "none", hovertemplate: "%{text}<extra></extra>" }];
    const layout = layoutOf({ layout: { hovermode: "closest", showlegend: false, bargap: 0.12,
      xaxis: { title: { text: `share, ${steps(layer, column)}` }, tickformat: ".0%", rangemode: "tozero", fixedrange: true, nticks: 4 }, yaxis: ticks(layer) } }, 320);
    layout.margin.t = 26;
    layout.dragmode = false;
    Plotly.react("layer-histogram", coloured(data), layout, options);
  };

  const drawNumbers = () => {
    const layer = layers[chosen];
    const i = column;
    const parts = [`from ${short(layer.least[i])} to ${short(layer.greatest[i])}`, `near zero ${percent(layer.near[i])}`, `exactly zero ${percent(layer.zero[i])}`];
    if (layer.nan[i]) parts.push(`NaN ${layer.nan[i].toLocaleString("en")}`);
    if (layer.inf[i]) parts.push(`infinite ${layer.inf[i].toLocaleString("en")}`);
    const dead = layer.channels && layer.images[i] ? ` ${layer.silent[i].length} of ${layer.channels} channels were not positive once in the ${layer.images[i].toLocaleString("en")} images last looked at.` : "";
    const said = steps(layer, i);
    const moments = `mean ${short(layer.mean[i])}, spread ${short(layer.std[i])}`;
    by("layer-numbers").textContent = `${said[0].toUpperCase()}${said.slice(1)}: ${moments}. Of ${layer.samples[i].toLocaleString("en")} values looked at: ${parts.join(", ")}.${dead}`;
  };

  // The map of channels that were never positive, for layers where there is one.
  const drawMap = () => {
    const layer = layers[chosen];
    const shown = layer.channels > 0 && layer.images.some(Boolean) && layer.silent.some((channelsOfColumn) => channelsOfColumn.length);
    by("layer-map").hidden = !shown;
    if (!shown) return;
    const silent = layer.silent.map((list) => new Set(list));
    const [dead, alive, unknown] = [channels("--cell-wrong"), channels("--heat-1"), channels("--ground")];
    const canvas = by("layer-channels");
    paint(canvas, layer.silent.length, layer.channels, (x, y) => (!layer.images[x] ? unknown : silent[x].has(y) ? dead : alive));
    canvas.style.height = `${Math.min(Math.max(layer.channels * 4, 32), 160)}px`;
    by("layer-channels-caption").textContent = `Channels from top to bottom, steps from left to right. Orange: the channel was not positive once when it was last looked at, over ${layer.images.at(-1).toLocaleString("en")} images at the end. Blank: not looked at yet.`;
  };

  const drawMoments = () => {
    const layer = layers[chosen];
    const line = (y, name, tint, axis) => ({ type: "scatter", mode: "lines", x: layer.last, y, name, yaxis: axis, line: { color: tint, width: 1.5 }, hovertemplate: `${name} %{y:.4g}<extra></extra>` });
    const data = [line(layer.mean, "mean", "--series-1", "y"), line(layer.std, "spread", "--series-2", "y"), line(layer.near, "share near zero", "--series-3", "y2")];
    const layout = layoutOf({ layout: { xaxis: { title: { text: "step" } }, yaxis: { title: { text: "mean, spread" } },
      yaxis2: { overlaying: "y", side: "right", range: [0, 1.02], tickmode: "array", tickvals: [0, 0.5, 1], ticktext: ["0", "50 %", "100 %"], showgrid: false, title: { text: "near zero" }, fixedrange: touch } } }, 240);
    layout.margin.r = 56;
    Plotly.react("layer-moments", coloured(data), layout, options);
  };

  const show = (at) => {
    const last = layers[chosen].counts.length - 1;
    column = Math.max(0, Math.min(at, last));
    slider.value = column;
    slider.setAttribute("aria-valuetext", steps(layers[chosen], column));
    drawHistogram();
    drawNumbers();
    const shapes = by("layer-picture").layout?.shapes;
    if (shapes?.length) {
      const x = layers[chosen].last[column];
      Plotly.relayout("layer-picture", { [`shapes[${shapes.length - 1}].x0`]: x, [`shapes[${shapes.length - 1}].x1`]: x });
    }
  };

  const choose = (place) => {
    const step = layers[chosen].last[column];
    chosen = place;
    column = columnOf(layers[chosen], step);
    drawLayer();
  };

  const drawLayer = () => {
    const layer = layers[chosen];
    pictures.forEach(({ element }, place) => element.setAttribute("aria-pressed", String(place === chosen)));
    by("layer-name").textContent = `Layer ${plain(layer.name) || "(whole)"}, ${layer.type}`;
    slider.max = layer.counts.length - 1;
    drawPicture();
    drawMap();
    drawMoments();
    show(column);
  };

  const pictures = thumbnails(document.querySelector("#layers-explorer .thumbnails"), layers, choose);
  const drawAll = () => {
    drawThumbnails(pictures, layers);
    drawLayer();
  };

  column = layers[chosen].marks.length ? columnOf(layers[chosen], layers[chosen].marks[0].step) : layers[chosen].counts.length - 1;
  drawAll();
  drawn.push(drawAll);
  for (const link of document.querySelectorAll("[data-layer]")) {
    link.addEventListener("click", () => {
      choose(Number(link.dataset.layer));
      if (layers[chosen].marks.length) show(columnOf(layers[chosen], layers[chosen].marks[0].step));
    });
  }
  slider.addEventListener("input", () => show(Number(slider.value)));
  by("layer-picture").on("plotly_hover", (event) => show(event.points[0].pointIndex[1]));
  by("layer-picture").on("plotly_click", (event) => show(event.points[0].pointIndex[1]));
})();
