// Values over time: lines with their bands, limits and baselines, and marks.

import {svg} from "../dom.js";
import {hourOrDay, moment, number} from "../format.js";
import {figure} from "./figure.js";
import {linear, padded, ticks, timeTicks} from "./scale.js";

const EDGE = {top: 10, right: 12, bottom: 24, left: 46};

/* `series`: name, kind (a class), steps, points of {t, v, low, high, note}. `rules`: lines across: name, value, kind.
   A gap of more than `gap` milliseconds breaks a line. */
export function lineChart({title, note, series, rules = [], marks = [], from, to, show = number, domain, height = 200, gap = Infinity, pick}) {
  const shown = series.map((each) => ({...each, points: each.points.filter((point) => point.v != null)}));
  const rows = shown.flatMap((each) => each.points.map((point) => [new Date(point.t).toISOString(), each.name, point.v, point.low, point.high]));
  const last = shown[0]?.points.at(-1);
  return figure({
    title, note, height, pick,
    describe: last ? `Line over time, ${shown[0].points.length} values, the last ${show(last.v)}. Arrow keys read each value` : "No values",
    legend: [...shown.map(({name, kind}) => [name, kind]), ...rules.map(({name, kind}) => [name, `rule ${kind}`])],
    columns: ["time", "series", "value", "low", "high"],
    rows,
    draw: (width, tall) => draw({shown, rules, marks, from, to, show, domain, gap, pick}, width, tall),
  });
}

function draw({shown, rules, marks, from, to, show, domain, gap, pick}, width, height) {
  const all = shown.flatMap(({points}) => points);
  const span = [from ?? Math.min(...all.map(({t}) => t)), to ?? Math.max(...all.map(({t}) => t))];
  // Values at the end alone would be a sliver: then the axis begins with the first of them.
  const first = Math.min(...all.map(({t}) => t));
  if (first - span[0] > 0.8 * (span[1] - span[0])) span[0] = first - 0.05 * (span[1] - first);
  if (span[1] <= span[0]) span[0] = span[1] - 60_000;
  const values = domain ?? domainOf(all, rules);
  const x = linear(span, [EDGE.left, width - EDGE.right]);
  const place = linear(values, [height - EDGE.bottom, EDGE.top]);
  const y = (value) => Math.min(height - EDGE.bottom, Math.max(EDGE.top, place(value)));
  const shapes = [...axes(span, values, x, y, width, height, show), ...marks.filter(({t}) => t >= span[0] && t <= span[1]).map((mark) => vertical(mark, x, height))];
  for (const {value, kind} of rules) {
    if (value == null) continue;
    shapes.push(svg("line", {class: `rule ${kind}`, x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value)}));
  }
  const points = [];
  for (const {name, kind, points: some, steps} of shown) {
    const runs = split(some, gap);
    for (const run of runs) {
      if (run.some(({low}) => low != null)) shapes.push(svg("path", {class: `band ${kind}`, d: band(run, x, y)}));
      shapes.push(svg("path", {class: `line ${kind}`, d: path(run, x, y, steps)}));
      if (run.length === 1) shapes.push(svg("circle", {class: `dot ${kind}`, cx: x(run[0].t), cy: y(run[0].v), r: 3}));
    }
    points.push(...some.map((point) => ({...point, x: x(point.t), y: y(point.v), text: words(name, point, show)})));
  }
  return {shapes, points: points.sort((one, other) => one.x - other.x), pick};
}

// Bands count as far as they are no wider than what the values and rules span: a very wide one would flatten the line.
function domainOf(points, rules) {
  const lines = [...points.map(({v}) => v), ...rules.map(({value}) => value)].filter((value) => value != null);
  const [low, high] = [Math.min(...lines), Math.max(...lines)];
  const room = Math.max(high - low, 0.02 * Math.abs(high)) || 0.1;
  const bands = points.flatMap((point) => [point.low, point.high]).filter((value) => value != null);
  return padded([...lines, ...bands.map((value) => Math.min(high + room, Math.max(low - room, value)))]);
}

function axes([from, to], [low, high], x, y, width, height, show) {
  const shapes = [];
  for (const value of ticks(low, high, Math.max(2, Math.floor(height / 45)))) {
    shapes.push(svg("line", {class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value)}));
    shapes.push(svg("text", {x: EDGE.left - 6, y: y(value) + 3.5, "text-anchor": "end"}, show(value)));
  }
  const {step, moments} = timeTicks(from, to, Math.max(2, Math.floor(width / 80)));
  for (const time of moments) {
    shapes.push(svg("line", {class: "tick", x1: x(time), x2: x(time), y1: height - EDGE.bottom, y2: height - EDGE.bottom + 4}));
    shapes.push(svg("text", {x: Math.min(x(time), width - EDGE.right), y: height - 7, "text-anchor": x(time) > width - 34 ? "end" : "middle"}, hourOrDay(time, step)));
  }
  return shapes;
}

function vertical({t, text}, x, height) {
  return svg("g", {}, svg("line", {class: "rule event", x1: x(t), x2: x(t), y1: EDGE.top, y2: height - EDGE.bottom}),
    svg("text", {x: x(t) + 4, y: EDGE.top + 8}, text));
}

function split(points, gap) {
  const runs = [];
  points.forEach((point, place) => {
    if (place === 0 || point.t - points[place - 1].t > gap) runs.push([]);
    runs.at(-1).push(point);
  });
  return runs;
}

const at = (x, y) => `${x.toFixed(1)},${y.toFixed(1)}`;

function path(points, x, y, steps) {
  return points.map(({t, v}, place) => {
    const before = steps && place ? `L${at(x(t), y(points[place - 1].v))}` : "";
    return `${before}${place ? "L" : "M"}${at(x(t), y(v))}`;
  }).join("");
}

function band(points, x, y) {
  const known = points.filter(({low, high}) => low != null && high != null);
  const above = known.map(({t, high}) => at(x(t), y(high)));
  const below = known.toReversed().map(({t, low}) => at(x(t), y(low)));
  return known.length ? `M${[...above, ...below].join("L")}Z` : "";
}

function words(name, {t, v, low, high, note}, show) {
  const between = low == null || high == null ? "" : ` [${show(low)}, ${show(high)}]`;
  return `${name} ${show(v)}${between}${note ? `, ${note}` : ""} · ${moment(t)}`;
}
