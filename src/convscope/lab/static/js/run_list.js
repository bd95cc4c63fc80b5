// The list of runs, the newest first.
import { get } from "./api.js";
import { failure, h, put } from "./dom.js";
import { SIGNS, WORDS } from "./findings.js";
import { percent, plural, when } from "./words.js";

const STATES = { starting: "starting", running: "running", finished: "", stopped: "stopped", failed: "failed", broken: "cut off" };

const row = (run, link, opened) => {
  const facts = [
    run.data?.split(/[\\/]/).at(-1),
    run.accuracy !== null && run.accuracy !== undefined ? percent(run.accuracy) : null,
    run.epochs_done ? plural(run.epochs_done, "epoch") : null,
  ].filter(Boolean);
  const state = STATES[run.state] ?? run.state;
  return h(
    "li",
    {},
    h(
      "a",
      { href: link("train", run.run), "aria-current": run.run === opened ? "true" : null },
      h(
        "span",
        { class: "of-run" },
        h("b", {}, run.run),
        state
          ? h(
              "span",
              { class: `chip ${run.state === "starting" ? "running" : run.state}` },
              run.state === "running" && h("span", { class: "dot", "aria-hidden": "true" }),
              state,
            )
          : run.verdict &&
              h(
                "span",
                { class: `sign ${run.verdict}`, title: WORDS[run.verdict] },
                h("span", { "aria-hidden": "true" }, SIGNS[run.verdict]),
                h("span", { class: "quiet" }, WORDS[run.verdict]),
              ),
      ),
      h(
        "span",
        { class: "hint" },
        facts.join(" · "),
        run.created && [facts.length > 0 && " · ", h("time", { datetime: run.created }, when(run.created))],
      ),
    ),
  );
};

/**
 * The list.
 * @returns {{element, refresh: function(opened), runs: function()}}
 */
export const runList = ({ link }) => {
  const element = h("ul", { class: "runs" });
  let runs = [],
    before = "";
  const refresh = async (opened) => {
    try {
      runs = (await get("/api/runs")).runs;
      const now = JSON.stringify([runs, opened, Math.floor(Date.now() / 60_000)]);
      if (now === before) return;
      before = now;
      const focused = element.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      put(element, runs.length ? runs.map((run) => row(run, link, opened)) : h("li", { class: "muted" }, "No run yet."));
      if (focused) [...element.querySelectorAll("a")].find((one) => one.getAttribute("href") === focused)?.focus({ preventScroll: true });
    } catch (error) {
      before = "";
      put(element, h("li", {}, failure(error)));
    }
  };
  return { element, refresh, runs: () => runs };
};
