// The playbook's Markdown as elements: what that file uses, and nothing that could run.

import {getText} from "./api.js";
import {h} from "./dom.js";

let text = null;

export async function readPlaybook() {
  text ??= await getText("/docs/playbook.md");
  return text;
}

export const anchor = (title) => title.trim().toLowerCase().replace(/[^\w\- ]/g, "").replaceAll(" ", "-");

// One section by its anchor, without its title; null where there is none.
export async function readSection(wanted) {
  const sections = (await readPlaybook()).split(/^## /m).slice(1);
  const found = sections.find((section) => anchor(section.split("\n")[0]) === wanted);
  return found === undefined ? null : found.slice(found.indexOf("\n") + 1);
}

export function render(markdown) {
  const lines = markdown.split("\n");
  const shown = [];
  while (lines.length) {
    const line = lines[0];
    if (!line.trim()) lines.shift();
    else if (line.startsWith("```")) shown.push(code(lines));
    else if (/^#{1,6} /.test(line)) shown.push(heading(lines.shift()));
    else if (line.startsWith("|")) shown.push(grid(take(lines, (each) => each.startsWith("|"))));
    else if (/^\s*([-*]|\d+\.) /.test(line)) shown.push(list(take(lines, (each) => each.trim() !== "" && (/^\s*([-*]|\d+\.) /.test(each) || /^\s/.test(each)))));
    else shown.push(h("p", {}, inline(take(lines, (each) => each.trim() !== "" && !/^(```|#|\||\s*[-*] )/.test(each)).join(" "))));
  }
  return h("div", {class: "prose"}, shown);
}

function take(lines, belongs) {
  const taken = [lines.shift()];
  while (lines.length && belongs(lines[0])) taken.push(lines.shift());
  return taken;
}

function code(lines) {
  const kind = lines.shift().slice(3).trim();
  const inside = [];
  while (lines.length && !lines[0].startsWith("```")) inside.push(lines.shift());
  lines.shift();
  if (kind === "mermaid") return steps(inside);
  return h("pre", {tabindex: 0}, h("code", {}, inside.join("\n")));
}

// The one diagram, as its questions and what follows from each.
function steps(lines) {
  const text = {};
  const word = (part) => {
    const [, id, label] = /^(\w+)(?:[[({]+"?(.*?)"?[\])}]+)?$/.exec(part.trim()) ?? [];
    if (label) text[id] = label.replaceAll("<br/>", " ");
    return id;
  };
  const edges = lines.map((line) => /^\s*(.+?) --(?: (\w+) --)?> (.+)$/.exec(line)).filter(Boolean).map(([, from, when, to]) => [word(from), when, word(to)]);
  return h("ol", {}, [...new Set(edges.map(([from]) => from))].map((id) => h("li", {}, h("strong", {}, text[id] ?? id),
    edges.filter(([from]) => from === id).map(([, when, to]) => h("div", {}, `${when ? `${when}: ` : ""}${text[to] ?? to}`)))));
}

function heading(line) {
  const [, marks, title] = /^(#+) (.*)$/.exec(line);
  return h(`h${Math.min(6, Math.max(2, marks.length))}`, {id: anchor(title)}, inline(title));
}

function list(lines) {
  const items = [];
  for (const line of lines) {
    if (/^([-*]|\d+\.) /.test(line)) items.push(line.replace(/^([-*]|\d+\.) /, ""));
    else items.push(`${items.pop()} ${line.trim()}`);
  }
  return h(/^\d/.test(lines[0]) ? "ol" : "ul", {}, items.map((item) => h("li", {}, inline(item))));
}

function grid(lines) {
  const cells = (line) => line.split(/(?<!\\)\|/).slice(1, -1).map((cell) => cell.trim().replaceAll("\\|", "|"));
  const [head, , ...rows] = lines.map(cells);
  return h("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": "Table"}, h("table", {}, h("thead", {}, h("tr", {}, head.map((cell) => h("th", {scope: "col"}, inline(cell))))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, inline(cell))))))));
}

const MARK = /\*\*(.+?)\*\*|`([^`]+)`|\[((?:[^\]]|`[^`]*`)*)\]\(([^)]+)\)|\*([^*\s][^*]*)\*/;

// Bold, code, links and emphasis; a link leads inside the playbook, or is plain text.
function inline(text) {
  const found = MARK.exec(text);
  if (!found) return text ? [text] : [];
  const [whole, bold, literal, label, target, soft] = found;
  const shown = bold !== undefined ? h("strong", {}, inline(bold)) : literal !== undefined ? h("code", {}, literal) : soft !== undefined ? h("em", {}, inline(soft))
    : target.startsWith("#") ? h("a", {href: `/dashboard/playbook${target}`}, inline(label)) : h("span", {}, inline(label));
  return [text.slice(0, found.index), shown, ...inline(text.slice(found.index + whole.length))];
}
