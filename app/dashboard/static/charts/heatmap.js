// Features down, time across: how far each has moved from the reference.

import {svg} from "../dom.js";
import {hourOrDay, moment} from "../format.js";
import {figure} from "./figure.js";
import {timeTicks} from "./scale.js";

const ROW = 20;
const EDGE = {top: 4, right: 8, bottom: 24};

// `rows`: name and cells of {level 0 to 4 or null, text, value}; `times`: one of each column. `pick(name)` opens a row.
export function heatmap({title, note, rows, times, legend, pick}) {
  const height = EDGE.top + EDGE.bottom + ROW * Math.max(rows.length, 1);
  return figure({
    title, note, height, legend,
    describe: `${rows.length} features at ${times.length} moments. Arrow keys read each cell, Enter opens the feature`,
    columns: ["feature", ...times.map((time) => new Date(time).toISOString())],
    rows: rows.map(({name, cells}) => [name, ...cells.map((cell) => cell?.value)]),
    draw: (width) => draw(rows, times, width, height, pick),
  });
}

function draw(rows, times, width, height, pick) {
  const left = Math.min(170, Math.max(84, width * 0.26));
  const most = Math.floor(left / 6.4);
  const step = (width - left - EDGE.right) / Math.max(1, times.length);
  const shapes = [];
  const points = [];
  rows.forEach(({name, cells}, place) => {
    const top = EDGE.top + place * ROW;
    const shown = name.length > most ? `${name.slice(0, most - 1)}…` : name;
    shapes.push(svg("text", {class: "row", x: left - 8, y: top + 14, "text-anchor": "end"}, shown));
    cells.forEach((cell, column) => {
      const box = {x: left + column * step, y: top + 1, width: Math.max(0.8, step - (step > 4 ? 1 : 0)), height: ROW - 2};
      shapes.push(svg("rect", {class: `cell level-${cell?.level ?? "none"}`, ...box}));
      points.push({...box, name, text: `${name}: ${cell?.text ?? "not judged"} · ${moment(times[column])}`});
    });
  });
  shapes.push(...timeAxis(times, left, step, width, height));
  return {shapes, points, columns: times.length, pick: pick && ((point) => pick(point.name))};
}

function timeAxis(times, left, step, width, height) {
  if (!times.length) return [];
  const {step: apart} = timeTicks(times[0], times.at(-1) + 1, Math.max(2, Math.floor((width - left) / 80)));
  const every = Math.max(1, Math.ceil(70 / step));
  return times.filter((_, place) => place % every === 0).map((time, place) =>
    svg("text", {x: left + step * (place * every + 0.5), y: height - 7, "text-anchor": step * every > 40 ? "middle" : "start"}, hourOrDay(time, apart)));
}
