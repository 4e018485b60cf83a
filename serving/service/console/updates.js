// Updates of the model: tried, promoted, rolled back.

import { Problem, call } from "./api.js";
import { $, announce, make, notice, reasoned, show } from "./dom.js";
import { t } from "./i18n.js";
import { card } from "./rollout.js";

const SHOWN = 20;
const LOGGED = 1000;
const MILLISECONDS = 5000;

let guarded;
let rollouts = null;
let log = new Map();
let logged = "";
let timer;

/** Prepares the view. */
export function start(guard) {
  guarded = guard;
}

/** Reads again from time to time while the view is seen. */
export function watch(seen) {
  clearInterval(timer);
  if (seen) timer = setInterval(() => document.hidden || follow(), MILLISECONDS);
}

async function follow() {
  try {
    await refresh();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    // What is shown stays, and says that it is old.
    notice($("updates-old"), t("updates.old"));
  }
}

/** Reads and shows all. */
export async function refresh() {
  const found = await call("GET", `rollouts?limit=${SHOWN}`);
  // Each change of a state is an entry of the log, a new comparison is none.
  const changes = JSON.stringify(found.map((each) => [each.number, each.revision]));
  if (changes !== logged) {
    const entries = await call("GET", `audit?limit=${LOGGED}`);
    log = new Map(found.map((each) => [each.number, []]));
    for (const entry of entries) {
      if (/ rollout$/.test(entry.action)) log.get(Number(entry.target))?.push(entry);
    }
    logged = changes;
  }
  rollouts = found;
  notice($("updates-old"), "");
  draw();
}

/** Shows all in the present language; what has not changed stays as it is, opened or with the focus. */
export function draw() {
  if (rollouts === null) return;
  show($("updates-empty"), !rollouts.length);
  const list = $("rollouts");
  const before = new Map([...list.children].map((each) => [each.dataset.number, each]));
  const cards = rollouts.map((rollout) => {
    const entries = log.get(rollout.number);
    const state = JSON.stringify([document.documentElement.lang, rollout, entries]);
    const old = before.get(String(rollout.number));
    if (old?.dataset.state === state) return old;
    const made = make("li", { "data-number": rollout.number, "data-state": state }, card(rollout, entries, decide));
    if (old) keepOpen(old, made);
    return made;
  });
  if (cards.length === list.children.length && cards.every((each, place) => each === list.children[place])) return;
  const focused = document.activeElement?.dataset.keep;
  const number = document.activeElement?.closest?.("[data-number]")?.dataset.number;
  list.replaceChildren(...cards);
  if (!focused) return;
  const same = list.querySelector(`[data-number="${number}"]`);
  // A button may be gone with what it was for.
  (same?.querySelector(`[data-keep="${focused}"]`) ?? same?.querySelector("[data-keep]"))?.focus({
    preventScroll: true,
  });
}

function keepOpen(old, made) {
  const open = new Set([...old.querySelectorAll("details[open]")].map((each) => each.className));
  for (const each of made.querySelectorAll("details")) each.open = open.has(each.className);
}

/** Asks for a reason, and decides a roll-out by hand: `promote` or `rollback`. */
function decide(rollout, verdict) {
  return guarded(async () => {
    const values = { stable: String(rollout.stable), canary: String(rollout.canary) };
    const names = {
      promote: ["promote.title", "promote.text", "promote.do"],
      rollback: ["back.title", "back.text", "back.do"],
    };
    const [title, text, action] = names[verdict];
    const reason = await reasoned(t(title, values), t(text, values), t(action), verdict === "rollback");
    if (reason === null) return;
    try {
      await call("POST", `rollouts/${rollout.number}/${verdict}`, { reason });
    } finally {
      // Also when somebody else was faster.
      await refresh();
    }
    announce(t(verdict === "promote" ? "promote.done" : "back.done", values));
  });
}
