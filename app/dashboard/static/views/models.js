// Versions with role, schema and baseline; activate, roll back; shadows beside the version that answers.

import {get} from "../api.js";
import {activate, button, rollBack} from "../actions.js";
import {mainMetric} from "../data.js";
import {h} from "../dom.js";
import {count, moment, number, plural, share, words} from "../format.js";
import {changed, linkTo} from "../state.js";
import {card, facts, missing, ofReport, pill, status, table} from "../ui.js";

export async function view(context) {
  const {model} = context;
  if (model === null) return [missing("No model", "The service names none.")];
  const chosen = model.versions.find(({version}) => version === context.query.get("id")) ?? model.versions.find(({role}) => role === "active") ?? model.versions[0];
  const shadows = model.versions.filter(({role}) => role === "shadow");
  const beside = await Promise.all((shadows.length ? [context.active, ...shadows.map(({version}) => version)] : []).map(async (version) => ({
    version, performance: await get("/performance", {model_version: version}), drift: await get("/drift", {model_version: version})})));
  return [versions(model, chosen, context), h("div", {class: "columns"}, challengers(beside, context), schema(chosen), baseline(chosen), about(chosen))];
}

const ROLES = {active: "ok", shadow: "note", available: "idle"};

function versions(model, chosen, context) {
  const admin = context.can("admin");
  const rows = model.versions.map((each) => ({key: each.version, cells: [h("a", {href: changed({id: each.version}), "aria-current": each === chosen ? "true" : null}, each.version), pill(ROLES[each.role], each.role), each.task ?? "not loaded",
    each.features ? plural(each.features.length, "feature") : "–", each.reference?.rows == null ? "–" : count(each.reference.rows), number(each.baseline?.[mainMetric(each.baseline)]), admin && each.role !== "active" ? button("Activate", () => activate(model.name, each.version, context.refresh)) : ""]}));
  const main = mainMetric(model.versions.find(({baseline}) => baseline)?.baseline);
  return card(model.name, {wide: true, key: "versions", note: plural(model.versions.length, "version"), actions: admin ? [button("Roll back", () => rollBack(model.name, context.refresh))] : []},
    table("Versions", ["version", "role", "task", "schema", {text: "reference rows", n: true}, {text: main ? `baseline ${words(main)}` : "baseline", n: true}, ""], rows),
    admin ? null : h("p", {class: "note"}, "To activate a version, sign in with a key that has the scope admin."));
}

const interval = (found) => (found?.low == null ? "" : ` [${number(found.low)}, ${number(found.high)}]`);

function challengers(beside, context) {
  if (!beside.length) return card("Shadows", {}, missing("No shadow", "No version answers the same rows on the side.", "serving.shadows names versions to try."));
  const rows = beside.map(({version, performance, drift}) => {
    const metrics = performance.realised?.metrics ?? {};
    const main = mainMetric(metrics);
    const versus = performance.beside?.[context.active];
    const is = version === context.active;
    const agrees = !versus ? "–" : versus.agreement === null ? `differs by ${number(versus.mean_difference)}` : `${share(versus.agreement)} of ${count(versus.rows)}`;
    return {key: version, cells: [`${version} (${is ? "champion" : "shadow"})`, main === undefined ? performance.message ?? "no outcomes yet" : `${words(main)} ${number(metrics[main].value)}${interval(metrics[main])}`,
      performance.window ? `${share(performance.realised?.coverage)} of ${count(performance.window.rows)}` : "–", status(drift.status), is ? "" : agrees, is || !versus?.advantage ? "" : `${number(versus.advantage.value)}${interval(versus.advantage)}`]};
  });
  return card("Shadows beside the champion", {wide: true, note: ofReport(beside[0].performance)}, table("Shadows", ["version", "performance", "labelled", "drift", "agrees with the champion", "better by"], rows));
}

function schema(chosen) {
  if (!chosen.features) return card("Schema", {}, missing("Not loaded", `Version ${chosen.version} lies on disk; its schema is known once it is loaded.`));
  const limits = ({low, high, categories}) => (categories.length ? categories.slice(0, 8).join(", ") + (categories.length > 8 ? ` and ${categories.length - 8} more` : "") : low == null && high == null ? "–" : `${number(low)} to ${number(high)}`);
  const rows = chosen.features.map((each) => ({key: each.name, cells: [h("a", {href: linkTo("drift", {feature: each.name})}, each.name), each.type, each.nullable ? "may be missing" : "needed", limits(each)]}));
  return card(`Schema of version ${chosen.version}`, {key: "schema", note: plural(rows.length, "feature")}, table("Schema", ["feature", "type", "missing", "values"], rows, {sticky: true}));
}

function baseline(chosen) {
  const rows = Object.entries(chosen.baseline ?? {}).map(([name, value]) => [words(name), number(value)]);
  if (!rows.length) return card("Baseline", {}, missing("No baseline", "This version is not loaded, or its reference has no outcomes."));
  return card(`Baseline of version ${chosen.version}`, {key: "baseline", note: `${count(chosen.reference?.rows)} reference rows${chosen.reference?.in_sample ? ", in-sample" : ""}`}, table("Baseline", ["metric", {text: "value", n: true}], rows));
}

function about(chosen) {
  const libraries = Object.entries(chosen.libraries ?? {}).map(([name, version]) => `${name} ${version}`).join(", ");
  return card(`About version ${chosen.version}`, {key: "about"}, facts([["role", chosen.role], ["task", chosen.task], ["classes", chosen.classes?.join(", ")], ["positive class", chosen.positive_class], ["threshold", chosen.threshold == null ? null : number(chosen.threshold)],
    ["format", chosen.format], ["runtime", chosen.runtime], ["libraries", libraries], ["reference of", chosen.reference?.created_at && moment(chosen.reference.created_at)], ["SHA-256", chosen.sha256 && h("code", {}, chosen.sha256)]]));
}
