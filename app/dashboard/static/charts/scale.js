// Scales and ticks.

import {offsetOf} from "../format.js";

// Maps a span of values to a span of the drawing.
export function linear([low, high], [start, end]) {
  const width = high - low || 1;
  return (value) => start + ((value - low) / width) * (end - start);
}

// Round values that cover a span, about so many.
export function ticks(low, high, about = 5) {
  const span = high - low || Math.abs(high) || 1;
  const raw = span / Math.max(1, about);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((each) => each >= raw * 0.999);
  const found = [];
  for (let place = Math.ceil(low / step - 1e-9); place * step <= high + step * 1e-9; place += 1) found.push(Number((place * step).toPrecision(12)));
  return found;
}

const STEPS_S = [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 2_592_000];

// Moments on whole minutes, hours or days of the reader's zone, at most so many.
export function timeTicks(from, to, most) {
  const step = 1000 * (STEPS_S.find((seconds) => (to - from) / (1000 * seconds) <= most) ?? STEPS_S.at(-1));
  const shift = offsetOf(from);
  const found = [];
  for (let time = Math.ceil((from + shift) / step) * step - shift; time <= to; time += step) found.push(time);
  return {step, moments: found};
}

// A span with some room on both sides.
export function padded(values, room = 0.08) {
  const known = values.filter((value) => value != null && Number.isFinite(value));
  if (!known.length) return [0, 1];
  const low = Math.min(...known);
  const high = Math.max(...known);
  const more = (high - low) * room || Math.abs(high) * 0.1 || 0.1;
  return [low - more, high + more];
}
