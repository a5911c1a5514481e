// Reports: the list, one of them, and two side by side.

import {get, getIfThere, part} from "../api.js";
import {span} from "../data.js";
import {h} from "../dom.js";
import {capital, count, moment, number, plural, share, words} from "../format.js";
import {changed, linkTo, navigate} from "../state.js";
import {card, facts, missing, ofReport, pick, status, table} from "../ui.js";

const KINDS = [["", "All kinds"], ["drift", "Drift"], ["performance", "Performance"], ["service", "Service"]];
const STATES = ["stable", "drift", "ok", "degraded", "improved", "insufficient_data", "no_reference", "warning", "error"];
const PAGE = 50;

export async function view(context) {
  const [id, other] = [context.query.get("id"), context.query.get("with")];
  if (id !== null && other !== null) return compare(id, other);
  if (id !== null) return one(id);
  return list(context);
}

// Where the service has no list of reports, the histories have them.
async function read(context, kind, state) {
  const found = await getIfThere("/reports", {...span(context.range), kind, status: state, model_version: context.version, limit: PAGE, cursor: context.query.get("cursor")});
  if (found) return found;
  const kinds = ["drift", "performance"].filter((each) => kind === "" || kind === each);
  const all = await Promise.all(kinds.map(async (each) => (await get(`/${each}/history`, {...span(context.range), points: PAGE, model_version: context.version})).items.map((item) => ({...item, kind: each, model_version: context.version}))));
  return {items: all.flat().filter((item) => state === "" || item.status === state).sort((one, two) => two.checked_at.localeCompare(one.checked_at)), next: null};
}

async function list(context) {
  const kind = context.query.get("kind") ?? "";
  const state = context.query.get("state") ?? "";
  const {items, next} = await read(context, kind, state);
  const actions = [pick("Kind", KINDS, kind, (chosen) => navigate(changed({kind: chosen, cursor: null}))), pick("Status", [["", "Any status"], ...STATES.map((each) => [each, capital(words(each))])], state, (chosen) => navigate(changed({state: chosen, cursor: null}))),
    next && h("a", {href: changed({cursor: next})}, "Older ones"), context.query.has("cursor") && h("a", {href: changed({cursor: null})}, "The newest")].filter(Boolean);
  if (!items.length) return [card("Reports", {wide: true, actions}, missing("No reports", `No check of this kind ran in ${context.range.label}.`, "A check runs when enough new rows are stored."))];
  const submit = (event) => {
    event.preventDefault();
    const chosen = new FormData(event.target).getAll("report");
    if (chosen.length === 2) navigate(linkTo("reports", {id: chosen[1], with: chosen[0]}));
    else event.target.querySelector(".failed").textContent = "Choose two reports of one kind.";
  };
  const rows = items.map((each) => ({key: each.report_id, cells: [h("a", {class: "nowrap", href: linkTo("reports", {id: each.report_id})}, moment(each.checked_at)), each.kind, each.model_version, status(each.status),
    h("a", {href: `/reports/${part(each.report_id)}.html`, target: "_blank", rel: "noopener"}, "file"), h("input", {type: "checkbox", name: "report", value: each.report_id, "aria-label": `Compare the ${each.kind} report of ${moment(each.checked_at)}`})]}));
  return [card("Reports", {wide: true, note: `${plural(items.length, "report")} of ${context.range.label}, the newest first`, actions},
    h("form", {"data-key": "compare", onsubmit: submit}, table("Reports", ["time", "kind", "version", "status", "", "compare"], rows), h("div", {class: "buttons"}, h("p", {class: "failed", role: "alert"}), h("button", {}, "Compare two"))))];
}

const back = () => h("a", {href: linkTo("reports")}, "All reports");

async function one(id) {
  const report = await getIfThere(`/reports/${part(id)}`);
  if (!report) return [card("Report", {wide: true, actions: [back()]}, missing("No report has this id", "It may be older than the store's retention."))];
  const view = {drift: "drift", performance: "performance"}[report.kind] ?? "service";
  const at = Date.parse(report.checked_at);
  const then = {range: "custom", from: new Date(at - 86_400_000).toISOString(), to: new Date(at + 1).toISOString(), version: report.model_version};
  const rows = figuresOf(report).map(([name, value]) => [name, value]);
  return [card(`${capital(report.kind)} report`, {wide: true, note: ofReport(report), actions: [h("a", {href: linkTo(view, then)}, `Open the ${view} of that time`), h("a", {href: `/reports/${part(id)}.html`, target: "_blank", rel: "noopener"}, "Report as a file"), h("a", {href: `/reports/${part(id)}`, target: "_blank", rel: "noopener"}, "JSON"), back()]},
    h("p", {}, status(report.status), " ", report.message && capital(report.message)),
    facts([["model", `${report.model_name} ${report.model_version}`], ["checked", moment(report.checked_at)], ["rows", report.window?.rows == null ? null : count(report.window.rows)], ["from", report.window?.from && moment(report.window.from)], ["to", report.window?.to && moment(report.window.to)]]),
    rows.length ? table("Figures", ["figure", {text: "value", n: true}], rows) : null,
    (report.errors ?? []).map((error) => h("p", {class: "advice"}, `${error.feature ?? error.metric ?? "The check"}: ${error.reason}`)))];
}

function figuresOf(report) {
  const metrics = (basis, found) => Object.entries(found ?? {}).map(([name, metric]) => [`${words(name)}, ${basis}`, number(metric.value)]);
  if (report.kind === "performance") return [["label coverage", share(report.realised?.coverage)], ...metrics("realised", report.realised?.metrics), ...metrics("estimated", report.estimated?.metrics)];
  if (report.kind === "drift") return [["features that drifted", share(report.drift_share)], ["findings", count(report.data_quality?.findings?.length ?? 0)], ...Object.entries(report.features ?? {}).map(([name, entry]) => [`PSI of ${name}`, number(entry.psi)])];
  const used = report.service ?? {};
  return [["rows", count(used.rows)], ["failed", count(used.failed)], ["refused", count(used.refused)], ["error rate", share(used.error_rate)], ["p99, seconds", number(used.p99_seconds)]].filter(([, value]) => value !== "–");
}

async function compare(id, other) {
  const [before, after] = (await Promise.all([getIfThere(`/reports/${part(id)}`), getIfThere(`/reports/${part(other)}`)])).sort((one, two) => String(one?.checked_at).localeCompare(String(two?.checked_at)));
  if (!before || !after) return [card("Compare", {wide: true, actions: [back()]}, missing("No report has this id", "One of the two is gone, or the link is cut."))];
  if (before.kind !== after.kind) return [card("Compare", {wide: true, actions: [back()]}, missing("Two kinds", `A ${before.kind} report and a ${after.kind} report have no figure in common.`, "Choose two of one kind."))];
  const first = new Map(figuresOf(before));
  const second = new Map(figuresOf(after));
  const rows = [...new Set([...first.keys(), ...second.keys()])].map((name) => ({key: name, cells: [name, first.get(name) ?? "–", second.get(name) ?? "–"]}));
  return [card(`Two ${before.kind} reports`, {wide: true, actions: [back()]},
    table("Two reports", ["figure", {text: moment(before.checked_at), n: true}, {text: moment(after.checked_at), n: true}], [["status", words(before.status), words(after.status)], ["rows", count(before.window?.rows), count(after.window?.rows)], ...rows]))];
}
