// Items of answers: what they are called, why they are there, and how they have moved from one answer to another.

import { make, text } from "./dom.js";
import { decimal, has, nameOf, number, t } from "./i18n.js";

/** Item -> places that it has moved up from one list to another, or null if it is new. */
export function compared(before, after) {
  const places = new Map(before.map((item) => [item.item_id, item.position]));
  return new Map(
    after.map((item) => {
      const place = places.get(item.item_id);
      return [item.item_id, place === undefined ? null : place - item.position];
    }),
  );
}

/** How an item has moved; nothing if it has not. */
export function moved(item, moves) {
  if (!moves.has(item.item_id)) return null;
  const places = moves.get(item.item_id);
  if (places === null) return make("span", { class: "move new" }, t("move.new"));
  if (!places) return null;
  const [sign, name] = places > 0 ? ["▲", "move.up"] : ["▼", "move.down"];
  const count = Math.abs(places);
  return make(
    "span",
    { class: `move ${places > 0 ? "up" : "down"}` },
    make("span", { "aria-hidden": "true" }, `${sign} ${number(count)}`),
    make("span", { class: "unseen" }, t(name, { count })),
  );
}

/** An item's title, and how it has moved. */
export const nameLine = (item, moves) =>
  make(
    "span",
    { class: "line" },
    text(item.title || item.item_id, item.language, "span", { class: "name" }),
    moved(item, moves),
  );

/** Where an item comes from. */
export const sourceName = (source) => (has(`source.${source}`) ? t(`source.${source}`) : source);

/** An item's language, where it comes from, and what rules did to it. */
export const tags = (item) =>
  make(
    "span",
    { class: "tags" },
    item.language ? make("span", { class: "tag" }, nameOf(item.language)) : null,
    make("span", { class: `tag source-${item.source}` }, sourceName(item.source)),
    ...item.rules.map((effect) => make("span", { class: "tag rule" }, why(effect))),
  );

function why(effect) {
  const values = { rule: effect.rule, before: decimal(effect.before ?? 0, 2), after: decimal(effect.after ?? 0, 2) };
  return effect.before === null || effect.after === null ? t("rule.pin", values) : t("rule.score", values);
}

/** A list to be read, not clicked. `gone` has the items that another list no longer has. */
export const rows = (items, moves = new Map(), gone = new Set()) =>
  items.map((item) =>
    make(
      "li",
      { class: "read", "data-item": item.item_id },
      make("span", { class: "place" }, number(item.position + 1)),
      make(
        "span",
        { class: "what" },
        nameLine(item, moves),
        gone.has(item.item_id) ? make("span", { class: "move gone" }, t("move.gone")) : null,
        tags(item),
      ),
    ),
  );

/** Fills two lists side by side, with what moves from the one to the other. */
export function sideBySide(first, second, before, after) {
  const kept = new Set(after.map((item) => item.item_id));
  first.replaceChildren(
    ...rows(before, new Map(), new Set(before.map((item) => item.item_id).filter((id) => !kept.has(id)))),
  );
  second.replaceChildren(...rows(after, compared(before, after)));
}
