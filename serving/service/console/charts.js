// Figures as pictures: inline SVG, whose colours are those of the page. Each is beside a text or a table with the same.

const SPACE = "http://www.w3.org/2000/svg";
// The widest interval has at most so many times the room of the narrowest one; what is beyond has an arrow.
const MOST_TIMES = 6;

/** A new element of SVG: its attributes, then its children. */
export function shape(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** How far from 0 the pictures of some intervals reach. */
export function reachOf(intervals) {
  const reaches = intervals.map(({ low, high }) => Math.max(Math.abs(low), Math.abs(high), Number.EPSILON));
  return Math.min(Math.max(...reaches), MOST_TIMES * Math.min(...reaches));
}

/** Whether an interval is above 0, below it, or neither. */
export const sideOf = ({ low, high }) => (low > 0 ? "better" : high < 0 ? "worse" : "open");

/** A row of a forest plot: an interval, its estimate, and the line of no difference. */
export function interval(figure, reach) {
  const x = (value) => 100 + 92 * Math.max(-1, Math.min(1, value / reach));
  const picture = shape("svg", { viewBox: "0 0 200 24", class: `forest ${sideOf(figure)}`, "aria-hidden": "true" });
  picture.append(
    shape("line", { class: "zero", x1: 100, x2: 100, y1: 0, y2: 24 }),
    shape("line", { class: "whisker", x1: x(figure.low), x2: x(figure.high), y1: 12, y2: 12 }),
  );
  for (const [value, sign] of [
    [figure.low, -1],
    [figure.high, 1],
  ]) {
    const at = x(value);
    const beyond = Math.abs(value) > reach;
    picture.append(
      beyond
        ? shape("path", { class: "end", d: `M${at} 6 L${at + 7 * sign} 12 L${at} 18 Z` })
        : shape("line", { class: "whisker", x1: at, x2: at, y1: 7, y2: 17 }),
    );
  }
  if (Math.abs(figure.value) <= reach) {
    picture.append(shape("rect", { class: "estimate", x: x(figure.value) - 5, y: 7, width: 10, height: 10 }));
  }
  return picture;
}

/** A share over time as steps. */
export function steps(stages, until, last) {
  const [width, height] = [320, 72];
  const begun = stages[0].since;
  // The last tenth shows what came then.
  const x = (time) => (0.9 * width * (time - begun)) / Math.max(until - begun, 1);
  const y = (share) => height - 4 - (height - 8) * share;
  let line = `M${x(begun)} ${y(0)}`;
  for (const { share, since } of stages) line += ` H${x(since)} V${y(share)}`;
  line += ` H${x(until)} V${y(last)} H${width}`;
  return shape(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, class: "steps", "aria-hidden": "true" },
    ...[0, 0.5, 1].map((share) => shape("line", { class: "grid", x1: 0, x2: width, y1: y(share), y2: y(share) })),
    shape("path", { class: "area", d: `${line} V${y(0)} Z` }),
    shape("path", { class: "line", d: line }),
  );
}
