// One question: answered, graded by running what was typed, shown with what running it gives, and rated for its return.
import { answerOf } from "./answers.js";
import { get, post } from "./api.js";
import { demonstrationView } from "./demonstration.js";
import { announce, button, failure, h, put } from "./dom.js";
import { plural, when } from "./words.js";

const RATINGS = [
  [1, "Again", "did not know it"],
  [2, "Hard", "with trouble"],
  [3, "Good", "knew it"],
  [4, "Easy", "at once"],
];
const NOT_UNDERSTOOD = 422; // HTTP's status for what cannot be read as an answer
const TICK = 500; // milliseconds

/** What was typed for a question, kept so that a reload does not lose it; storage may be forbidden. */
const draft = (number, value) => {
  const key = `convscope-question-${number}`;
  try {
    if (value !== undefined) sessionStorage.setItem(key, value);
    return sessionStorage.getItem(key) ?? "";
  } catch {
    return "";
  }
};

const gradeLine = ({ right, message }) =>
  h(
    "p",
    { class: `graded ${right ? "right" : "wrong"}` },
    h("span", { class: `sign ${right ? "healthy" : "problem"}`, "aria-hidden": "true" }, right ? "✓" : "✕"),
    h("span", {}, h("b", {}, right ? "Right. " : "Not so. "), message),
  );

const unreadable = (message) =>
  h("p", { class: "graded", role: "alert" }, h("span", { class: "sign warning", "aria-hidden": "true" }, "?"), message);

/** Says that something runs, with the seconds that it has taken so far; `stop()` ends the clock. */
const running = (text) => {
  const clock = h("span", { "aria-hidden": "true" });
  const began = performance.now();
  const timer = setInterval(() => {
    clock.textContent = ` … ${Math.round((performance.now() - began) / 1000)} s`;
  }, TICK);
  return { element: h("p", { class: "muted", role: "status" }, text, clock), stop: () => clearInterval(timer) };
};

/**
 * A question.
 * @param {object} asked as /api/questions/{n} gives it
 * @param {{onNext: function(), onRated: function()}} actions
 * @returns {{element, key: function(string): boolean, end: function()}} `key` takes a key that was pressed outside a field
 */
export const questionCard = (asked, { onNext, onRated }) => {
  const path = `/api/questions/${asked.number}`,
    isText = asked.kind === "text",
    hints = [...asked.hints];
  let grade = null,
    helped = false, // by a hint, or by having been told that an answer was wrong
    rated = false,
    view = null,
    ended = false;

  // ---------------------------------------------------------------- answering

  const answer = answerOf(asked, () => form.requestSubmit());
  const said = h("div", { class: "verdict-of-answer", "aria-live": "polite" });
  const given = h("ul", { class: "hints", "aria-live": "polite" });
  const after = h("div", { class: "stack" });
  const check = h("button", { type: "submit", class: "primary" }, isText ? "Show the answer" : "Check");
  const hint = button("Hint", () => giveHint(), { hidden: !hints.length });
  const controls = h("div", { class: "actions" }, check, hint, button("Skip", onNext, { class: "plain" }));

  const giveHint = () => {
    given.append(h("li", {}, hints.shift()));
    hint.hidden = !hints.length;
    helped = true;
  };
  const submit = async (event) => {
    event.preventDefault();
    if (grade) return;
    check.disabled = true;
    put(said, h("p", { class: "muted waiting" }, "Running your answer …"));
    try {
      grade = await post(`${path}/answer`, { answer: answer.text(), hinted: helped });
      put(said, !isText && gradeLine(grade));
      controls.hidden = true;
      answer.lock(true);
      show();
    } catch (error) {
      put(said, error.status === NOT_UNDERSTOOD ? unreadable(error.message) : failure(error));
      answer.focus();
    } finally {
      check.disabled = false;
    }
  };
  const again = () => {
    grade = null;
    helped = true;
    endView();
    answer.lock(false);
    controls.hidden = false;
    put(said);
    put(after);
    answer.focus();
  };

  // ---------------------------------------------------------------- showing and rating

  const rating = h("div", { class: "rate" });
  const enable = (on) => {
    for (const one of rating.querySelectorAll("button")) one.disabled = !on;
  };
  const rate = async (number) => {
    if (rated) return;
    rated = true;
    enable(false);
    try {
      const { due_at: due } = await post(`${path}/rate`, { rating: number });
      const next = button("Next question", onNext, { class: "primary" });
      const comes = due ? `This question comes again ${when(due)}.` : "";
      put(rating, h("p", {}, "Noted: ", h("b", {}, RATINGS[number - 1][1].toLowerCase()), `. ${comes}`), next);
      announce(`Noted. ${comes}`);
      next.focus({ preventScroll: true });
      onRated();
    } catch (error) {
      rated = false;
      enable(true);
      rating.append(failure(error));
    }
  };
  const rateButton = ([number, name, meaning]) => {
    const isSuggested = !isText && number === grade.suggested;
    const inside = [h("kbd", {}, number), h("span", {}, name), h("small", {}, meaning)];
    return h("button", { type: "button", class: isSuggested ? "primary" : null, on: { click: () => rate(number) } }, inside);
  };
  const show = async () => {
    const shown = grade; // another try makes another grade
    put(
      rating,
      h("p", { id: "how-well" }, isText ? "How well did you know it?" : "When should it come again?"),
      h("div", { class: "ratings", role: "group", "aria-labelledby": "how-well" }, RATINGS.map(rateButton)),
    );
    const clock = running(asked.needs_training ? "Training small networks to show it, once; the result is kept" : "Running the answer");
    const retry = grade.right === false && h("p", {}, button("Try once more", again, { class: "plain" }));
    put(after, rating, retry, clock.element);
    (rating.querySelector(".primary") ?? rating.querySelector("button")).focus({ preventScroll: true });
    try {
      const demonstration = await get(`${path}/demonstration`);
      if (ended || grade !== shown) return;
      view = demonstrationView(demonstration);
      clock.element.replaceWith(view.element);
    } catch (error) {
      clock.element.replaceWith(failure(error));
    } finally {
      clock.stop();
    }
  };
  const endView = () => {
    view?.end();
    view = null;
  };

  // ---------------------------------------------------------------- the card

  const listeners = { submit, input: () => draft(asked.number, answer.text()) };
  const form = h("form", { class: "stack", novalidate: true, on: listeners }, answer.element, given, controls, said);
  if (answer.restore) answer.restore(draft(asked.number));
  const met = asked.answered ? `answered ${plural(asked.answered, "time")}` : "new";
  const card = h(
    "section",
    { class: "panel question", "aria-labelledby": "the-question" },
    h("p", { class: "kicker" }, `Question ${asked.number} · ${asked.topic} · ${met}`),
    h("h1", { id: "the-question", tabindex: "-1" }, asked.text),
    form,
  );
  return {
    element: h("div", { class: "stack" }, card, after),
    key(pressed) {
      if (grade && !rated && /^[1-4]$/.test(pressed)) {
        rate(Number(pressed));
        return true;
      }
      return !grade && Boolean(answer.key?.(pressed));
    },
    end() {
      ended = true;
      endView();
    },
  };
};
