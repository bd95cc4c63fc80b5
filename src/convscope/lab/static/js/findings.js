// The diagnosis of a run: one line, then a card for each finding with its evidence, what to do, and the way to the figure that shows it.
import { announce, button, h, put } from "./dom.js";
import { chosen, count, plural, words } from "./words.js";

export const SIGNS = { healthy: "✓", note: "i", warning: "!", problem: "✕", too_early: "…" };
export const WORDS = { healthy: "Healthy", note: "Note", warning: "Warning", problem: "Problem", too_early: "Too early to say" };

const overview = ({ verdict, findings, steps, not_checked: unchecked = [] }) => {
  const over = steps ? ` in ${plural(steps, "step")}` : "";
  if (verdict === "too_early") return `There is too little to judge${over}.`;
  if (!findings.length)
    return `No rule found anything wrong${over}${unchecked.length ? `; ${plural(unchecked.length, "rule")} could not be applied` : ""}.`;
  return `${plural(findings.length, "finding")}${over}, beginning at step ${count(Math.min(...findings.map(({ step }) => step)))}.`;
};

const evidenceOf = ({ name, value, unit }) => {
  const text = typeof value === "string" ? value : Number.isInteger(value) ? count(value) : chosen(value);
  return h("div", {}, h("dt", {}, name), h("dd", {}, unit ? `${text} ${unit}` : text));
};

const settings = (change) =>
  Object.entries(change)
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join(", ");

/** For each finding the place of the one that it follows from, or null; a circle is cut where it closes. */
const causes = (findings) => {
  const of = findings.map(({ cause }) => (cause ? findings.findIndex(({ name }) => name === cause) : -1));
  of.forEach((_, place) => {
    const seen = new Set([place]);
    for (let at = of[place]; at >= 0; at = of[at]) {
      if (seen.has(at)) {
        of[place] = -1;
        break;
      }
      seen.add(at);
    }
  });
  return of;
};

/** A finding under a name that lasts while its evidence grows. */
const keyOf = ({ name, where }) => `${name} ${where}`;

/**
 * The diagnosis.
 * @param {{show: function(finding), apply: function(change)|null}} actions `show` brings up the figure that proves a finding; `apply` trains again with its change
 * @returns {{element, update: function(verdict, {live: boolean})}} `live` when the run goes on: what is found is then said, not only shown
 */
export const findingsView = ({ show, where, apply }) => {
  const line = h("p", { class: "line" });
  const list = h("ol", { class: "findings" });
  const rest = h("div");
  const element = h("section", { class: "verdict diagnosis", "aria-label": "Diagnosis" }, line, list, rest);
  let before = "",
    known = null;

  const card = (findings, of, place) => {
    const finding = findings[place];
    const below = findings.map((_, other) => other).filter((other) => of[other] === place);
    const isNew = known !== null && !known.has(keyOf(finding));
    return h(
      "li",
      {},
      h(
        "article",
        { class: isNew ? "fresh" : null, data: { finding: keyOf(finding) } },
        h(
          "p",
          { class: "top" },
          h("span", { class: `badge ${finding.severity}` }, place + 1),
          h("span", { class: "rule" }, `${WORDS[finding.severity]} · ${words(finding.name)}`),
        ),
        h(
          "h3",
          {},
          button(finding.message, () => show(finding), { class: "told", data: { key: `told ${keyOf(finding)}` } }),
        ),
        h(
          "p",
          { class: "muted" },
          finding.where ? `In ${finding.where}, from` : "From",
          ` step ${count(finding.step)}. `,
          button(`See it ${where(finding)}`, () => show(finding), { class: "plain", data: { key: `see ${keyOf(finding)}` } }),
        ),
        finding.evidence.length > 0 && h("dl", { class: "evidence" }, finding.evidence.map(evidenceOf)),
        h(
          "p",
          { class: "fix" },
          h("b", {}, "What to do: "),
          finding.fix.text,
          finding.fix.change && [" ", h("code", {}, settings(finding.fix.change))],
          finding.fix.change &&
            apply && [" ", button("Train again with this", () => apply(finding.fix.change), { data: { key: `apply ${keyOf(finding)}` } })],
        ),
        finding.source && h("p", { class: "source" }, `Source of the rule: ${finding.source}`),
      ),
      below.length > 0 && [
        h("p", { class: "follows" }, "What follows from it"),
        h(
          "ol",
          { class: "findings" },
          below.map((other) => card(findings, of, other)),
        ),
      ],
    );
  };

  const unchecked = (items = []) => {
    if (!items.length) return null;
    const reasons = Map.groupBy ? Map.groupBy(items, ({ why }) => why) : new Map([[null, items]]);
    return h(
      "details",
      {},
      h("summary", {}, `${plural(items.length, "rule")} could not be checked`),
      h(
        "ul",
        { class: "notes" },
        [...reasons].map(([why, group]) => h("li", {}, h("b", {}, group.map(({ name }) => words(name)).join(", ")), why ? `: ${why}` : "")),
      ),
    );
  };

  return {
    element,
    update(verdict, { live = false } = {}) {
      const now = JSON.stringify([verdict.verdict, verdict.findings, verdict.not_checked]);
      put(
        line,
        h("span", { class: `sign ${verdict.verdict}`, "aria-hidden": "true" }, SIGNS[verdict.verdict]),
        h("strong", {}, `${WORDS[verdict.verdict]}.`),
        ` ${overview(verdict)}`,
      );
      if (now === before) return;
      before = now;
      const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
      const open = rest.querySelector("details")?.open;
      const of = causes(verdict.findings);
      put(
        list,
        verdict.findings.map((_, place) => of[place] < 0 && card(verdict.findings, of, place)),
      );
      put(rest, verdict.verdict !== "too_early" && unchecked(verdict.not_checked));
      if (open) rest.querySelector("details")?.setAttribute("open", "");
      if (focused) [...element.querySelectorAll("[data-key]")].find(({ dataset }) => dataset.key === focused)?.focus();
      const fresh = known === null && !live ? [] : verdict.findings.filter((finding) => !known?.has(keyOf(finding)));
      if (fresh.length) announce(fresh.map(({ severity, message }) => `${WORDS[severity]}: ${message}`).join(" "));
      known = new Set(verdict.findings.map(keyOf));
    },
  };
};
