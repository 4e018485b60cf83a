// An item and its neighbours, and which part of the service has each: the model's index, or the fresh items.

import { rows, sourceName } from "./answers.js";
import { call } from "./api.js";
import { $, announce, show } from "./dom.js";
import { number, t } from "./i18n.js";

const COUNT = 10;
const FIRST = 50;

let found = null;
let asked = 0;

/** Looks for the neighbours of an item, and for the item itself by its title. */
export async function find(item) {
  const mine = ++asked;
  const form = { k: COUNT, placement: "console" };
  const [near, searched] = await Promise.all([
    call("POST", "similar", { ...form, item_id: item.item_id }),
    item.title
      ? call("POST", "search", { ...form, k: FIRST, query: item.title.slice(0, 2_000), include_seen: true })
      : { items: [] },
  ]);
  if (mine !== asked) return;
  const own = searched.items.find((each) => each.item_id === item.item_id) ?? null;
  found = { item, own, answer: near };
  draw();
  $("near").focus();
  announce(t("results.announced", { count: near.items.length, title: near.items[0]?.title ?? "" }));
}

/** Shows them in the present language. */
export function draw() {
  show($("near"), found !== null);
  if (found === null) return;
  const { item, own, answer } = found;
  $("near-title").textContent = t("near.of", { title: item.title || item.item_id });
  $("near-own").textContent =
    own === null
      ? t("near.unfound", { first: number(FIRST) })
      : t("near.own", { place: number(own.position + 1), source: sourceName(own.source) });
  $("near-items").replaceChildren(...rows(answer.items));
  show($("near-empty"), !answer.items.length);
}
