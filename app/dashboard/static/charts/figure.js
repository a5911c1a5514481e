// The frame of every chart: caption, legend, drawing, tooltip, the table behind it, and its files.

import {h, svg} from "../dom.js";
import {savePng, saveCsv} from "./files.js";

const observer = new ResizeObserver((changes) => {
  for (const {target} of changes) target.closest("figure")?.redraw?.(target.closest("figure"));
});

/* A chart: `draw(width, height)` gives the shapes and the points that a pointer or the arrow keys can reach, each with
   x, y and text. `columns` and `rows` are the table behind it. */
export function figure({title, note, describe, legend = [], height = 200, columns, rows, draw, name = title}) {
  const plot = h("div", {class: "plot", tabindex: 0, role: "img", "aria-label": `${title}. ${describe}`});
  plot.style.height = `${height}px`;
  const tip = h("div", {class: "tip", role: "status", "aria-live": "polite"});
  const made = h("figure", {class: "chart"},
    h("figcaption", {}, h("strong", {}, title), note && h("span", {class: "note"}, note),
      legend.length ? h("span", {class: "legend"}, legend.map(([label, kind]) => h("span", {}, h("i", {class: kind}), label))) : null),
    h("div", {class: "stage"}, plot, tip),
    behind(columns, rows, name));
  let shown = null;
  made.redraw = (target) => {
    const box = target.querySelector(".plot");
    const {width} = box.getBoundingClientRect();
    if (target !== made) adopt(target, made);
    box.style.height = `${height}px`;
    if (width < 40) return;
    const drawn = draw(width, height);
    const mark = svg("g", {class: "mark"});
    box.replaceChildren(svg("svg", {width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true"}, drawn.shapes, mark));
    shown = {...drawn, mark, box, tip: target.querySelector(".tip"), place: -1};
    explore(target, () => shown);
  };
  requestAnimationFrame(() => plot.isConnected && observer.observe(plot));
  return made;
}

// An older figure takes the words, the table and the files of a fresh one.
function adopt(target, fresh) {
  const buttons = fresh.querySelectorAll(".files button");
  target.querySelectorAll(".files button").forEach((button, place) => { button.onclick = buttons[place].onclick; });
  for (const part of ["figcaption", "table", ".plot"]) {
    const [old, next] = [target.querySelector(part), fresh.querySelector(part)];
    if (!old || !next) continue;
    if (part === ".plot") old.setAttribute("aria-label", next.getAttribute("aria-label"));
    else if (old.innerHTML !== next.innerHTML) old.replaceChildren(...[...next.childNodes].map((node) => node.cloneNode(true)));
  }
}

function behind(columns, rows, name) {
  const text = (value) => (value == null ? "" : String(value));
  const table = h("table", {}, h("thead", {}, h("tr", {}, columns.map((each) => h("th", {scope: "col"}, each)))),
    h("tbody", {}, rows.slice(0, 500).map((row) => h("tr", {}, row.map((cell) => h("td", {}, text(cell)))))));
  return h("details", {class: "behind"}, h("summary", {}, "Data"),
    h("div", {class: "files"},
      h("button", {type: "button", onclick: () => saveCsv(name, columns, rows)}, "Save as CSV"),
      h("button", {type: "button", onclick: (event) => savePng(name, event.target.closest("figure"))}, "Save as PNG")),
    h("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": `Data of ${name}`}, table));
}

function explore(target, state) {
  const plot = target.querySelector(".plot");
  plot.onpointermove = (event) => {
    const {points, box} = state();
    const frame = box.getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    point(state(), nearest(points, x, y));
  };
  plot.onpointerleave = () => point(state(), -1);
  plot.onblur = plot.onpointerleave;
  plot.onkeydown = (event) => {
    const {points, place, columns = 1, pick} = state();
    const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -Infinity, End: Infinity}[event.key];
    if (event.key === "Enter" && pick && place >= 0) pick(points[place]);
    if (step === undefined || !points.length) return;
    event.preventDefault();
    point(state(), Math.min(points.length - 1, Math.max(0, place < 0 ? 0 : place + step)));
  };
  plot.onclick = () => {
    const {pick, points, place} = state();
    if (pick && place >= 0) pick(points[place]);
  };
}

function nearest(points, x, y) {
  let best = -1;
  let least = Infinity;
  points.forEach((each, place) => {
    const distance = 4 * Math.abs(each.x - x) + Math.abs(each.y - y);
    if (distance < least) [best, least] = [place, distance];
  });
  return best;
}

function point(state, place) {
  const {points, mark, tip, box} = state;
  state.place = place;
  tip.textContent = place < 0 ? "" : points[place].text;
  if (place < 0) return mark.replaceChildren();
  const {x, y, width, height} = points[place];
  mark.replaceChildren(width ? svg("rect", {x, y, width, height}) : svg("circle", {cx: x, cy: y, r: 4.5}));
  const room = box.clientWidth - tip.offsetWidth;
  tip.style.left = `${Math.max(0, Math.min(room, x + (width ?? 0) / 2 - tip.offsetWidth / 2))}px`;
  tip.style.top = `${y > tip.offsetHeight + 12 ? y - tip.offsetHeight - 10 : y + (height ?? 0) + 12}px`;
}
