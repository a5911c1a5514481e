// The three charts of the page.

import {histogramPair} from "./charts/histogram.js";
import {lineChart} from "./charts/line.js";
import {h, morph} from "./dom.js";
import {number, plural, share, words} from "./format.js";

function show(id, made) {
  const target = document.querySelector(`#${id} .chart-box`);
  const box = h("div", {}, made);
  morph(target, box);
}

export const drawNothing = (id, text) => show(id, h("p", {class: "note"}, text));

export function drawHistogram(id, name, reference, current, effective) {
  show(id, histogramPair({title: name, reference, current, effective}));
}

const pointsOf = (items, name) => items.map((item) => ({t: Date.parse(item.checked_at), v: item.values[name] ?? null}));

export function drawPerformance(items, metric, graded) {
  if (!items.some((item) => item.values[metric] != null)) return drawNothing("performance-history", "No judged outcomes in the last six hours");
  const rules = ["baseline", "limit"].filter((name) => graded?.[name] != null).map((name) => ({name, value: graded[name], kind: name}));
  show("performance-history", lineChart({
    title: words(metric), rules, show: number, height: 150,
    series: [{name: words(metric), kind: "now", points: pointsOf(items, metric)}]}));
}

export function drawDriftShare(items) {
  if (!items.some((item) => item.values.drift_share != null)) return drawNothing("drift-history", "No drift check in the last six hours");
  const points = pointsOf(items, "drift_share").map((point, place) => ({...point, note: plural(items[place].values.drifted_features, "feature")}));
  show("drift-history", lineChart({
    title: "Share of drifted features", show: share, height: 150, domain: [0, Math.max(0.1, ...points.map(({v}) => v ?? 0)) * 1.1],
    series: [{name: "drifted", kind: "now", steps: true, points}]}));
}
