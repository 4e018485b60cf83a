// What people did with answers, day by day: a chart, the same as a table, and what has changed.

import { call } from "./api.js";
import { $, announce, make, show } from "./dom.js";
import { drawDrift } from "./drift.js";
import { day, decimal, has, nameOf, number, percent, t } from "./i18n.js";
import { MOST_LINES, lines, sample } from "./lines.js";

const DAY = 86_400;
const SHARES = new Set(["ctr", "clicked_answers", "conversion", "satisfaction", "return", "recall", "coverage"]);
const EMPTY = { value: null, low: null, high: null, people: 0, why: "" };

let guarded;
let report = null;
let drift = null;
let by = "";
let asked = 0;

/** Listens to the form. */
export function start(guard) {
  guarded = guard;
  for (const id of ["m-days", "m-by", "m-complete"]) $(id).addEventListener("change", () => guarded(refresh));
  $("m-metric").addEventListener("change", drawFigures);
  $("m-drift").addEventListener("click", () => guarded(compare));
  // The chart is as wide as its place.
  new ResizeObserver(() => report && drawChart()).observe($("m-chart"));
}

function period() {
  // A whole minute, so that the same question has an answer already.
  const until = (Math.floor(Date.now() / 60_000) + 1) * 60;
  return `since=${until - Number($("m-days").value) * DAY}&until=${until}`;
}

/** Reads and shows the figures. */
export async function refresh() {
  const mine = ++asked;
  const slice = $("m-by").value;
  $("m-figures").setAttribute("aria-busy", "true");
  $("m-notes").textContent = t("metrics.busy");
  try {
    const columns = ["day", slice].filter(Boolean).join(",");
    const found = await call("GET", `metrics?${period()}&by=${columns}&complete=${$("m-complete").checked}`);
    if (mine !== asked) return;
    [report, by, drift] = [found, slice, null];
  } finally {
    if (mine === asked) {
      $("m-figures").removeAttribute("aria-busy");
      $("m-notes").textContent = "";
    }
  }
  draw();
  announce(t("metrics.answers", { count: report.all.answers }));
}

async function compare() {
  const mine = asked;
  const found = await call("GET", `metrics/drift?${period()}`);
  if (mine !== asked) return;
  drift = found;
  drawDrift(drift, labelOf);
  $("m-drift-result").focus();
}

/** Shows all in the present language. */
export function draw() {
  if (report === null) return;
  const chosen = $("m-metric").value || "ctr";
  $("m-metric").replaceChildren(
    ...Object.keys(report.all.metrics).map((name) => make("option", { value: name }, metricName(name))),
  );
  $("m-metric").value = chosen;
  drawDrift(drift, labelOf);
  drawFigures();
}

const metricName = (name) => (has(`metric.${name}`) ? t(`metric.${name}`) : name);

function valueOf(name, value) {
  if (value === null) return "–";
  return SHARES.has(name)
    ? percent(value, 2)
    : name === "dwell"
      ? t("seconds", { value: decimal(value, 1) })
      : decimal(value, 2);
}

/** A value of a column, as people call it. */
export function labelOf(column, value) {
  if (column === "language" || column === "item_language") return value ? nameOf(value) : t("metrics.unknown");
  if (column === "version") return value === "0" ? t("metrics.popular") : t("metrics.version", { version: value });
  if (column === "history") return has(`history.${value}`) ? t(`history.${value}`) : value;
  return value || t("metrics.unknown");
}

function drawFigures() {
  const metric = $("m-metric").value;
  $("m-definition").textContent = has(`metric.${metric}.help`) ? t(`metric.${metric}.help`) : "";
  const all = report.all.metrics[metric];
  $("m-all").replaceChildren(
    make("span", { class: "big" }, valueOf(metric, all.value)),
    " ",
    make("span", { class: "hint" }, intervalOf(metric, all)),
  );
  const open = report.open[metric] ?? 0;
  const notes = [t("metrics.answers", { count: report.all.answers }), t("lift.persons", { count: report.all.people })];
  if (!report.complete && open > 0) notes.push(t("metrics.open", { share: percent(open) }));
  $("m-notes").textContent = notes.join(" · ");
  show($("m-empty"), !report.all.answers);
  drawChart();
  drawTable(metric);
}

function intervalOf(metric, figure) {
  if (figure.low !== null)
    return t("interval", { low: valueOf(metric, figure.low), high: valueOf(metric, figure.high) });
  if (has(`why.${figure.why}`)) return t(`why.${figure.why}`);
  // A reason with numbers in it is the service's own sentence.
  return make("span", { lang: "en", dir: "auto" }, figure.why);
}

/** The slices, those with the most answers first: name, and day -> figure. */
function series(metric) {
  const found = new Map();
  for (const slice of report.slices) {
    if (slice.rest) continue;
    const key = by ? slice.labels[by] : "";
    if (!found.has(key))
      found.set(key, { name: by ? labelOf(by, key) : t("metrics.everybody"), answers: 0, days: new Map() });
    const line = found.get(key);
    line.answers += slice.answers;
    line.days.set(slice.labels.day, slice.metrics[metric] ?? EMPTY);
  }
  return [...found.values()].sort((one, other) => other.answers - one.answers);
}

function drawChart() {
  const metric = $("m-metric").value;
  const all = series(metric);
  const days = [...new Set(report.slices.filter((each) => !each.rest).map((each) => each.labels.day))].sort();
  const drawn = all.slice(0, MOST_LINES).filter((line) => [...line.days.values()].some((each) => each.value !== null));
  const place = $("m-chart");
  const label = t("metrics.chart", { metric: metricName(metric) });
  const width = Math.max(260, Math.floor(place.clientWidth));
  place.replaceChildren(
    ...(drawn.length ? [lines(drawn, days, { width, label, day, value: (each) => valueOf(metric, each) })] : []),
  );
  $("m-legend").replaceChildren(
    ...drawn.map((line, order) => make("li", {}, sample(order), make("span", { dir: "auto" }, line.name))),
  );
  const rest = report.slices.find((each) => each.rest);
  const remarks = [];
  if (all.length > MOST_LINES) remarks.push(t("metrics.more", { count: all.length - MOST_LINES }));
  if (rest) remarks.push(t("metrics.small", { count: rest.answers }));
  if (report.all.answers && !drawn.length) remarks.push(t("metrics.nothing"));
  $("m-remarks").textContent = remarks.join(" ");
}

function drawTable(metric) {
  const columns = ["day", ...(by ? ["slice"] : []), "value", "interval", "people"];
  const rows = series(metric).flatMap((line) =>
    [...line.days]
      .sort()
      .map(([date, figure]) =>
        make(
          "tr",
          {},
          make("th", { scope: "row" }, day(date)),
          by ? make("td", { dir: "auto" }, line.name) : null,
          make("td", { class: "number" }, valueOf(metric, figure.value)),
          make("td", {}, intervalOf(metric, figure)),
          make("td", { class: "number" }, number(figure.people)),
        ),
      ),
  );
  $("m-table").replaceChildren(
    make("thead", {}, make("tr", {}, ...columns.map((name) => make("th", { scope: "col" }, t(`column.${name}`))))),
    make("tbody", {}, ...rows),
  );
}
