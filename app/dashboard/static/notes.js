// What stands beside the alerts: of which of them nobody is told, and what was asked of a pipeline.

import {ago, words} from "./format.js";
import {element} from "./dom.js";

const ACTIONS = {retrain: "Retrain", fix_input: "Mend the input first"};
const time = (moment) => new Date(moment).toLocaleString();
const line = (what, text) => element("p", {className: "advice"}, element("strong", {}, what), ` – ${text}`);

export const advice = ({action, because}) => line(ACTIONS[action] ?? words(action), because);

export function silence({matcher, starts_at, ends_at, reason, created_by}, now) {
  const planned = Date.parse(starts_at) > now;
  const named = Object.entries(matcher).filter(([, value]) => value !== null).map(([key, value]) => `${key} ${value}`);
  const about = named.length ? named.join(", ") : "all alerts";
  const when = planned ? `from ${time(starts_at)} to ${time(ends_at)}` : `until ${time(ends_at)}`;
  return line(planned ? "Silence planned" : "Silence", `${about} ${when}: ${reason}${created_by === null ? "" : ` (${created_by})`}`);
}

export function request({action, asked_at, state, because}, now) {
  return line(`Asked to ${words(action)}`, `${ago(asked_at, now)}, ${state}: ${because}`);
}
