// What fires, what to do about it, and the section of the playbook behind each alert.

import {ago, words} from "./format.js";
import {element, note} from "./dom.js";
import {advice, request, silence} from "./notes.js";

const TITLES = {
  accuracy_drop: "accuracy dropped",
  mae_drop: "errors have grown",
  estimated_drop: "performance probably dropped",
  metrics_drop: "other metrics dropped",
  unknown_class: "outcomes of an unknown class",
  segment_drop: "a segment is answered badly",
  drift_check_failing: "nobody watches for drift",
  performance_check_failing: "nobody watches performance",
  drift_many: "many features drifted",
  prediction_drift: "predictions drifted",
  joint_drift: "features changed together",
  data_quality: "broken input",
  label_coverage: "outcomes stay away",
  feature_drift: "a feature drifted",
  unjudged_features: "features without a verdict",
};

export const isActive = ({state}) => ["firing", "acknowledged"].includes(state);
export const title = (rule) => TITLES[rule] ?? words(rule);

export function showAlerts({alerts, silences, recommendations, actions}, now) {
  const box = document.querySelector("#alerts .scroll");
  const open = new Set([...box.querySelectorAll("details[open]")].map((details) => details.dataset.alert));
  const notes = [...recommendations.map(advice), ...actions.slice(0, 1).map((asked) => request(asked, now)),
    ...silences.map((each) => silence(each, now))];
  const items = alerts.map((alert) => item(alert, now, open.has(alert.alert_id)));
  const quiet = alerts.some(isActive) ? [] : [note("Nothing fires.")];
  box.replaceChildren(...quiet, ...notes, ...items);
}

function item(alert, now, isOpen) {
  const active = isActive(alert);
  const ended = alert.state === "accepted" ? "accepted" : "resolved";
  const when = alert.resolved_at === null ? `since ${ago(alert.since, now)}` : `${ended} ${ago(alert.resolved_at, now)}`;
  const steps = element("details", {"data-alert": alert.alert_id}, element("summary", {}, "What to do"), element("pre", {}));
  steps.addEventListener("toggle", () => steps.open && showSection(steps.querySelector("pre"), alert.playbook));
  steps.open = isOpen;
  return element("div", {className: "alert", "data-severity": active ? alert.severity : "resolved"},
    element("h3", {title: alert.rule}, title(alert.rule), element("span", {className: "tag"}, active ? alert.severity : alert.state), element("time", {}, when)),
    element("p", {}, alert.message),
    ...about(alert).map((line) => element("p", {className: "causes"}, line)),
    steps);
}

function about({acknowledged_at, acknowledged_by, accepted_at, accepted_by, accepted_reason, silenced_until, state, causes}) {
  const lines = causes.length ? [`look at: ${causes.join(", ")}`] : [];
  if (acknowledged_at !== null) lines.push(`acknowledged${acknowledged_by === null ? "" : ` by ${acknowledged_by}`}`);
  if (accepted_at !== null) lines.push(`accepted as the new normal${accepted_by === null ? "" : ` by ${accepted_by}`}: ${accepted_reason}`);
  if (state === "silenced") lines.push(`silenced until ${new Date(silenced_until).toLocaleString()}`);
  return lines;
}

let playbook = null;

async function showSection(target, address) {
  playbook ??= fetch(`/${address.split("#")[0]}`).then((answer) => (answer.ok ? answer.text() : ""));
  const wanted = address.split("#")[1];
  const sections = (await playbook).split(/^## /m);
  const found = sections.find((section) => section.split("\n")[0].trim().replaceAll(" ", "-") === wanted);
  target.textContent = found === undefined ? `See ${address}` : withoutMarkup(found.slice(found.indexOf("\n")));
}

// Lines of a paragraph are joined: the panel is narrower than the file.
function withoutMarkup(markdown) {
  return markdown.trim().replace(/\*\*|`/g, "").replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").replace(/(\S)\n(?=\S)/g, "$1 ");
}
