// Answers, and what a click changes in them.

import { compared, nameLine, tags } from "./answers.js";
import { Problem, call, newId } from "./api.js";
import { $, announce, make, mayMove, notice, refocus, show, text } from "./dom.js";
import { decimal, has, number, percent, sentences, t } from "./i18n.js";
import * as people from "./people.js";

const COUNT = 10;
// One wish in several languages.
const TRIES = [
  ["en", "a heist that goes wrong"],
  ["zh", "外太空科幻片"],
  ["es", "comedia romántica"],
  ["ar", "حرب وجنود"],
  ["ko", "무서운 유령 이야기"],
];

let guarded;
let changed;
let query = "";
let answer = null;
let moves = new Map();
let told = "";
let milliseconds = 0;
let asked = 0;
let sending = false;

/** Listens to the form; `onAnswer` is called when another answer is shown. */
export function start(guard, onAnswer) {
  guarded = guard;
  changed = onAnswer;
  $("search").addEventListener("submit", (event) => {
    event.preventDefault();
    guarded(() => search($("query").value));
  });
  $("clear").addEventListener("click", () => {
    $("query").focus();
    guarded(() => search(""));
  });
  $("tries").append(
    ...TRIES.map(([language, words]) =>
      text(words, language, "button", { type: "button", class: "try", onclick: () => guarded(() => search(words)) }),
    ),
  );
}

/** Searches, or with an empty text recommends. */
export async function search(words) {
  query = words.trim();
  $("query").value = query;
  forget();
  await ask();
  announce(t("results.announced", { count: answer.items.length, title: answer.items[0]?.title ?? "" }));
}

/** What is shown next has nothing to do with what is shown now. */
export function forget() {
  answer = null;
  moves = new Map();
  told = "";
}

/** Asks for an answer and shows it. */
export async function ask() {
  const mine = ++asked;
  const began = performance.now();
  $("items").setAttribute("aria-busy", "true");
  try {
    const found = await request();
    if (mine !== asked) return false;
    milliseconds = Math.round(performance.now() - began);
    moves = answer === null ? new Map() : compared(answer.items, found.items);
    answer = found;
  } finally {
    if (mine === asked) $("items").removeAttribute("aria-busy");
  }
  draw();
  changed();
  return true;
}

/** Asks for whoever and whatever is chosen, with other fields besides. */
export function request(fields = {}) {
  const { user, session } = people.who;
  const form = { user_id: user, session_id: user ? "" : session, k: COUNT, placement: "console", ...fields };
  return query
    ? call("POST", "search", { ...form, query, include_seen: true })
    : call("POST", "recommendations", form);
}

/** The items that are shown; null: none are. */
export const shown = () => answer?.items ?? null;

async function clicked(item) {
  // A list that is being replaced may be another person's, and a second click within a moment is the same one.
  if (answer === null || sending) return;
  sending = true;
  try {
    await send(item);
  } finally {
    sending = false;
  }
}

async function send(item) {
  const { user, session } = people.who;
  const seconds = Math.floor(Date.now() / 1000);
  const event = {
    event_id: newId(),
    event: "click",
    timestamp: seconds,
    user_id: user,
    session_id: user ? "" : session,
    item_id: item.item_id,
    recommendation_id: answer.recommendation_id,
    position: item.position,
    propensity: item.propensity,
    placement: "console",
    query,
  };
  const [line] = (await call("POST", "events", { events: [event] })).results;
  if (line.status === "rejected") throw new Problem(422, line.reason);
  people.visitedItem(item, seconds);
  const [fresh] = await Promise.all([ask(), people.readHistory()]);
  if (!fresh) return;
  const values = [...moves.values()];
  const added = values.filter((each) => each === null).length;
  const moved = values.filter(Boolean).length;
  tell(
    sentences(
      t("change.clicked", { title: item.title }),
      t("change.new", { count: added }),
      t("change.moved", { count: moved }),
    ),
  );
  const buttons = $("items").querySelectorAll("button");
  refocus(buttons[Math.min(item.position, buttons.length - 1)]);
}

/** Says what has happened, to all. */
export function tell(message) {
  told = message;
  notice($("change"), told);
  announce(answer?.items.length ? sentences(told, t("results.first", { title: answer.items[0].title })) : told);
}

/** Shows the answer in the present language. */
export function draw() {
  if (answer === null) return;
  const { user } = people.who;
  const values = { user, query };
  const name = query ? (user ? "results.searched" : "results.found") : user ? "results.for" : "results.visitor";
  $("results-title").textContent = t(name, values);
  show($("clear"), Boolean(query));
  const by = answer.degraded ? t("answer.degraded") : t("answer.version", { version: String(answer.model_version) });
  $("answer").textContent = [by, t("answer.time", { count: milliseconds })].join(" · ");
  notice($("change"), told);
  show($("items-empty"), !answer.items.length);
  const removed = Object.entries(answer.removed ?? {});
  $("removed").textContent = sentences(...removed.map(([rule, count]) => t("answer.removed", { rule, count })));
  const list = $("items");
  const before = new Map([...list.children].map((each) => [each.dataset.item, each.getBoundingClientRect().top]));
  const best = Math.max(...answer.items.map((item) => item.score));
  list.replaceChildren(...answer.items.map((item) => row(item, best)));
  if (moves.size && mayMove()) animate(list, before);
}

function animate(list, before) {
  for (const each of list.children) {
    const top = before.get(each.dataset.item);
    const here = each.getBoundingClientRect().top;
    const from =
      top === undefined
        ? { opacity: 0, transform: "translateX(1.5rem)" }
        : { transform: `translateY(${Math.round(top - here)}px)` };
    each.animate([from, { opacity: 1, transform: "none" }], { duration: 600, easing: "cubic-bezier(.2,.7,.2,1)" });
  }
}

function row(item, best) {
  const share = best > 0 && item.score > 0 ? item.score / best : 0;
  const bar = make("span", { class: "meter", "aria-hidden": "true" }, make("span"));
  bar.firstChild.style.inlineSize = `${Math.round(100 * share)}%`;
  return make(
    "li",
    { "data-item": item.item_id },
    make(
      "button",
      { class: "item", type: "button", onclick: () => guarded(() => clicked(item)) },
      make("span", { class: "place" }, number(item.position + 1)),
      make(
        "span",
        { class: "what" },
        nameLine(item, moves),
        tags(item),
      ),
      make(
        "span",
        { class: "numbers" },
        make(
          "span",
          { class: "all" },
          share ? bar : null,
          make("span", { class: "score" }, make("span", { class: "unseen" }, `${t("score")} `), decimal(item.score, 2)),
        ),
        ...Object.entries(item.heads).map(([name, value]) => make("span", { class: "hint" }, head(name, value))),
      ),
    ),
  );
}

function head(name, value) {
  const shown = name.startsWith("probability") ? percent(value) : decimal(value, 1);
  return has(`head.${name}`) ? t(`head.${name}`, { value: shown }) : `${name.replaceAll("_", " ")}: ${shown}`;
}
