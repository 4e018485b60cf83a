// A chart of lines over days, with bands where there are intervals. A line has a marker of its own beside its colour.

import { shape } from "./charts.js";

/** A picture with more can't be read; the table has all. */
export const MOST_LINES = 6;
const HEIGHT = 280;
const [TOP, BOTTOM, END] = [12, 28, 12];
const CHARACTER = 8;
// Room of a date below, in any language.
const LABEL = 105;
const MARKERS = [
  (x, y) => shape("circle", { cx: x, cy: y, r: 4 }),
  (x, y) => shape("rect", { x: x - 4, y: y - 4, width: 8, height: 8 }),
  (x, y) => shape("path", { d: `M${x} ${y - 5} L${x + 5} ${y + 4} H${x - 5} Z` }),
  (x, y) => shape("path", { d: `M${x} ${y - 6} L${x + 6} ${y} L${x} ${y + 6} L${x - 6} ${y} Z` }),
  (x, y) => shape("path", { d: `M${x} ${y + 5} L${x + 5} ${y - 4} H${x - 5} Z` }),
  (x, y) => shape("path", { d: `M${x - 4} ${y - 4} L${x + 4} ${y + 4} M${x + 4} ${y - 4} L${x - 4} ${y + 4}` }),
];

/** A piece of a line, for the legend. */
export function sample(order) {
  const picture = shape("svg", {
    viewBox: "0 0 28 14",
    width: 28,
    height: 14,
    class: `series s${order}`,
    "aria-hidden": "true",
  });
  picture.append(shape("path", { class: "line", d: "M0 7 H28" }), marker(order, 14, 7));
  return picture;
}

function marker(order, x, y) {
  const element = MARKERS[order](x, y);
  element.setAttribute("class", "marker");
  return element;
}

/** A multiple of 1, 2 or 5 and a power of ten, so that about four of them reach a number. */
function stepTo(most) {
  const power = 10 ** Math.floor(Math.log10(most / 4));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => each * 4.5 >= most);
}

/**
 * The chart.
 *
 * `drawn` has lines of `name` and `days`, day -> figure; `days` are those of the axis; `format` has the `width` in
 * pixels, the `label` of the whole, and how a `day` and a `value` are written.
 */
export function lines(drawn, days, format) {
  const figures = drawn.flatMap((line) => [...line.days.values()]).filter((each) => each.value !== null);
  const most = Math.max(...figures.map((each) => each.value)) || 1;
  // An interval of a few people may be so wide that nothing else could be seen.
  const top = Math.min(Math.max(...figures.map((each) => each.high ?? each.value)) || 1, 2.5 * most);
  const step = stepTo(top);
  const ticks = [...Array(Math.ceil(top / step) + 1).keys()].map((each) => each * step);
  const highest = ticks.at(-1);
  const left = 14 + CHARACTER * Math.max(...ticks.map((each) => format.value(each).length));
  const inner = format.width - left - END;
  const x = (place) => left + (days.length > 1 ? (inner * place) / (days.length - 1) : inner / 2);
  const y = (value) => HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * Math.min(value, highest)) / highest;
  const picture = shape("svg", {
    width: format.width,
    height: HEIGHT,
    viewBox: `0 0 ${format.width} ${HEIGHT}`,
    role: "img",
    "aria-label": format.label,
  });
  for (const tick of ticks) {
    picture.append(
      shape("line", { class: "grid", x1: left, x2: format.width - END, y1: y(tick), y2: y(tick) }),
      shape("text", { class: "axis", x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, format.value(tick)),
    );
  }
  const every = Math.ceil(days.length / Math.max(1, Math.floor(inner / LABEL)));
  days.forEach((each, place) => {
    if (place % every) return;
    // The first and the last one would be cut off.
    const anchor = days.length === 1 ? "middle" : !place ? "start" : place === days.length - 1 ? "end" : "middle";
    picture.append(
      shape("text", { class: "axis", x: x(place), y: HEIGHT - 8, "text-anchor": anchor }, format.day(each)),
    );
  });
  const groups = drawn.map((line, order) => group(line, order, days, x, y, format));
  picture.append(...groups.map(({ bands }) => bands), ...groups.map(({ marks }) => marks));
  return picture;
}

function group(line, order, days, x, y, format) {
  const points = days.map((each, place) => ({ day: each, at: x(place), figure: line.days.get(each) }));
  const bands = shape("g", { class: `series s${order}` });
  for (const run of runs(points, ({ figure }) => figure !== undefined && figure.low !== null)) {
    const above = run.map(({ at, figure }) => `${at} ${y(figure.high)}`);
    const below = run.map(({ at, figure }) => `${at} ${y(figure.low)}`).reverse();
    // One day alone has no area.
    const single = run.length === 1;
    bands.append(
      shape("path", {
        class: single ? "whisker" : "band",
        d: `M${[...above, ...below].join(" L")}${single ? "" : " Z"}`,
      }),
    );
  }
  const marks = shape("g", { class: `series s${order}` });
  for (const run of runs(points, ({ figure }) => figure !== undefined && figure.value !== null)) {
    marks.append(
      shape("path", { class: "line", d: `M${run.map(({ at, figure }) => `${at} ${y(figure.value)}`).join(" L")}` }),
    );
    for (const point of run) {
      const mark = marker(order, point.at, y(point.figure.value));
      mark.append(shape("title", {}, `${line.name}, ${format.day(point.day)}: ${format.value(point.figure.value)}`));
      marks.append(mark);
    }
  }
  return { bands, marks };
}

/** Neighbouring points that have something. */
function runs(points, has) {
  const found = [[]];
  for (const point of points) {
    if (has(point)) found.at(-1).push(point);
    else if (found.at(-1).length) found.push([]);
  }
  return found.filter((run) => run.length);
}
