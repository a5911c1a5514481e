// Two histograms over the same bins: the reference and the window, with what chance alone would change.

import {svg} from "../dom.js";
import {count, number, share} from "../format.js";
import {figure} from "./figure.js";
import {linear, ticks} from "./scale.js";

const EDGE = {top: 10, right: 8, bottom: 40, left: 42};
const MARGIN = 1.96;
const EXTRA = ["other", "unseen", "missing"];

// `effective` is the number of independent rows that the window is worth: it says how far chance moves a bar.
export function histogramPair({title, note, reference, current, effective, height = 220}) {
  const bins = binsOf(reference, current, effective);
  return figure({
    title, note, height,
    describe: `Shares of ${bins.length} bins in the reference and in the window. Arrow keys read each bin`,
    legend: [["reference", "then"], ["window", "now"], ["95 % of windows by chance", "whisker"]],
    columns: ["bin", "reference rows", "reference share", "window rows", "window share", "by chance from", "by chance to"],
    rows: bins.map((bin) => [bin.label, bin.counts[0], bin.then, bin.counts[1], bin.now, bin.low, bin.high]),
    draw: (width, tall) => draw(bins, width, tall),
  });
}

export function binsOf(reference, current, effective) {
  const labels = labelsOf(reference);
  const [before, after] = [countsOf(reference), countsOf(current)];
  const totals = [before, after].map((counts) => counts.reduce((sum, value) => sum + value, 0) || 1);
  const bins = labels.map((label, place) => {
    const counts = [before[place] ?? 0, after[place] ?? 0];
    const [then, now] = [counts[0] / totals[0], counts[1] / totals[1]];
    const spread = effective ? MARGIN * Math.sqrt(then * (1 - then) * (1 / effective + 1 / totals[0])) : 0;
    return {label, counts, then, now, low: Math.max(0, then - spread), high: Math.min(1, then + spread), extra: place >= labels.length - EXTRA.length};
  });
  return bins.filter((bin, place) => place < reference.counts.length || bin.counts.some((each) => each > 0));
}

function labelsOf({edges, categories, counts}) {
  const text = (value) => (Number.isFinite(value) && !Number.isInteger(value) ? number(value) : String(value));
  const main = counts.map((_, place) => {
    if (categories) return text(categories[place]);
    if (!edges?.length) return "all values";
    if (place === 0) return `≤ ${number(edges[0])}`;
    return place === edges.length ? `> ${number(edges[place - 1])}` : `${number(edges[place - 1])} – ${number(edges[place])}`;
  });
  return [...main, ...EXTRA];
}

const countsOf = (histogram) => [...histogram.counts, ...EXTRA.map((name) => histogram[name] ?? 0)];

function draw(bins, width, height) {
  const highest = Math.max(...bins.map(({then, now, high}) => Math.max(then, now, Math.min(high, 1))), 0.01);
  const y = linear([0, highest * 1.05], [height - EDGE.bottom, EDGE.top]);
  const step = (width - EDGE.left - EDGE.right) / bins.length;
  const shapes = ticks(0, highest, 4).flatMap((value) => [
    svg("line", {class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value)}),
    svg("text", {x: EDGE.left - 6, y: y(value) + 3.5, "text-anchor": "end"}, share(value))]);
  const points = [];
  const every = Math.ceil(46 / step);
  bins.forEach((bin, place) => {
    const left = EDGE.left + step * place;
    const bar = step * 0.38;
    shapes.push(svg("rect", {class: "then", x: left + step * 0.12, width: bar, y: y(bin.then), height: y(0) - y(bin.then)}));
    shapes.push(svg("rect", {class: "now", x: left + step * 0.5, width: bar, y: y(bin.now), height: y(0) - y(bin.now)}));
    const middle = left + step * 0.12 + bar / 2;
    if (bin.high > bin.low) shapes.push(svg("line", {class: "whisker", x1: middle, x2: middle, y1: y(bin.low), y2: y(bin.high)}));
    if (place % every === 0) shapes.push(label(bin.label, left + step / 2, height, step * every, place));
    const text = `${bin.label}: ${share(bin.now)} of the window (${count(bin.counts[1])} rows), ${share(bin.then)} of the reference`;
    points.push({x: left, y: EDGE.top, width: step, height: height - EDGE.top - EDGE.bottom, text});
  });
  return {shapes, points: points.map((each) => ({...each, x: each.x}))};
}

function label(text, x, height, room, place) {
  const most = Math.max(3, Math.floor(room / 5.6));
  const cut = text.length > most ? `${text.slice(0, most - 1)}…` : text;
  return svg("text", {x, y: height - EDGE.bottom + (place % 2 && room < 60 ? 26 : 14), "text-anchor": "middle"}, cut);
}
