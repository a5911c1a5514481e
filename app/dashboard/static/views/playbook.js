// The playbook as a page: what to do when an alert fires.

import {h} from "../dom.js";
import {anchor, readPlaybook, render} from "../markdown.js";
import {card} from "../ui.js";

let scrolled = null;

export async function view() {
  const text = await readPlaybook();
  const sections = [...text.matchAll(/^## (.*)$/gm)].map(([, title]) => title);
  const wanted = location.hash.slice(1);
  if (scrolled !== wanted) {
    scrolled = wanted;
    requestAnimationFrame(() => setTimeout(() => document.getElementById(wanted)?.scrollIntoView(), 50));
  }
  return [h("div", {class: "book"},
    card("Sections", {key: "toc"}, h("ul", {}, sections.map((title) => h("li", {}, h("a", {href: `/dashboard/playbook#${anchor(title)}`}, title))))),
    card("Playbook", {key: "text"}, render(text.replace(/^# .*\n/, ""))))];
}
