// The figures of /metrics: what this replica has done since it started.

import {getText, Refused} from "./api.js";

const LINE = /^(ml_\w+)(?:\{(.*)\})? (\S+)$/;

export async function readMetrics() {
  let text;
  try {
    text = await getText("/metrics");
  } catch (error) {
    if (error instanceof Refused && [401, 403].includes(error.status)) return null;
    throw error;
  }
  const series = [];
  for (const line of text.split("\n")) {
    const [, name, labels, value] = LINE.exec(line) ?? [];
    if (name) series.push({name, labels: labelsOf(labels ?? ""), value: Number(value)});
  }
  return series;
}

function labelsOf(text) {
  const found = {};
  for (const [, name, value] of text.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) found[name] = value.replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));
  return found;
}

export function sum(series, name, wanted = {}) {
  return series.filter((each) => each.name === name && Object.entries(wanted).every(([key, value]) => each.labels[key] === value)).reduce((total, {value}) => total + value, 0);
}
