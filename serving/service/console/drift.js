// What has changed from one period to the next.

import { $, make, show } from "./dom.js";
import { decimal, has, number, percent, t } from "./i18n.js";

const COLUMNS = ["distribution", "reading", "psi", "chance", "ks", "people", "shares"];
const READINGS = { none: "better", some: "open", large: "worse" };
const SHOWN = 4;

/** Shows changes, or that none were asked for; `labelOf` names a value of a column. */
export function drawDrift(drift, labelOf) {
  show($("m-drift-result"), drift !== null);
  if (drift === null) return;
  $("m-drift-table").replaceChildren(
    make("thead", {}, make("tr", {}, ...COLUMNS.map((name) => make("th", { scope: "col" }, t(`column.${name}`))))),
    make("tbody", {}, ...drift.changes.map((change) => row(change, labelOf))),
  );
  $("m-drift-new").textContent = drift.new_versions.length
    ? t("drift.new", { versions: drift.new_versions.join(", ") })
    : "";
}

function row(change, labelOf) {
  const psi = (value) => (value === null ? "–" : decimal(value, 3));
  const reading = change.reading.replaceAll(" ", "_");
  return make(
    "tr",
    {},
    make("th", { scope: "row" }, nameOf(change.name)),
    make(
      "td",
      {},
      make(
        "span",
        { class: `verdict ${READINGS[reading] ?? ""}` },
        has(`reading.${reading}`) ? t(`reading.${reading}`) : change.reading,
      ),
    ),
    ...[change.psi, change.chance, change.ks].map((value) => make("td", { class: "number" }, psi(value))),
    make(
      "td",
      { class: "number" },
      t("drift.pair", { before: number(change.people[0]), after: number(change.people[1]) }),
    ),
    make(
      "td",
      {},
      make(
        "ul",
        {},
        ...largest(change.shares).map(([value, [before, after]]) => share(change, value, before, after, labelOf)),
      ),
    ),
  );
}

function nameOf(name) {
  const scores = /^scores of version (\d+)$/.exec(name);
  if (scores) return t("drift.scores", { version: scores[1] });
  return has(`drift.${name}`) ? t(`drift.${name}`) : name;
}

/** The values whose shares have changed most. */
const largest = (shares) =>
  Object.entries(shares)
    .sort(([, one], [, other]) => Math.abs(other[1] - other[0]) - Math.abs(one[1] - one[0]))
    .slice(0, SHOWN);

const share = (change, value, before, after, labelOf) =>
  make(
    "li",
    {},
    make("span", { dir: "auto" }, labelOf(change.name, value)),
    " ",
    make("span", { class: "hint" }, t("drift.pair", { before: percent(before), after: percent(after) })),
  );
