// Draws the charts whose values stand in the page, in the colours of the page, and again when light and dark change.
// It asks nothing of any network and keeps nothing but the choice of light or dark.
"use strict";

const convscope = {}; // what layers.js needs of this file

(() => {
  const root = document.documentElement;
  const charts = new Map(); // id -> the values beside its place
  const logarithmic = new Set(); // ids whose axis was switched

  // ---------------------------------------------------------------- colours

  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);

  const colour = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };

  // A copy of a value in which every "--name" is the colour that the page's style gives it.
  const coloured = (value) => {
    if (typeof value === "string") return value.startsWith("--") ? colour(value) : value;
    if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map(coloured);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, coloured(part)]));
    return value;
  };

  // ---------------------------------------------------------------- charts

  const touch = matchMedia("(pointer: coarse)").matches;
  const axis = { gridcolor: "--rule", zerolinecolor: "--rule", linecolor: "--rule", automargin: true, fixedrange: touch, title: { standoff: 8 } };

  const layoutOf = (chart, height, id) => {
    const layout = structuredClone(chart.layout ?? {});
    const yaxis = { ...axis, ...layout.yaxis, title: { ...axis.title, ...layout.yaxis?.title } };
    if (logarithmic.has(id)) yaxis.type = "log";
    if (yaxis.type === "log") yaxis.dtick ??= 1;
    return coloured({
      height,
      margin: { l: 52, r: 12, t: layout.annotations?.length ? 26 : 10, b: 40 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: "--muted" },
      hovermode: "x unified",
      hoverlabel: { bgcolor: "--surface", bordercolor: "--rule", font: { color: "--ink" } },
      legend: { orientation: "h", x: 0, y: -0.2, yanchor: "top", bgcolor: "rgba(0,0,0,0)" },
      dragmode: touch ? false : "zoom",
      ...layout,
      xaxis: { ...axis, ...layout.xaxis, title: { ...axis.title, ...layout.xaxis?.title } },
      yaxis,
    });
  };

  const options = { displayModeBar: false, responsive: true, showTips: false };

  const draw = (id) => {
    const place = document.getElementById(id);
    const chart = charts.get(id);
    const made = chart.kind === "confusion" ? confusion(chart, place) : { data: coloured(chart.data), layout: layoutOf(chart, chart.height, id) };
    Plotly.react(place, made.data, made.layout, options);
  };

  // ---------------------------------------------------------------- confusion matrix

  const SMALLEST_CELL_WITH_TEXT = 24; // pixels; three digits of 10 pixels fit
  const MOST_NAMES = 40; // on an axis
  const SMALLEST_CELL = 4; // pixels; smaller cells are joined, so that a single mistake among a thousand classes can still be seen

  const confusion = (chart, place) => {
    const n = chart.classes.length;
    const side = Math.min(place.clientWidth || 500, 620);
    const longest = Math.min(14, Math.max(...chart.classes.map((name) => name.length)));
    const cell = (side - 30 - 7 * longest) / n;
    const join = Math.max(1, Math.ceil(SMALLEST_CELL / cell)); // classes in a row of the picture
    const rows = Math.ceil(n / join);
    const empty = () => Array.from({ length: rows }, () => new Array(rows).fill(null));
    const right = empty(), wrong = empty(), said = { right: empty(), wrong: empty() };
    for (const [i, j, count, share] of chart.cells) {
      const [z, text] = i === j ? [right, said.right] : [wrong, said.wrong];
      const [row, column] = [Math.floor(i / join), Math.floor(j / join)];
      if ((z[row][column] ?? -1) >= share) continue; // of joined cells the one with the largest share is shown
      z[row][column] = share;
      const images = count === 1 ? "1 image" : `${count.toLocaleString("en")} images`;
      text[row][column] = `${images} of class <b>${chart.classes[i]}</b><br>answered <b>${chart.classes[j]}</b>${i === j ? " (right)" : ""}<br>${(100 * share).toFixed(2)} % of the class`;
    }
    const every = Math.ceil(n / MOST_NAMES);
    const shown = [...chart.classes.keys()].filter((i) => i % every === 0);
    const short = (name) => (name.length > 14 ? `${name.slice(0, 13)}…` : name);
    const ticks = { tickmode: "array", tickvals: shown, ticktext: shown.map((i) => short(chart.classes[i])), showgrid: false, zeroline: false, ticks: "", automargin: true, fixedrange: touch };
    const centres = Array.from({ length: rows }, (_, row) => row * join + (join - 1) / 2);
    const heat = (z, text, name, ceiling) => ({
      type: "heatmap", x: centres, y: centres, z, zmin: 0, zmax: ceiling, xgap: cell > 8 ? 1 : 0, ygap: cell > 8 ? 1 : 0, showscale: false, hoverongaps: false,
      colorscale: [[0, colour("--cell-0")], [1, colour(name)]], text, hovertemplate: "%{text}<extra></extra>",
    });
    const worst = chart.cells.reduce((most, [i, j, , share]) => (i === j ? most : Math.max(most, share)), 0) || 1;
    const data = [heat(right, said.right, "--cell-right", 1), heat(wrong, said.wrong, "--cell-wrong", worst)];
    if (cell >= SMALLEST_CELL_WITH_TEXT) {
      data.push({ type: "scatter", mode: "text", x: chart.cells.map((c) => c[1]), y: chart.cells.map((c) => c[0]), text: chart.cells.map((c) => c[2].toLocaleString("en")),
        hoverinfo: "skip", showlegend: false, textfont: { size: cell > 34 ? 12 : 10, color: colour("--ink") } });
    }
    const layout = layoutOf({ layout: {
      hovermode: "closest", showlegend: false, margin: { l: 10, r: 10, t: 10, b: 10 },
      xaxis: { ...ticks, title: { text: "answer" }, side: "bottom", range: [-0.5, n - 0.5] },
      yaxis: { ...ticks, title: { text: "true class" }, range: [n - 0.5, -0.5] },
    } }, side);
    return { data, layout };
  };

  // ---------------------------------------------------------------- the page

  const drawn = []; // functions that draw again in the colours of the moment
  Object.assign(convscope, { colour, coloured, layoutOf, options, touch, drawn });

  for (const place of document.querySelectorAll(".chart")) {
    place.textContent = "";
    charts.set(place.id, JSON.parse(document.getElementById(`${place.id}-values`).textContent));
  }
  const drawAll = () => {
    charts.forEach((_, id) => draw(id));
    drawn.forEach((again) => again());
  };

  for (const button of document.querySelectorAll("[data-logarithm]")) {
    button.addEventListener("click", () => {
      const id = button.dataset.logarithm;
      logarithmic[logarithmic.has(id) ? "delete" : "add"](id);
      button.setAttribute("aria-pressed", String(logarithmic.has(id)));
      draw(id);
    });
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch { // a page opened from a file may not be allowed to: select the text instead
        getSelection().selectAllChildren(source);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }

  const system = matchMedia("(prefers-color-scheme: dark)");
  const theme = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const remembered = (value) => { // storage may be forbidden for files
    try {
      if (value) localStorage.setItem("convscope-theme", value);
      return localStorage.getItem("convscope-theme");
    } catch {
      return null;
    }
  };
  const repaint = () => {
    theme.textContent = isDark() ? "Light mode" : "Dark mode";
    drawAll();
  };
  const chosen = remembered();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remembered(root.dataset.theme);
    repaint();
  });
  system.addEventListener("change", repaint);
  addEventListener("beforeprint", drawAll);
  addEventListener("afterprint", drawAll);
  repaint();
})();
