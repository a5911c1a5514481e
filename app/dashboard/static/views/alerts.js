// Alerts: what fires, and for one of them its evidence, what to do, and the buttons.

import {get, getIfThere, part} from "../api.js";
import {accept, acknowledge, activate, button, endSilence, rollBack, silence} from "../actions.js";
import {histogramPair} from "../charts/histogram.js";
import {lineChart} from "../charts/line.js";
import {columnsOf, gapOf, isActive, mainMetric, metricPoints, reportsOf, SEVERITY_LEVELS, titleOf} from "../data.js";
import {h} from "../dom.js";
import {ago, capital, moment, number, plural, words} from "../format.js";
import {changed, linkTo, navigate} from "../state.js";
import {readSection, render} from "../markdown.js";
import {card, facts, missing, ofReport, pick, pill, table} from "../ui.js";

const STATES = [["", "All"], ["firing", "Firing"], ["acknowledged", "Acknowledged"], ["silenced", "Silenced"], ["pending", "Pending"], ["accepted", "Accepted"], ["resolved", "Resolved"], ["passed", "Passed"]];

export async function view(context) {
  const id = context.query.get("id");
  const found = await get("/alerts", {model_version: context.version, limit: 1000});
  if (id !== null) return one(found.items.find((alert) => alert.alert_id === id) ?? await older(id, context), id, context);
  const state = context.query.get("state") ?? "";
  const items = found.items.filter((alert) => state === "" || alert.state === state);
  return [h("div", {class: "columns"}, list(items, state, found), advice(found), silences(found.silences, context))];
}

// An alert's id begins with the time at which it began: one that ended long ago is asked for by that.
async function older(id, context) {
  const time = Number.parseInt(id.replaceAll("-", "").slice(0, 12), 16);
  if (!Number.isFinite(time) || time > 8e15) return undefined;
  try {
    const {items} = await get("/alerts", {model_version: context.version, from: new Date(time - 60_000).toISOString(), limit: 1000}, [422]);
    return items?.find((alert) => alert.alert_id === id);
  } catch {
    return undefined;
  }
}

function list(items, state, found) {
  const choice = pick("State", STATES, state, (chosen) => navigate(changed({state: chosen})));
  if (!items.length) return card("Alerts", {wide: true, actions: [choice]}, missing("No such alert", state ? `No alert is ${state}.` : "No rule has held in the last week.", "Rules are looked at with each check."));
  const rows = items.map((alert) => ({key: alert.alert_id, cells: [
    h("a", {href: linkTo("alerts", {id: alert.alert_id})}, titleOf(alert.rule)), pill(isActive(alert) ? SEVERITY_LEVELS[alert.severity] : "idle", alert.severity), stateOf(alert), h("span", {class: "nowrap"}, ago(alert.since)), alert.message]}));
  return card("Alerts", {wide: true, note: plural(found.items.length, "alert"), actions: [choice]}, table("Alerts", ["alert", "severity", "state", "began", "message"], rows));
}

function stateOf({state, acknowledged_by: by, resolved_at: resolved, silenced_until: until}) {
  if (state === "acknowledged") return `acknowledged${by === null ? "" : ` by ${by}`}`;
  if (state === "accepted") return `accepted as the new normal ${ago(resolved)}`;
  if (state === "resolved") return `resolved ${ago(resolved)}`;
  return state === "silenced" ? `silenced until ${moment(until)}` : state;
}

const ADVICE = {retrain: "Retrain", fix_input: "Fix the input"};

function advice({recommendations, actions}) {
  if (!recommendations.length && !actions.length) return null;
  return card("Recommended", {}, recommendations.map(({action, because, evidence = []}) => h("div", {class: "advice"}, h("p", {}, h("strong", {}, ADVICE[action] ?? words(action)), `: ${because}`),
    h("ul", {}, evidence.slice(0, 5).map((each) => h("li", {}, h("a", {href: linkTo("reports", {id: each.report_id})}, `${each.figure} ${number(each.value)}, limit ${number(each.limit)}`)))))),
  actions.map((each) => h("p", {class: "note"}, `Asked to ${words(each.action)} ${ago(each.asked_at)}, ${each.state}: ${each.because}`)));
}

function silences(found, context) {
  if (!found.length) return card("Silences", {}, missing("No silence", "Every alert is told.", "An alert's own view can silence it."));
  const rows = found.map((each) => {
    const fits = Object.entries(each.matcher).filter(([, value]) => value !== null).map(([name, value]) => `${name} ${value}`).join(", ");
    return {key: each.silence_id, cells: [fits || "all alerts", each.reason, `${moment(each.starts_at)} to ${moment(each.ends_at)}`, each.created_by ?? "–", context.can("admin") ? button("End", () => endSilence(each, context.refresh)) : ""]};
  });
  return card("Silences", {wide: true}, table("Silences", ["covers", "why", "from and to", "by", ""], rows));
}

async function one(alert, id, context) {
  const back = h("a", {href: linkTo("alerts")}, "All alerts");
  if (!alert) return [card("Alert", {actions: [back]}, missing("No such alert", `No alert of version ${context.version} has the id ${id}.`, "Another version may have it; alerts that ended are kept as long as the store's retention says."))];
  const [report, section, [, items]] = await Promise.all([getIfThere(`/reports/${part(alert.report_id)}`), readSection(alert.playbook.split("#")[1] ?? ""), reportsOf("performance", context)]);
  return [
    head(alert, report, context, back),
    h("div", {class: "columns"}, ...evidence(alert, report, items, context),
      card("What to do", {wide: false, key: "playbook", note: "from the playbook"}, section ? render(section) : missing("No section", "The playbook has no section on this rule."), h("p", {}, h("a", {href: `/dashboard/playbook#${alert.playbook.split("#")[1] ?? ""}`}, "The whole playbook")))),
  ];
}

function head(alert, report, context, back) {
  const active = isActive(alert);
  const {refresh, model} = context;
  const acts = context.can("admin") ? [
    alert.state === "firing" ? button("I am on it", () => acknowledge(alert, refresh), {primary: true}) : null,
    ["firing", "acknowledged"].includes(alert.state) ? button("Silence", () => silence(alert, refresh)) : null,
    ["firing", "acknowledged", "silenced"].includes(alert.state) ? button("Accept as normal", () => accept(alert, refresh)) : null,
    active && model.versions.length > 1 ? earlier(model, context) : null,
  ].filter(Boolean) : [];
  return h("section", {class: "answer", "data-level": active ? SEVERITY_LEVELS[alert.severity] : "idle", "data-key": "alert"},
    h("p", {class: "question"}, pill(active ? SEVERITY_LEVELS[alert.severity] : "idle", alert.severity), ` ${alert.rule}, ${stateOf(alert)}`),
    h("h1", {}, capital(titleOf(alert.rule))), h("p", {}, alert.message),
    facts([["value", alert.value === null ? null : number(alert.value)], ["limit", alert.limit === null ? null : number(alert.limit)], ["began", `${moment(alert.since)}, ${ago(alert.since)}`],
      ["resolved", alert.resolved_at && moment(alert.resolved_at)], ["acknowledged", alert.acknowledged_at && `${moment(alert.acknowledged_at)}${alert.acknowledged_by === null ? "" : ` by ${alert.acknowledged_by}`}`],
      ["accepted", alert.accepted_at && `${alert.accepted_by === null ? "" : `by ${alert.accepted_by}: `}${alert.accepted_reason}`],
      ["look at", alert.causes.length ? alert.causes.map((name, place) => [place ? ", " : "", h("a", {href: linkTo("drift", {feature: name})}, name)]) : null]]),
    h("div", {class: "actions"}, acts, h("a", {href: `/reports/${part(alert.report_id)}.html`, target: "_blank", rel: "noopener"}, "Report as a file"), h("a", {href: linkTo("reports", {id: alert.report_id})}, "Report"), back),
    context.can("admin") ? null : h("p", {class: "note"}, "To act, sign in with a key that has the scope admin."));
}

function earlier(model, context) {
  return h("span", {class: "pair"}, button("Roll back", () => rollBack(model.name, context.refresh)),
    pick("Activate", [["", "version …"], ...model.versions.filter(({role}) => role !== "active").map(({version}) => [version, version])], "", (version) => version && activate(model.name, version, context.refresh)));
}

function evidence(alert, report, items, context) {
  if (!report) return [card("Evidence", {}, missing("No report", "The report of this alert is gone."))];
  const shown = [];
  if (report.kind === "performance") shown.push(metricEvidence(alert, report, items, context));
  if (report.kind === "drift") {
    const columns = columnsOf(report);
    const named = columns.filter(({name, current}) => current && alert.causes.includes(name));
    const picked = named.length ? named : alert.rule === "prediction_drift" ? columns.filter(({isAnswer, current}) => isAnswer && current) : [];
    shown.push(...picked.slice(0, 4).map((each) => card(each.label, {note: ofReport(report)}, histogramPair({title: "Reference and window", reference: each.reference.histogram, current: each.current.histogram, effective: each.effective_rows}),
      facts([["PSI", `${number(each.psi)}, noise floor ${number(each.psi_noise_floor)}`], ["since", each.since ? moment(each.since) : null], ["impact", number(each.impact)]]))));
    const findings = report.data_quality?.findings ?? [];
    if (alert.rule.startsWith("data_quality") && findings.length) shown.push(card("Findings", {note: ofReport(report)}, table("Findings", ["feature", "kind", "what"], findings.map((each) => [each.feature ?? "all rows", words(each.kind), each.message]))));
  }
  if (report.kind === "service") shown.push(serviceEvidence(report));
  return shown.length ? shown : [card("Evidence", {note: ofReport(report)}, h("p", {}, alert.message), h("p", {}, h("a", {href: linkTo("reports", {id: alert.report_id})}, "Open the report")))];
}

function metricEvidence(alert, report, items, context) {
  const [realised, estimated] = [report.realised?.metrics ?? {}, report.estimated?.metrics ?? {}];
  const basis = alert.rule === "estimated_drop" ? estimated : realised;
  const worst = Object.keys(basis).find((name) => basis[name].status === "degraded") ?? mainMetric(realised, estimated);
  const graded = basis[worst] ?? {};
  const rows = Object.entries(basis).filter(([, metric]) => metric.value !== null).map(([name, metric]) => [words(name), number(metric.value), metric.low === null ? "" : `[${number(metric.low)}, ${number(metric.high)}]`, number(metric.limit), number(metric.baseline), metric.status]);
  return card("Evidence", {note: ofReport(report, report.realised?.labelled)},
    lineChart({title: capital(words(worst)), from: context.range.from, to: context.range.to, gap: gapOf(items),
      series: [{name: "realised", kind: "now", points: metricPoints(items, "realised", worst)}, {name: "estimated", kind: "second", points: metricPoints(items, "estimated", worst)}],
      rules: [{name: "limit", value: graded.limit, kind: "limit"}, {name: "baseline", value: graded.baseline, kind: "baseline"}].filter(({value}) => value != null)}),
    table("Metrics of the report", ["metric", {text: "value", n: true}, {text: "interval", n: true}, {text: "limit", n: true}, {text: "baseline", n: true}, "status"], rows));
}

function serviceEvidence(report) {
  const used = report.service;
  return card("Evidence", {note: ofReport(report, used?.rows)}, facts([
    ["rows", used && `${number(used.rows)}, ${number(used.failed)} failed, ${number(used.refused)} refused`], ["error rate", used && number(used.error_rate)], ["p99", used && `${number(used.p99_seconds)} s`],
    ["store away", report.outage && `${number(report.outage.seconds)} s: ${report.outage.reason}`], ["rolled back", report.rolled_back && `${report.rolled_back.version} to ${report.rolled_back.to}: ${report.rolled_back.reason}`],
    ...Object.entries(report.checks ?? {}).map(([kind, each]) => [`${kind} check overdue`, `${number(each.overdue_s)} s, limit ${number(each.limit_s)} s`])]));
}
