// Charts, by Plotly. Everything arrives binned and counted; texts are escaped, since Plotly reads HTML in them.

import {number, plain, words} from "./format.js";

const INK = "#475569";
const NOW = "#2563eb";
const REFERENCE = "#cbd5e1";
const CONFIG = {displayModeBar: false};
const TIMES = {
  gridcolor: "#f1f5f9",
  nticks: 8,
  tickformatstops: [{dtickrange: [null, 59_999], value: "%H:%M:%S"}, {dtickrange: [60_000, null], value: "%H:%M"}],
};

function draw(id, traces, more) {
  const target = document.querySelector(`#${id} .chart`);
  const {width, height} = target.getBoundingClientRect();
  Plotly.react(target, traces, {...layout(more), width, height}, CONFIG);
}

// Plotly itself looks at the window only, and the panels change with what stands beside them too.
export function fitCharts() {
  const observer = new ResizeObserver((changes) => {
    for (const {target, contentRect: {width, height}} of changes) if (target.data && height) Plotly.relayout(target, {width, height});
  });
  for (const chart of document.querySelectorAll(".chart")) observer.observe(chart);
}

function layout(more) {
  return {
    margin: {l: 44, r: 12, t: 8, b: 34},
    font: {family: "system-ui, sans-serif", size: 11, color: INK},
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    legend: {orientation: "h", x: 1, xanchor: "right", y: 1.02, yanchor: "bottom"},
    xaxis: TIMES,
    yaxis: {gridcolor: "#f1f5f9", zeroline: false, rangemode: "tozero"},
    ...more,
  };
}

export function drawNothing(id, text) {
  const axis = {visible: false};
  const annotation = {text: plain(text), showarrow: false, font: {size: 13, color: "#94a3b8"}, xref: "paper", yref: "paper", x: 0.5, y: 0.5};
  draw(id, [], {xaxis: axis, yaxis: axis, annotations: [annotation]});
}

export function drawHistogram(id, reference, current) {
  const labels = binLabels(reference);
  const trace = (name, histogram, color) => {
    const counts = binCounts(histogram);
    const total = counts.reduce((sum, value) => sum + value, 0) || 1;
    const shares = counts.map((value) => value / total);
    const text = counts.map((value, place) => `${plain(labels[place])}: ${(100 * shares[place]).toFixed(1)} % (${value})`);
    return {type: "bar", name, x: labels.map((_, place) => place), y: shares, text, hoverinfo: "name+text", textposition: "none", marker: {color}};
  };
  const shown = {
    margin: {l: 44, r: 12, t: 24, b: 64},
    bargap: 0.25,
    xaxis: {tickvals: labels.map((_, place) => place), ticktext: labels.map((label) => plain(shorten(label))), tickangle: -40, fixedrange: true},
    yaxis: {tickformat: ".0%", gridcolor: "#f1f5f9", fixedrange: true},
  };
  draw(id, [trace("reference", reference, REFERENCE), trace("now", current, NOW)], shown);
}

const shorten = (label) => (label.length > 18 ? `${label.slice(0, 17)}…` : label);

const EXTRA = ["other", "unseen", "missing"];

function binLabels(histogram) {
  const {edges} = histogram;
  const main = edges
    ? histogram.counts.map((_, place) => {
        if (!edges.length) return "all values";
        if (place === 0) return `≤ ${number(edges[0])}`;
        return place === edges.length ? `> ${number(edges[place - 1])}` : `${number(edges[place - 1])} – ${number(edges[place])}`;
      })
    : histogram.categories.map((value) => (Number.isFinite(value) && !Number.isInteger(value) ? number(value) : String(value)));
  return [...main, ...EXTRA.filter((name) => name in histogram)];
}

const binCounts = (histogram) => [...histogram.counts, ...EXTRA.filter((name) => name in histogram).map((name) => histogram[name])];

export function drawPerformance(items, metric, graded) {
  const known = items.filter((item) => item.values[metric] != null);
  if (!known.length) return drawNothing("performance-history", "No judged outcomes in the last six hours");
  const times = known.map((item) => item.checked_at);
  const coverage = {x: times, y: known.map((item) => item.values.coverage), name: "label coverage", type: "scatter", mode: "lines",
    line: {color: "#94a3b8", width: 1, dash: "dot"}, yaxis: "y2", hovertemplate: "%{y:.0%}<extra>coverage</extra>"};
  const values = {x: times, y: known.map((item) => item.values[metric]), name: words(metric), type: "scatter", mode: "lines+markers",
    line: {color: NOW, width: 2}, marker: {size: 4}, hovertemplate: "%{y:.4g}<extra></extra>"};
  const lines = [["baseline", "#16a34a"], ["limit", "#dc2626"]].filter(([name]) => graded?.[name] != null).map(([name, color]) => ({
    x: [times[0], times.at(-1)], y: [graded[name], graded[name]], name, type: "scatter", mode: "lines", hoverinfo: "skip",
    line: {color, width: 1, dash: "dash"}}));
  const shown = {
    margin: {l: 44, r: 40, t: 22, b: 24},
    yaxis: {gridcolor: "#f1f5f9", zeroline: false},
    yaxis2: {overlaying: "y", side: "right", range: [0, 1.05], tickvals: [0, 0.5, 1], tickformat: ".0%", showgrid: false, zeroline: false},
  };
  draw("performance-history", [coverage, ...lines, values], shown);
}

export function drawDriftShare(items) {
  const known = items.filter((item) => item.values.drift_share != null);
  if (!known.length) return drawNothing("drift-history", "No drift check in the last six hours");
  const trace = {x: known.map((item) => item.checked_at), y: known.map((item) => item.values.drift_share), type: "scatter", mode: "lines+markers",
    line: {color: NOW, width: 2, shape: "hv"}, marker: {size: 4}, fill: "tozeroy", fillcolor: "rgba(37, 99, 235, 0.08)",
    text: known.map((item) => `${item.values.drifted_features} features`), hovertemplate: "%{y:.0%}, %{text}<extra></extra>"};
  const highest = Math.max(0.1, ...trace.y);
  const shown = {margin: {l: 44, r: 12, t: 22, b: 24}, yaxis: {tickformat: ".0%", gridcolor: "#f1f5f9", range: [0, 1.1 * highest], zeroline: false}};
  draw("drift-history", [trace], shown);
}
