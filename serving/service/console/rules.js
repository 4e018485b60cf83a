// Business rules, with a preview of what others would do to real requests.

import { sideBySide } from "./answers.js";
import { call, putText, readText } from "./api.js";
import { $, announce, confirmed, make, notice, show } from "./dom.js";
import { t } from "./i18n.js";

const COUNT = 8;
const PEOPLE = 3;

let guarded;
let tag = null;
let stored = "";
let warnings = [];
let previews = null;
let newRevision = null;

/** Listens to the forms. */
export function start(guard) {
  guarded = guard;
  $("rules").addEventListener("submit", (event) => {
    event.preventDefault();
    guarded(preview);
  });
  $("rules-store").addEventListener("click", () => guarded(store));
}

/** Reads the rules, unless somebody is changing them here. */
export async function refresh() {
  if (tag !== null && $("rules-text").value !== stored) return;
  const found = await readText("rules");
  // Somebody may have begun to type meanwhile.
  const untouched = $("rules-text").value === stored;
  [stored, tag] = [found.text, found.tag];
  if (untouched) $("rules-text").value = stored;
}

async function preview() {
  const fields = { query: $("rules-query").value.trim(), placement: $("rules-placement").value.trim(), k: COUNT };
  const person = $("rules-person").value.trim();
  const people = person ? [person] : (await call("GET", `users?limit=${PEOPLE}`)).map((each) => each.user_id);
  // A shop that nobody has visited has at least a visitor to come.
  const users = people.length ? people : [""];
  const requests = users.map((user_id) => ({ ...fields, user_id }));
  const rules = $("rules-text").value.trim() || "rules: []";
  const found = await call("POST", "rules/preview", { rules, requests });
  previews = found.effects.map((effect, place) => ({ ...effect, user: users[place] }));
  warnings = found.warnings;
  newRevision = null;
  draw();
  $("rules-effects").focus();
}

async function store() {
  if (!(await confirmed(t("rules.store.title"), t("rules.store.text"), t("rules.store.do")))) return;
  const text = $("rules-text").value.trim() || "rules: []";
  const answer = await putText("rules", text, tag);
  [stored, tag, warnings, previews] = [text, `"${answer.revision}"`, answer.warnings, null];
  $("rules-text").value = text;
  newRevision = String(answer.revision);
  draw();
  announce(t("rules.stored", { revision: newRevision }));
}

/** Shows all in the present language. */
export function draw() {
  notice($("rules-stored"), newRevision === null ? "" : t("rules.stored", { revision: newRevision }));
  $("rules-warnings").replaceChildren(
    ...warnings.map((each) =>
      make(
        "li",
        {},
        make("strong", { dir: "auto" }, `${each.rule}:`),
        " ",
        make("span", { lang: "en", dir: "auto" }, each.text),
      ),
    ),
  );
  show($("rules-shown"), previews === null);
  $("rules-lists").replaceChildren(...(previews ?? []).map(effectOf));
}

function effectOf({ user, before, after }, place) {
  const ids = (items) => items.map((item) => item.item_id).join("\n");
  const section = make(
    "section",
    { class: "effect" },
    make("h3", {}, user ? t("rules.for", { user }) : t("rules.visitor")),
  );
  if (ids(before.items) === ids(after.items)) {
    section.append(make("p", { class: "hint" }, t("rules.same")));
    return section;
  }
  const [first, second] = [make("ol", { class: "items" }), make("ol", { class: "items" })];
  sideBySide(first, second, before.items, after.items);
  const column = (name, list, side) => {
    const id = `rules-${side}-${place}`;
    list.setAttribute("aria-labelledby", id);
    return make("section", {}, make("h4", { id }, t(name)), list);
  };
  section.append(
    make("div", { class: "columns halves" }, column("rules.now", first, "now"), column("rules.then", second, "then")),
  );
  return section;
}
