// The reliability curve: what the model promised against what came true.

import {svg} from "../dom.js";
import {count, share} from "../format.js";
import {figure} from "./figure.js";
import {linear} from "./scale.js";

const EDGE = {top: 10, right: 14, bottom: 38, left: 46};
const Z = 1.96;
const STEPS = [0, 0.25, 0.5, 0.75, 1];

// `pairs`: [probability, whether it came true] of each row.
export function reliability({title, note, pairs, bins = 10, height = 260}) {
  const found = binned(pairs, bins);
  return figure({
    title, note, height,
    describe: `Observed share against promised probability in ${found.length} bins. Arrow keys read each bin`,
    legend: [["observed", "now"], ["perfect", "rule baseline"]],
    columns: ["probability from", "to", "mean probability", "observed share", "low", "high", "rows"],
    rows: found.map((bin) => [bin.from, bin.to, bin.mean, bin.rate, bin.low, bin.high, bin.n]),
    draw: (width, tall) => draw(found, width, tall),
  });
}

export function binned(pairs, bins) {
  const made = Array.from({length: bins}, (_, place) => ({from: place / bins, to: (place + 1) / bins, n: 0, sum: 0, hits: 0}));
  for (const [probability, isTrue] of pairs) {
    const bin = made[Math.min(bins - 1, Math.floor(probability * bins))];
    bin.n += 1;
    bin.sum += probability;
    bin.hits += isTrue ? 1 : 0;
  }
  return made.filter(({n}) => n > 0).map((bin) => ({...bin, mean: bin.sum / bin.n, rate: bin.hits / bin.n, ...wilson(bin.hits, bin.n)}));
}

function wilson(hits, n) {
  const rate = hits / n;
  const middle = (rate + Z ** 2 / (2 * n)) / (1 + Z ** 2 / n);
  const half = (Z * Math.sqrt((rate * (1 - rate)) / n + Z ** 2 / (4 * n ** 2))) / (1 + Z ** 2 / n);
  return {low: Math.max(0, middle - half), high: Math.min(1, middle + half)};
}

function draw(found, width, height) {
  const x = linear([0, 1], [EDGE.left, width - EDGE.right]);
  const y = linear([0, 1], [height - EDGE.bottom, EDGE.top]);
  const shapes = STEPS.flatMap((value) => [
    svg("line", {class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value)}),
    svg("text", {x: EDGE.left - 6, y: y(value) + 3.5, "text-anchor": "end"}, share(value)),
    svg("text", {x: x(value), y: height - EDGE.bottom + 14, "text-anchor": "middle"}, share(value))]);
  shapes.push(svg("text", {x: (x(0) + x(1)) / 2, y: height - 6, "text-anchor": "middle"}, "promised probability"));
  shapes.push(svg("line", {class: "rule baseline", x1: x(0), y1: y(0), x2: x(1), y2: y(1)}));
  shapes.push(...found.map((bin) => svg("line", {class: "whisker", x1: x(bin.mean), x2: x(bin.mean), y1: y(bin.low), y2: y(bin.high)})));
  shapes.push(svg("path", {class: "line now", d: found.map((bin, place) => `${place ? "L" : "M"}${x(bin.mean)},${y(bin.rate)}`).join("")}));
  shapes.push(...found.map((bin) => svg("circle", {class: "dot now", cx: x(bin.mean), cy: y(bin.rate), r: 3.5})));
  const text = (bin) => `promised ${share(bin.mean)}, came true ${share(bin.rate)} [${share(bin.low)}, ${share(bin.high)}], ${count(bin.n)} rows`;
  return {shapes, points: found.map((bin) => ({x: x(bin.mean), y: y(bin.rate), text: text(bin)}))};
}
