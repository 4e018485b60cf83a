// The table of what a gate has checked.

import { interval, reachOf } from "./charts.js";
import { make } from "./dom.js";
import { decimal, has, number, t } from "./i18n.js";

const DIGITS = 4;
const COLUMNS = ["check", "before", "after", "limit", "difference", "people", "holds"];

/** A table of checks, in a region with a label of its own; those that failed come first. */
export function checks(found, label) {
  const ordered = [...found.filter((each) => !each.holds), ...found.filter((each) => each.holds)];
  const known = ordered.filter(hasInterval);
  const reach = known.length ? reachOf(known) : 1;
  return make(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    make(
      "table",
      { class: "figures" },
      make("thead", {}, make("tr", {}, ...COLUMNS.map((name) => make("th", { scope: "col" }, t(`column.${name}`))))),
      make("tbody", {}, ...ordered.map((check) => row(check, reach))),
    ),
  );
}

const hasInterval = (check) => check.low !== null && check.high !== null && check.difference !== null;

function row(check, reach) {
  const kind = has(`check.${check.kind}`) ? t(`check.${check.kind}`) : check.kind;
  return make(
    "tr",
    {},
    make(
      "th",
      { scope: "row" },
      make("span", { class: "tag" }, kind),
      " ",
      make("span", { lang: "en", dir: "auto" }, `${check.measure} · ${check.name}`),
    ),
    ...[check.champion, check.challenger, check.limit].map((value) =>
      make("td", { class: "number" }, decimal(value, DIGITS)),
    ),
    hasInterval(check)
      ? make(
          "td",
          {},
          interval({ value: check.difference, low: check.low, high: check.high }, reach),
          make(
            "span",
            { class: "hint" },
            t("interval", { low: decimal(check.low, DIGITS), high: decimal(check.high, DIGITS) }),
          ),
        )
      : make("td", {}, "–"),
    make("td", { class: "number" }, check.people === null ? "–" : number(check.people)),
    make(
      "td",
      {},
      make("span", { class: `verdict ${check.holds ? "better" : "worse"}` }, t(check.holds ? "holds.yes" : "holds.no")),
    ),
  );
}
