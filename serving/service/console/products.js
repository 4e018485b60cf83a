// The catalogue: adding, finding, changing and deleting products.

import { Problem, call, newId, quoted } from "./api.js";
import { $, announce, confirmed, make, notice, refocus, show, text } from "./dom.js";
import { language, nameOf, number, t } from "./i18n.js";
import { fillLanguages } from "./languages.js";
import * as neighbours from "./neighbours.js";
import * as status from "./status.js";

const SHOWN = 12;
const PAUSE = 150;
const PATIENCE = 20_000;

let guarded;
let items = [];
let editing = null;
let saved = "";
let findable = "";
let asked = 0;
let timer;

/** Listens to the forms; `find` searches for a text in the other view. */
export function start(guard, find) {
  guarded = guard;
  $("product").addEventListener("submit", (event) => {
    event.preventDefault();
    guarded(save);
  });
  $("cancel").addEventListener("click", () => {
    edit(null);
    $("p-title").focus();
  });
  $("find").addEventListener("click", () => find(findable));
  $("lookup").addEventListener("submit", (event) => {
    event.preventDefault();
    guarded(lookUp);
  });
  $("text").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => guarded(refresh), PAUSE);
  });
  edit(null);
}

/** Reads and shows the list again. */
export async function refresh() {
  const mine = ++asked;
  const found = await call("GET", `items?limit=${SHOWN}&text=${quoted($("text").value.trim())}`);
  if (mine !== asked) return false;
  items = found;
  drawList();
  return true;
}

async function lookUp() {
  if (await refresh()) announce(t("catalogue.found", { count: items.length }));
}

/** Shows all in the present language. */
export function draw() {
  fillLanguages($("p-language"));
  $("product-heading").textContent = editing
    ? t("product.edit", { title: editing.title || editing.item_id })
    : t("product.add");
  $("save").textContent = editing ? t("product.save") : t("product.add.do");
  drawList();
  neighbours.draw();
}

function drawList() {
  show($("catalogue-empty"), !items.length);
  show($("catalogue"), items.length > 0);
  $("catalogue").replaceChildren(
    ...items.map((item) => {
      const title = item.title || item.item_id;
      return make(
        "li",
        { "data-item": item.item_id },
        make(
          "div",
          { class: "what" },
          text(title, item.language, "span", { class: "name" }),
          make(
            "span",
            { class: "tags" },
            item.available ? null : make("span", { class: "tag off" }, t("product.unavailable")),
            make("span", { class: "tag" }, nameOf(item.language)),
            ...item.categories.slice(0, 4).map((each) => make("span", { class: "tag plain", dir: "auto" }, each)),
          ),
        ),
        make(
          "div",
          { class: "row actions" },
          action("product.edit.do", "product.edit", title, () => {
            edit(item);
            $("p-title").focus();
          }),
          action("near.do", "near.of", title, () => guarded(() => neighbours.find(item))),
          item.available
            ? action("product.hide.do", "product.hide", title, () => guarded(() => setAvailable(item, false)))
            : action("product.show.do", "product.show", title, () => guarded(() => setAvailable(item, true))),
          action("product.delete.do", "product.delete", title, () => guarded(() => remove(item)), "danger"),
        ),
      );
    }),
  );
}

function action(name, full, title, onclick, kind = "") {
  return make("button", { type: "button", class: `small ${kind}`, "aria-label": t(full, { title }), onclick }, t(name));
}

function edit(item) {
  editing = item;
  $("p-title").value = item?.title ?? "";
  $("p-categories").value = item?.categories.join(", ") ?? "";
  $("p-description").value = item?.description ?? "";
  $("p-available").checked = item?.available ?? true;
  $("p-id").value = item?.item_id ?? "";
  $("p-id").readOnly = Boolean(item);
  show($("cancel"), Boolean(item));
  if (item && ![...$("p-language").options].some((each) => each.value === item.language)) {
    $("p-language").append(make("option", { value: item.language }, nameOf(item.language)));
  }
  $("p-language").value = item?.language ?? language();
  say("");
  draw();
}

function say(message, title = "") {
  saved = message;
  findable = title;
  notice($("saved"), saved);
  show($("find"), Boolean(title));
  if (message) announce(message);
}

async function save() {
  const fields = {
    title: $("p-title").value.trim(),
    language: $("p-language").value,
    // Also the comma of Arabic, and that of Chinese and Japanese.
    categories: $("p-categories").value.split(/[,،，、]/).map((each) => each.trim()).filter(Boolean),
    description: $("p-description").value.trim(),
    available: $("p-available").checked,
  };
  if (editing) {
    await call("PATCH", `items/${quoted(editing.item_id)}`, fields);
    edit(null);
    await refresh();
    say(t("product.changed", { title: fields.title }), fields.available ? fields.title : "");
    return;
  }
  const id = $("p-id").value.trim() || `p-${newId(4)}`;
  if (await exists(id)) {
    say(t("product.exists", { id }));
    $("p-id").focus();
    return;
  }
  const began = performance.now();
  await call("PUT", `items/${quoted(id)}`, fields);
  edit(null);
  say(t("product.waiting", { title: fields.title }));
  await refresh();
  status.look();
  const known = fields.available && (await untilKnown(id));
  status.look();
  if (known) {
    const seconds = number(Math.round((performance.now() - began) / 100) / 10);
    say(t("product.ready", { title: fields.title, seconds }), fields.title);
  } else say(t(fields.available ? "product.later" : "product.added", { title: fields.title }));
}

async function exists(id) {
  // The one of this id comes first.
  const [found] = await call("GET", `items?limit=1&text=${quoted(id)}`);
  return found?.item_id === id;
}

/** Whether the model gives an item a score in time: then it may be in answers. */
async function untilKnown(id) {
  const end = performance.now() + PATIENCE;
  while (performance.now() < end) {
    try {
      const [scored] = await call("POST", "rank", { item_ids: [id] });
      if (scored.score !== null) return true;
    } catch (error) {
      // Without a model server nothing can be ranked.
      if (!(error instanceof Problem && error.status === 503)) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
  return false;
}

async function setAvailable(item, available) {
  await call("PATCH", `items/${quoted(item.item_id)}`, { available });
  await refresh();
  say(t(available ? "product.shown" : "product.hidden", { title: item.title }));
  refocus($("catalogue").querySelector(`[data-item="${CSS.escape(item.item_id)}"] button:nth-of-type(3)`));
}

async function remove(item) {
  const title = item.title || item.item_id;
  const agreed = await confirmed(t("product.delete.title", { title }), t("product.delete.text"), t("product.delete.do"));
  if (!agreed) return;
  await call("DELETE", `items/${quoted(item.item_id)}`);
  if (editing?.item_id === item.item_id) edit(null);
  await refresh();
  say(t("product.deleted", { title }));
  refocus($("text"));
}
