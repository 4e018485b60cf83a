// Who the recommendations are for: a box to pick or type a person, their history, and their deletion.

import { call, newId, quoted } from "./api.js";
import { $, announce, confirmed, make, show, text } from "./dom.js";
import { has, moment, nameOf, t } from "./i18n.js";
import * as recommendations from "./recommendations.js";

const SHOWN = 12;
const FOUND = 30;
const PAUSE = 120;

/** Who is asked for: a person's id, or a visit of somebody unknown. */
export const who = { user: "", session: "" };
let begun = false;
let visited = [];
let entries = [];
let options = [];
let active = -1;
let asked = 0;
let timer;
let guarded;

/** Begins with the person who was active last, or a visitor. */
export async function start(guard) {
  guarded = guard;
  const box = $("person");
  box.addEventListener("input", () => {
    begun = true;
    clearTimeout(timer);
    timer = setTimeout(() => guarded(() => offer(box.value.trim())), PAUSE);
  });
  box.addEventListener("focus", () => box.select());
  box.addEventListener("click", () => $("people").hidden && guarded(() => offer("")));
  box.addEventListener("blur", close);
  box.addEventListener("keydown", onKey);
  $("visitor").addEventListener("click", () => guarded(() => choose("")));
  $("delete-person").addEventListener("click", () => guarded(erase));
  const [first] = await call("GET", "users?limit=1");
  // Somebody may have been quicker.
  if (!begun) await choose(first?.user_id ?? "");
}

/** Asks again for what is shown. */
export const refresh = () => choose(who.user);

async function offer(typed) {
  const mine = ++asked;
  const found = await call("GET", `users?limit=${FOUND}&text=${quoted(typed)}`);
  if (mine !== asked || document.activeElement !== $("person")) return;
  options = found;
  active = -1;
  $("people").replaceChildren(
    ...options.map((person, place) =>
      make(
        "li",
        {
          id: `person-${place}`,
          role: "option",
          "aria-selected": "false",
          onmousedown: (event) => {
            event.preventDefault();
            guarded(() => choose(person.user_id));
          },
        },
        make("span", { dir: "auto" }, person.user_id),
        make("span", { class: "hint" }, describe(person)),
      ),
    ),
  );
  show($("people"), options.length > 0);
  $("person").setAttribute("aria-expanded", String(options.length > 0));
  announce(t("person.found", { count: options.length }));
}

function describe(person) {
  const languages = person.languages.map(nameOf);
  return [...languages, person.last_event === null ? "" : moment(person.last_event)].filter(Boolean).join(" · ");
}

function close() {
  clearTimeout(timer);
  asked++;
  show($("people"), false);
  $("person").setAttribute("aria-expanded", "false");
  $("person").removeAttribute("aria-activedescendant");
}

function onKey(event) {
  const box = $("person");
  if (event.isComposing) return;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    if ($("people").hidden) {
      clearTimeout(timer);
      const typed = box.value.trim();
      guarded(() => offer(typed === who.user ? "" : typed));
      return;
    }
    const step = event.key === "ArrowDown" ? 1 : -1;
    active = (active + step + options.length + (active < 0 && step < 0 ? 1 : 0)) % options.length;
    [...$("people").children].forEach((each, place) => each.setAttribute("aria-selected", String(place === active)));
    $("people").children[active].scrollIntoView({ block: "nearest" });
    box.setAttribute("aria-activedescendant", `person-${active}`);
  } else if (event.key === "Enter") {
    event.preventDefault();
    const chosen = active >= 0 && !$("people").hidden ? options[active].user_id : box.value.trim();
    guarded(() => choose(chosen));
  } else if (event.key === "Escape") {
    close();
    box.value = who.user;
  }
}

/** Shows a person, or with an empty id a new visitor. */
export async function choose(user) {
  begun = true;
  who.user = user;
  if (!user) {
    who.session = newId();
    visited = [];
  }
  close();
  $("person").value = user;
  recommendations.forget();
  await Promise.all([readHistory(), recommendations.ask()]);
}

/** Reads and shows the history again. */
export async function readHistory() {
  const user = who.user;
  const found = user ? await call("GET", `users/${quoted(user)}/history?limit=${SHOWN}`) : visited;
  if (user !== who.user) return;
  entries = found;
  draw();
}

/** A visitor's history is known here only. */
export function visitedItem(item, seconds) {
  if (who.user) return;
  const { item_id, title, language } = item;
  visited = [{ item_id, title, language, event: "click", timestamp: seconds }, ...visited].slice(0, SHOWN);
}

/** Shows the history in the present language. */
export function draw() {
  show($("delete-person"), Boolean(who.user));
  show($("history-empty"), !entries.length);
  show($("history"), entries.length > 0);
  $("history").replaceChildren(
    ...entries.map((each) =>
      make(
        "li",
        {},
        each.title ? text(each.title, each.language, "span", { class: "name" }) : make("span", { class: "name" }, each.item_id),
        make("span", { class: "hint" }, `${eventName(each.event)} · ${moment(each.timestamp)}`),
      ),
    ),
  );
}

const eventName = (event) => (has(`event.${event}`) ? t(`event.${event}`) : event);

async function erase() {
  const user = who.user;
  const agreed = await confirmed(t("erase.title", { user }), t("erase.text"), t("erase.do"));
  if (!agreed) return;
  await call("DELETE", `users/${quoted(user)}`);
  await choose(user);
  recommendations.tell(t("erase.done", { user }));
}
