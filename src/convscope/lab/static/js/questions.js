// The Questions tab: forty questions, which are due, and one of them: answered, graded by running what was typed, shown, and rated for its return.
import { get, post } from "./api.js";
import { answerOf } from "./answers.js";
import { demonstrationView } from "./demonstration.js";
import { announce, button, failure, h, put, waiting } from "./dom.js";
import { plural, when } from "./words.js";

const RATINGS = [
  [1, "Again", "did not know it"],
  [2, "Hard", "with trouble"],
  [3, "Good", "knew it"],
  [4, "Easy", "at once"],
];
const SAVE = "convscope-question"; // where an answer that is being typed survives a reload

let tab = null;

export const mount = async (root, context) => {
  const overview = h("p", { class: "muted" });
  const map = h("div", { class: "number-map", role: "group", "aria-label": "All questions" });
  const place = h("div", { class: "asked" });
  const legend = h(
    "ul",
    { class: "legend" },
    [
      ["new", "new"],
      ["due", "due"],
      ["known", "comes again later"],
    ].map(([state, text]) => h("li", {}, h("span", { class: `mark ${state}` }), text)),
  );
  put(
    root,
    h(
      "div",
      { class: "split questions" },
      h(
        "aside",
        { class: "stack side", "aria-label": "Progress" },
        h(
          "details",
          { class: "panel fold", open: !matchMedia("(max-width: 60rem)").matches },
          h("summary", {}, h("h2", {}, "Forty questions")),
          overview,
          h("progress", { max: 40, value: 0, "aria-label": "Questions answered at least once" }),
          map,
          legend,
        ),
      ),
      place,
    ),
  );
  tab = { root, context, overview, map, place, list: [], next: null, one: null, end: null };
  map.addEventListener("keydown", alongTheMap);
  document.addEventListener("keydown", onKey);
  const mine = tab;
  await refresh();
  if (mine === tab) await open(wanted());
};

/** Another question was chosen. */
export const routed = () => open(wanted());

export const unmount = () => {
  document.removeEventListener("keydown", onKey);
  tab?.end?.();
  tab = null;
};

// ---------------------------------------------------------------- the map of questions

const wanted = () => Number(tab.context.route.parts[0]) || tab.next || tab.list[0]?.number;
const stateOf = ({ answered, due }) => (!answered ? "new" : due ? "due" : "known");

const refresh = async () => {
  const mine = tab,
    answer = await get("/api/questions");
  if (!mine || mine !== tab) return;
  tab.list = answer.questions;
  tab.next = answer.next ?? null;
  const met = tab.list.filter(({ answered }) => answered).length,
    due = tab.list.filter((one) => stateOf(one) === "due").length;
  tab.overview.textContent = `${due} due, ${tab.list.length - met} new, ${met} met so far.`;
  const bar = tab.root.querySelector("progress");
  bar.max = tab.list.length;
  bar.value = met;
  bar.setAttribute("aria-valuetext", `${met} of ${tab.list.length}`);
  drawMap();
};

const drawMap = () => {
  const { map, list, context, one } = tab,
    focused = map.contains(document.activeElement);
  put(
    map,
    list.map((question) => {
      const state = stateOf(question),
        here = question.number === one?.number;
      const said = { new: "new", due: "due", known: `comes again ${when(question.due_at)}` }[state];
      return h(
        "a",
        {
          href: context.link("questions", question.number),
          class: state,
          "aria-current": here ? "true" : null,
          tabindex: here ? "0" : "-1",
          title: `${question.topic}: ${said}`,
          "aria-label": `Question ${question.number}, ${question.topic}, ${said}`,
        },
        question.number,
      );
    }),
  );
  if (!map.querySelector("[tabindex='0']")) map.firstElementChild?.setAttribute("tabindex", "0");
  if (focused) map.querySelector("[tabindex='0']")?.focus();
};

const alongTheMap = (event) => {
  const links = [...tab.map.children],
    at = links.indexOf(document.activeElement);
  const across = getComputedStyle(tab.map).gridTemplateColumns.split(" ").length;
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + across, ArrowUp: at - across, Home: 0, End: links.length - 1 }[
    event.key
  ];
  if (at < 0 || to === undefined || !links[to]) return;
  event.preventDefault();
  for (const link of links) link.tabIndex = -1;
  links[to].tabIndex = 0;
  links[to].focus();
};

// ---------------------------------------------------------------- one question

const open = async (number) => {
  if (!number) return put(tab.place, h("p", {}, "There are no questions."));
  const mine = tab;
  tab.end?.();
  tab.end = null;
  put(tab.place, waiting());
  try {
    const asked = await get(`/api/questions/${number}`);
    if (mine !== tab || wanted() !== number) return;
    tab.one = makeQuestion(asked);
    drawMap();
    put(tab.place, tab.one.element);
    document.title = `Question ${number} – convscope lab`;
  } catch (error) {
    if (mine === tab) put(tab.place, failure(error));
  }
};

const kept = (number, value) => {
  // storage may be forbidden: then a reload loses what was typed
  try {
    if (value !== undefined) sessionStorage.setItem(`${SAVE}-${number}`, value);
    return sessionStorage.getItem(`${SAVE}-${number}`);
  } catch {
    return null;
  }
};

const makeQuestion = (asked) => {
  const hints = [...asked.hints];
  const said = h("div", { class: "verdict-of-answer", "aria-live": "polite" });
  const hinted = h("ul", { class: "hints", "aria-live": "polite" });
  const after = h("div", { class: "stack" });
  const isText = asked.kind === "text";
  const one = { number: asked.number, graded: null, rated: false, suggested: null };
  const answer = answerOf(asked, () => form.requestSubmit());
  const check = h("button", { type: "submit", class: "primary" }, isText ? "Show the answer" : "Check");
  const hint = button(
    "Hint",
    () => {
      hinted.append(h("li", {}, hints.shift()));
      hint.hidden = !hints.length;
      one.hinted = true;
    },
    { hidden: !hints.length },
  );
  const skip = button("Skip", () => goOn(asked.number), { class: "plain" });
  const controls = h("div", { class: "actions" }, check, hint, skip);

  const submit = async (event) => {
    event.preventDefault();
    if (one.graded) return again();
    const typed = answer.text();
    check.disabled = true;
    put(said, h("p", { class: "muted waiting" }, "Running your answer …"));
    try {
      const grade = await post(`/api/questions/${asked.number}/answer`, { answer: typed, hinted: Boolean(one.hinted) });
      one.graded = grade;
      answer.lock(true);
      put(
        said,
        grade.right === null
          ? null
          : h(
              "p",
              { class: `graded ${grade.right ? "right" : "wrong"}` },
              h("span", { class: `sign ${grade.right ? "healthy" : "problem"}`, "aria-hidden": "true" }, grade.right ? "✓" : "✕"),
              h("span", {}, h("b", {}, grade.right ? "Right. " : "Not so. "), grade.message),
            ),
      );
      controls.hidden = true;
      one.suggested = grade.right === null ? null : grade.right ? (one.hinted ? 2 : 3) : 1;
      show();
    } catch (error) {
      put(
        said,
        error.status === 422
          ? h(
              "p",
              { class: "graded not-understood", role: "alert" },
              h("span", { class: "sign warning", "aria-hidden": "true" }, "?"),
              error.message,
            )
          : failure(error),
      );
      answer.focus();
    } finally {
      check.disabled = false;
    }
  };
  const again = () => {
    one.graded = null;
    answer.lock(false);
    controls.hidden = false;
    put(said);
    put(after);
    answer.focus();
  };

  const rate = h("div", { class: "rate" });
  const rateNow = async (rating) => {
    if (one.rated) return;
    one.rated = true;
    for (const element of rate.querySelectorAll("button")) element.disabled = true;
    try {
      const { due_at: due } = await post(`/api/questions/${asked.number}/rate`, { rating });
      const next = button("Next question", () => goOn(asked.number), { class: "primary" });
      put(
        rate,
        h("p", {}, "Noted: ", h("b", {}, RATINGS[rating - 1][1].toLowerCase()), due ? `. This question comes again ${when(due)}.` : "."),
        next,
      );
      announce(`Noted. ${due ? `Comes again ${when(due)}.` : ""}`);
      next.focus({ preventScroll: true });
      refresh().catch(() => {});
    } catch (error) {
      one.rated = false;
      for (const element of rate.querySelectorAll("button")) element.disabled = false;
      rate.append(failure(error));
    }
  };
  one.rateNow = rateNow;

  const show = async () => {
    const clock = h("span", {});
    const pending = h(
      "p",
      { class: "muted", role: "status" },
      asked.needs_training ? "Training small networks to show it, once; the result is kept " : "Running the answer ",
      clock,
    );
    const began = performance.now(),
      timer = setInterval(() => {
        clock.textContent = `… ${Math.round((performance.now() - began) / 1000)} s`;
      }, 500);
    put(
      rate,
      h("p", { id: "how-well" }, isText ? "How well did you know it?" : "When should it come again?"),
      h(
        "div",
        { class: "ratings", role: "group", "aria-labelledby": "how-well" },
        RATINGS.map(([rating, name, meaning]) =>
          h(
            "button",
            { type: "button", class: rating === one.suggested ? "primary" : null, on: { click: () => rateNow(rating) } },
            h("kbd", {}, rating),
            h("span", {}, name),
            h("small", {}, meaning),
          ),
        ),
      ),
    );
    put(after, rate, !isText && one.graded.right === false && h("p", {}, button("Try once more", again, { class: "plain" })), pending);
    (rate.querySelector(".primary") ?? rate.querySelector("button")).focus({ preventScroll: true });
    try {
      const view = demonstrationView(await get(`/api/questions/${asked.number}/demonstration`));
      if (!one.graded || tab?.one !== one) return view.end();
      tab.end = view.end;
      pending.replaceWith(view.element);
    } catch (error) {
      pending.replaceWith(failure(error));
    } finally {
      clearInterval(timer);
    }
  };

  const form = h(
    "form",
    { class: "stack", novalidate: true, on: { submit, input: () => kept(asked.number, answer.text()) } },
    answer.element,
    hinted,
    controls,
    said,
  );
  one.answer = answer;
  const before = kept(asked.number);
  if (before && !["choice", "matrix"].includes(asked.kind)) answer.element.querySelector("input, textarea").value = before;
  const state = asked.answered ? `answered ${plural(asked.answered, "time")}` : "new";
  one.element = h(
    "div",
    { class: "stack" },
    h(
      "section",
      { class: "panel question", "aria-labelledby": "the-question" },
      h("p", { class: "kicker" }, `Question ${asked.number} · ${asked.topic} · ${state}`),
      h("h1", { id: "the-question", tabindex: "-1" }, asked.text),
      form,
    ),
    after,
  );
  return one;
};

const goOn = async (from) => {
  await refresh().catch(() => {});
  if (!tab) return;
  const { list, context, next } = tab;
  const at = list.findIndex(({ number }) => number === from);
  const later = [...list.slice(at + 1), ...list.slice(0, at)].find((one) => stateOf(one) !== "known");
  context.go(context.link("questions", next !== null && next !== from ? next : (later?.number ?? from)));
  scrollTo({ top: 0 });
};

const onKey = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !tab?.one) return;
  const typing = event.target.matches?.("textarea, select, input:not([type=radio])") && !event.target.readOnly;
  if (typing) return;
  const { one } = tab;
  if (/^[1-4]$/.test(event.key) && one.graded && !one.rated) {
    event.preventDefault();
    one.rateNow(Number(event.key));
  } else if (!one.graded && one.answer.key?.(event.key)) event.preventDefault();
};
