// Predictions: one by its id, and those of a time, by version and label.

import {get, part, Refused} from "../api.js";
import {span} from "../data.js";
import {h} from "../dom.js";
import {moment, number, plural, share} from "../format.js";
import {changed, linkTo, navigate} from "../state.js";
import {bar, card, facts, missing, pick, table} from "../ui.js";

const PAGE = 50;

export async function view(context) {
  const id = context.query.get("id");
  return [search(id), ...(id === null ? await list(context) : await one(id))];
}

function search(id) {
  const submit = (event) => {
    event.preventDefault();
    const wanted = new FormData(event.target).get("id").trim();
    if (wanted) navigate(linkTo("predictions", {id: wanted}));
  };
  return h("form", {class: "search card", "data-key": "search", role: "search", onsubmit: submit}, h("label", {class: "field"}, h("span", {}, "Prediction id"), h("input", {name: "id", value: id ?? "", required: true, autocomplete: "off", maxlength: 128})),
    h("button", {class: "primary"}, "Look up"), id === null ? null : h("a", {href: linkTo("predictions")}, "All predictions"));
}

const shown = (value) => (value == null ? "–" : typeof value === "number" ? number(value) : String(value));

async function list(context) {
  const labelled = context.query.get("labelled");
  const {items, next} = await get("/predictions", {...span(context.range), model_version: context.version, labelled, unusual: context.query.get("unusual"), limit: PAGE, cursor: context.query.get("cursor")});
  const choice = pick("Outcome", [["", "with or without"], ["true", "with an outcome"], ["false", "without one"]], labelled ?? "", (chosen) => navigate(changed({labelled: chosen, cursor: null})));
  const which = pick("Rows", [["", "all"], ["true", "unusual ones"]], context.query.get("unusual") ?? "", (chosen) => navigate(changed({unusual: chosen || null, cursor: null})));
  const more = [choice, which, next && h("a", {href: changed({cursor: next})}, "Next page"), context.query.has("cursor") && h("a", {href: changed({cursor: null})}, "First page"),
    h("a", {href: exportOf(context, labelled), download: "predictions.csv"}, "All as CSV")].filter(Boolean);
  if (!items.length) return [card("Predictions", {wide: true, actions: more}, missing("No predictions", `Nothing was predicted by version ${context.version ?? "–"} in ${context.range.label}${labelled ? ` ${labelled === "true" ? "with" : "without"} an outcome` : ""}.`, "POST /predict makes the first; the page at /docs has an example."))];
  const rows = items.map((each) => ({key: each.prediction_id, cells: [h("a", {href: linkTo("predictions", {id: each.prediction_id})}, each.prediction_id), h("span", {class: "nowrap"}, moment(each.predicted_at)), each.model_version, shown(each.prediction), shown(probabilityOf(each)),
    each.outcome ? shown(each.outcome.outcome) : "–", each.outcome?.value == null ? "" : number(each.outcome.value)]}));
  return [card("Predictions", {wide: true, note: `${plural(items.length, "prediction")}, the oldest of ${context.range.label} first`, actions: more},
    table("Predictions", ["id", "time", "version", "answer", {text: "probability", n: true}, "outcome", {text: "value", n: true}], rows))];
}

const probabilityOf = ({probabilities, prediction}) => probabilities?.[String(prediction)] ?? null;

function exportOf(context, labelled) {
  const query = new URLSearchParams({...span(context.range), format: "csv"});
  if (context.version) query.set("model_version", context.version);
  if (labelled) query.set("labelled", labelled);
  return `/predictions?${query}`;
}

async function one(id) {
  let found;
  try {
    found = await get(`/predictions/${part(id)}`);
  } catch (error) {
    if (!(error instanceof Refused) || error.status !== 404) throw error;
    return [card("Prediction", {wide: true}, missing("No prediction has this id", `Nothing is stored under ${id}.`, "Older predictions are deleted after store.retention; ids are case-sensitive."))];
  }
  return [h("div", {class: "columns"}, answer(found), outcomes(found), values("Features", found.features), found.context ? values("Context", found.context) : null)];
}

function answer(found) {
  const chances = Object.entries(found.probabilities ?? {}).sort(([, one], [, other]) => other - one);
  return card(`Answer: ${shown(found.prediction)}`, {key: "answer", note: moment(found.predicted_at)},
    facts([["id", found.prediction_id], ["model", `${found.model_name} ${found.model_version}`], ["time", moment(found.predicted_at)], ["request id in the log", found.request_id ?? null]]),
    chances.length ? table("Probabilities", ["class", "probability", {text: "", n: true}], chances.map(([name, chance]) => [name, bar(chance), share(chance)])) : null);
}

function outcomes(found) {
  if (!found.outcome) return card("Outcome", {}, missing("No outcome yet", "The truth of this prediction has not come.", "It comes with POST /outcome."));
  const rows = found.revisions.toReversed().map((each) => ({key: String(each.revision), cells: [String(each.revision), shown(each.outcome), each.value == null ? "–" : number(each.value), each.observed_at ? moment(each.observed_at) : "–", moment(each.recorded_at)]}));
  return card(`Outcome: ${shown(found.outcome.outcome)}`, {key: "outcome", note: plural(found.revision_count, "revision")}, table("Revisions", ["revision", "outcome", {text: "value", n: true}, "observed", "recorded"], rows));
}

function values(title, entries) {
  return card(title, {note: plural(Object.keys(entries).length, "value")}, table(title, [title === "Features" ? "feature" : "key", "value"], Object.entries(entries).map(([name, value]) => [name, typeof value === "number" ? String(value) : value === null ? h("em", {}, "missing") : String(value)]), {sticky: true}));
}
