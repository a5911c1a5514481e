// A line the size of a word. Its figures stand beside it, so it is hidden from a screen reader.

import {svg} from "../dom.js";
import {linear, padded} from "./scale.js";

const [WIDTH, HEIGHT] = [120, 28];

export function sparkline(points, limit = null) {
  const known = points.filter(({v}) => v != null);
  if (known.length < 2) return null;
  const x = linear([known[0].t, known.at(-1).t], [2, WIDTH - 3]);
  const y = linear(padded([...known.map(({v}) => v), limit]), [HEIGHT - 2, 2]);
  const d = known.map(({t, v}, place) => `${place ? "L" : "M"}${x(t).toFixed(1)},${y(v).toFixed(1)}`).join("");
  const end = known.at(-1);
  return svg("svg", {class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, "aria-hidden": "true"},
    limit == null ? null : svg("line", {class: "rule limit", x1: 0, x2: WIDTH, y1: y(limit), y2: y(limit)}),
    svg("path", {class: "line now", d}), svg("circle", {class: "dot now", cx: x(end.t), cy: y(end.v), r: 2.5}));
}
