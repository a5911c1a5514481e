// Which features have moved, since when, how far, and how much that matters.

import {heatmap} from "../charts/heatmap.js";
import {histogramPair} from "../charts/histogram.js";
import {lineChart} from "../charts/line.js";
import {columnsOf, gapOf, levelOf, reportsOf, segmentsOf} from "../data.js";
import {h} from "../dom.js";
import {capital, count, moment, number, period, plural, share, words} from "../format.js";
import {changed, linkTo, navigate} from "../state.js";
import {bar, card, facts, missing, ofReport, status, table, whatIsMissing} from "../ui.js";

const MAP_ROWS = 30;

export async function view(context) {
  const [report, items] = await reportsOf("drift", context);
  const columns = columnsOf(report);
  const named = context.query.get("feature");
  const chosen = columns.find(({name}) => name === named) ?? columns[0];
  const steps = chosen ? items.filter(({features}) => features?.[chosen.name]).map(({t, features}) => ({t, ...features[chosen.name]})) : [];
  return [
    summary(report),
    columns.length ? h("div", {class: "columns"},
      feature(chosen, named, columns, steps, report, context), ranking(columns, chosen, report), map(items, columns), joint(report), unusual(report), before(report), unjudged(report), segments(report)) : null,
  ];
}

const TEXT = {drift: "Yes", stable: "No", insufficient_data: "Not known yet", no_reference: "Not known: there is no reference"};

function summary(report) {
  if (!report.checked_at) return whatIsMissing(report, "drift");
  const drifted = report.drifted_features ?? [];
  const level = {drift: "warn", stable: "ok"}[report.status] ?? "idle";
  return card("Has the input moved?", {wide: true, level, note: ofReport(report)},
    h("p", {class: "verdict"}, TEXT[report.status] ?? words(report.status), drifted.length ? `: ${drifted.slice(0, 5).join(", ")}${drifted.length > 5 ? ` and ${drifted.length - 5} more` : ""}` : ""),
    report.message && h("p", {}, `${capital(report.message)}.`),
    facts([
      ["features that drifted", report.drift_share == null ? null : `${drifted.length} of ${Object.keys(report.features ?? {}).length} (${share(report.drift_share)})`],
      ["window", report.window && `${count(report.window.rows)} rows, worth ${count(report.window.effective_rows)} independent ones`],
      ["from", report.window?.from && moment(report.window.from)], ["to", report.window?.to && moment(report.window.to)],
      ["drawn from", report.window?.sampled_from > report.window?.rows ? `about ${count(report.window.sampled_from)} rows` : null],
      ["reference", report.reference && `${count(report.reference.rows)} rows${report.reference.in_sample ? ", in-sample" : ""}`],
      ["features with a verdict", report.judged_share == null ? null : share(report.judged_share)],
      ["false alarms", report.limits?.false_alarm_every && `at most one in ${period(report.limits.false_alarm_every)}`],
      ["rows are of", report.entity && `${count(report.entity.entities)} different ${report.entity.name}`],
    ]));
}

function feature(chosen, named, columns, steps, report, context) {
  if (named && !columns.some(({name}) => name === named)) return card("Feature", {wide: true}, missing("No such feature", `The model has no feature named ${named}.`));
  const title = chosen.label;
  if (!chosen.current) return card(title, {wide: true, key: "feature"}, missing("Not compared", "This column could not be compared; the report's errors say why."));
  const points = steps.map((step) => ({t: step.t, v: step.psi, note: words(step.status)}));
  const floor = steps.map((step) => ({t: step.t, v: step.psi_noise_floor}));
  const mean = chosen.current.mean == null ? null : `${number(chosen.current.mean)}, reference ${number(chosen.reference.mean)}`;
  return card(title, {wide: true, key: "feature", note: ofReport(report)},
    h("p", {}, status(chosen.status, chosen.severity ?? undefined), " ", chosen.reason && capital(chosen.reason)),
    h("div", {class: "columns"},
      histogramPair({title: "Reference and window", reference: chosen.reference.histogram, current: chosen.current.histogram, effective: chosen.effective_rows, height: 240}),
      points.some(({v}) => v != null) ? lineChart({title: "PSI over time", height: 240, from: context.range.from, to: context.range.to, marks: context.range.marks, gap: gapOf(steps), domain: [0, 1.1 * Math.max(0.02, ...points.map(({v}) => v ?? 0), ...floor.map(({v}) => v ?? 0))],
        series: [{name: "PSI", kind: "now", points}, {name: "noise floor", kind: "quiet", points: floor}]})
        : missing("No history", chosen.isAnswer ? "Histories are of features; the map has the status of each check." : "No check in the chosen time has this feature.")),
    facts([
      ["since", chosen.status === "drift" && chosen.since ? moment(chosen.since) : null], ["PSI", `${number(chosen.psi)}, noise floor ${number(chosen.psi_noise_floor)}`],
      ["adjusted p-value", chosen.adjusted_p_value == null ? null : `${number(chosen.adjusted_p_value)}, limit ${number(report.limits?.alpha_per_look)}`],
      ["KS", chosen.ks_statistic == null ? null : number(chosen.ks_statistic)], ["Wasserstein", chosen.wasserstein == null ? null : number(chosen.wasserstein)],
      ["Jensen-Shannon", chosen.js_distance == null ? null : number(chosen.js_distance)], ["mean", mean],
      ["standard deviation", chosen.current.std == null ? null : `${number(chosen.current.std)}, reference ${number(chosen.reference.std)}`],
      ["missing", `${share(chosen.current.missing_share)}, reference ${share(chosen.reference.missing_share)}`], ["impact", number(chosen.impact)],
      ["independent rows", count(chosen.effective_rows)], ["test", chosen.test?.replaceAll("+", " + ")],
    ]));
}

function ranking(columns, chosen, report) {
  const largest = Math.max(...columns.map(({impact}) => impact ?? 0), Number.MIN_VALUE);
  const rows = columns.map((each) => ({key: each.name, cells: [
    h("a", {href: changed({feature: each.name}), "aria-current": each === chosen ? "true" : null}, each.label), bar((each.impact ?? 0) / largest),
    number(each.psi), number(each.psi_noise_floor), status(each.status, each.severity ?? undefined)]}));
  return card("Features by impact", {note: `${plural(columns.length, "column")} · ${ofReport(report)}`}, table("Features by impact", ["feature", "impact", {text: "PSI", n: true}, {text: "noise", n: true}, "status"], rows, {sticky: true, key: "ranking"}));
}

function map(items, columns) {
  const judged = items.filter((item) => item.features);
  const names = columns.filter(({isAnswer}) => !isAnswer).slice(0, MAP_ROWS).map(({name}) => name);
  if (judged.length < 2 || !names.length) return card("Features over time", {}, missing("Not enough checks", "The map needs two checks in the chosen time.", "A longer time, or the next check, brings them."));
  const rows = names.map((name) => ({name, cells: judged.map((item) => {
    const step = item.features[name];
    return step && {level: levelOf(step), value: step.psi, text: `${words(step.status)}${step.severity ? `, ${step.severity}` : ""}, PSI ${number(step.psi)}`};
  })}));
  const legend = [["stable", "cell level-0"], ["above noise", "cell level-1"], ["minor", "cell level-2"], ["moderate", "cell level-3"], ["severe", "cell level-4"]];
  return card("Features over time", {note: `${plural(judged.length, "check")}${columns.length > MAP_ROWS ? `, the first ${MAP_ROWS} features by impact` : ""}`},
    heatmap({title: "Drift by feature and time", rows, times: judged.map(({t}) => t), legend, pick: (name) => navigate(changed({feature: name}))}));
}

function joint(report) {
  const found = report.multivariate;
  if (!found) return null;
  const rows = (found.features ?? []).slice(0, 10).map((each) => [each.feature, bar(each.share), share(each.share)]);
  return card("All features together", {note: ofReport(report)}, h("p", {}, status(found.status), " ", found.reason && capital(found.reason)),
    facts([["AUC of window against reference", found.auc == null ? null : number(found.auc)], ["it matters from", found.material_auc == null ? null : number(found.material_auc)], ["p-value", found.p_value == null ? null : number(found.p_value)]]),
    rows.length ? table("What tells them apart", ["feature", "share", {text: "", n: true}], rows) : null);
}

function unusual(report) {
  const found = report.unusual_rows;
  if (!found) return null;
  if (found.status !== "judged") return card("Unusual rows", {}, missing("Not judged", capital(found.reason), "It is looked at again with each check."));
  const rows = found.rows.map((each) => ({key: each.prediction_id, cells: [h("a", {href: linkTo("predictions", {id: each.prediction_id})}, each.prediction_id), number(each.p_value), each.features.map(({feature}) => feature).join(", ") || "all together"]}));
  const note = `${plural(found.count, "row")}; about ${number(found.expected_rows)} of an unchanged window by chance`;
  return card("Unusual rows", {note}, rows.length ? table("Unusual rows", ["id", {text: "p-value", n: true}, "because of"], rows) : h("p", {}, "No row is unusual."));
}

function before(report) {
  const found = report.previous_window;
  if (!found || found.status === "insufficient_data") return card("Against the window before", {}, missing("No window before", `There are ${found ? count(found.window.rows) : "no"} earlier rows of this version to compare with.`, "It comes once as many rows again are stored."));
  const rows = Object.entries(found.features).filter(([, each]) => each.psi != null).sort(([, one], [, other]) => other.psi - one.psi).slice(0, 12)
    .map(([name, each]) => [name, number(each.psi), number(each.psi_noise_floor), status(each.status, each.severity ?? undefined)]);
  return card("Against the window before", {note: `${count(found.window.rows)} rows up to ${moment(found.window.to)}; for people, it alarms nobody`}, h("p", {}, status(found.status)),
    table("Against the window before", ["feature", {text: "PSI", n: true}, {text: "noise", n: true}, "status"], rows, {sticky: true}));
}

function unjudged(report) {
  const found = report.unjudged ?? [];
  if (!found.length) return null;
  return card("Features without a verdict", {note: plural(found.length, "feature")}, table("Features without a verdict", ["feature", "because", "since"], found.map((each) => [each.feature, each.because, each.since ? moment(each.since) : ""]), {sticky: true}));
}

function segments(report) {
  const found = segmentsOf(report);
  if (!found.length) return null;
  const rows = found.map(({label, entry}) => ({key: label, cells: [label, count(entry.rows), (entry.drifted_features ?? []).join(", ") || "–", status(entry.status)]}));
  return card("Segments", {note: "against the same segment of the reference; for people, no alarm"}, table("Segments", ["segment", {text: "rows", n: true}, "drifted", "status"], rows, {sticky: true}));
}
