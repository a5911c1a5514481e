// The features in the order of their impact, and the one that is looked at.

import {clock, number, words} from "./format.js";
import {element, note} from "./dom.js";
import {drawHistogram, drawNothing} from "./charts.js";

const ANSWERS = {prediction: "the prediction", probability: "the probability"};

let chosen = null;

export function showFeatures(drift) {
  const box = document.querySelector("#features .scroll");
  const entries = ranked(drift);
  if (!entries.length) {
    box.replaceChildren(note(drift.message ?? "No check yet."));
    drawNothing("feature", "No histogram yet");
    return;
  }
  const largest = Math.max(...entries.map((entry) => entry.impact ?? 0), Number.MIN_VALUE);
  const rows = entries.map((entry) => row(entry, largest, () => {
    chosen = entry.key;
    showFeatures(drift);
  }));
  box.replaceChildren(...rows);
  const selected = entries.find((entry) => entry.key === chosen) ?? entries[0];
  rows[entries.indexOf(selected)].setAttribute("aria-pressed", "true");
  if (chosen !== null) rows[entries.indexOf(selected)].focus({preventScroll: true});
  showFeature(selected);
}

function ranked(drift) {
  const features = Object.entries(drift.features ?? {}).map(([name, entry]) => ({...entry, key: `feature ${name}`, label: name}));
  const {probability, ...prediction} = drift.prediction ?? {};
  const answers = Object.entries({prediction, probability}).filter(([, entry]) => entry?.current);
  const named = answers.map(([name, entry]) => ({...entry, key: name, label: ANSWERS[name], isAnswer: true}));
  const place = (entry) => (entry.status === "drift" ? 0 : 2) + (entry.isAnswer ? 1 : 0);
  const impact = (entry) => entry.impact ?? 0;
  return [...features, ...named].sort((one, other) => place(one) - place(other) || impact(other) - impact(one));
}

function row(entry, largest, choose) {
  const bar = element("span", {className: "bar"}, element("i", {}));
  bar.firstChild.style.width = `${(100 * (entry.impact ?? 0)) / largest}%`;
  const name = element("span", {className: entry.isAnswer ? "name answer" : "name", title: entry.label}, entry.label);
  const state = element("span", {className: "state"}, entry.severity ?? words(entry.status));
  const made = element("button", {className: "feature", type: "button", "data-status": entry.status, "aria-pressed": "false"},
    name, bar, element("span", {className: "psi"}, `PSI ${number(entry.psi)}`), state);
  made.addEventListener("click", choose);
  return made;
}

function showFeature(entry) {
  const since = entry.status === "drift" && entry.since ? `drift since ${clock(entry.since)}` : words(entry.status);
  const means = entry.current?.mean == null ? "" : `, mean ${number(entry.current.mean)} (reference ${number(entry.reference.mean)})`;
  document.querySelector("#feature h2").replaceChildren(entry.label, element("small", {}, `${since}${means}`));
  if (entry.current) drawHistogram("feature", entry.label, entry.reference.histogram, entry.current.histogram, entry.effective_rows);
  else drawNothing("feature", "This column could not be compared");
}
