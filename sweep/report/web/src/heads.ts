// The headings of the grid, which stay in sight: names and levels of the axes, groups of lines, and counts at the edges.

import type { App } from "./app";
import { h } from "./dom";
import type { Geometry, Group } from "./geometry";
import type { Axis } from "./table";
import { mainFindings, splitSentence } from "./ranking";
import { hasWeakest, type Sum, sumOf } from "./verdict";

export class GridHeads {
  readonly element: HTMLElement;
  readonly #corner = h("div", { class: "corner", role: "columnheader" });
  readonly #name = h("div", { class: "across-name" });
  readonly #held = h("div", { class: "sum-head", role: "columnheader" }, "held");
  readonly also = h("div", { class: "also" }); // beside the grid: a grid holds lines alone
  readonly #sums = h("div", { class: "sums", role: "row" });
  readonly #groups = new Map<number, HTMLElement>();
  #painted = "";

  constructor(
    private readonly app: App,
    private readonly space: HTMLElement,
  ) {
    this.element = h("div", { class: "line heads", role: "row", "aria-rowindex": 1 }, this.#corner);
    space.append(this.element, this.#sums);
  }

  /** After the layout or a size changed. */
  forget(): void {
    const { view, table } = this.app;
    const [x, y, sx, sy] = [view.x, view.y, view.sx, view.sy].map((name) => table.axis(name)?.label);
    const across = [sx, x].filter(Boolean).join(", ");
    const down = [sy, y].filter(Boolean).join(", ");
    this.#name.replaceChildren(
      h("span", { class: "wide" }, `${sx ?? x ?? ""} →`),
      h("span", { class: "narrow" }, "across ", h("b", {}, across), down ? " · down " : "", h("b", {}, down)),
    );
    this.#corner.replaceChildren(h("span", { class: "down", title: y }, y && `${y} ↓`), h("span", { class: "across", title: x }, sx && x ? `${x} →` : ""));
    for (const element of this.#groups.values()) element.remove();
    this.#groups.clear();
    this.#painted = "";
  }

  paintColumns(geometry: Geometry, c0: number, c1: number): void {
    const range = `${c0}-${c1}`;
    if (range === this.#painted) return;
    this.#painted = range;
    const { cols } = this.app.layout;
    const made: Node[] = [this.#corner, this.#name];
    this.element.hidden = geometry.headHeight === 0;
    this.#corner.hidden = !geometry.hasRowHeads;
    this.#name.hidden = geometry.nameHeight === 0;
    this.#held.hidden = geometry.sumWidth === 0;
    for (let c = c0; c < c1; c += 1) {
      const col = cols[c];
      const left = geometry.headWidth + (geometry.colAt[c] ?? 0);
      if (col?.over && (c === c0 || cols[c - 1]?.group !== col.group)) made.push(this.#superHead(geometry, c, c1));
      if (!col?.label) continue;
      const head = h("div", { class: `head${this.#isUse("x", col.level) ? " use" : ""}`, role: "columnheader", "aria-colindex": c + 2, title: col.label }, col.name);
      head.style.left = `${left}px`;
      made.push(head);
    }
    this.element.replaceChildren(...made, this.#held);
    this.#paintSums(geometry, c0, c1);
  }

  /** Whether a level is the one that the study recommends. */
  #isUse(place: "x" | "sx" | "y" | "sy", level: number): boolean {
    const { verdict, view } = this.app;
    return verdict !== null && verdict.use === level && view[place] === verdict.along.name && !view.blind;
  }

  #superHead(geometry: Geometry, c: number, c1: number): HTMLElement {
    const { cols } = this.app.layout;
    const col = cols[c];
    let end = c;
    while (end < c1 && cols[end]?.group === col?.group) end += 1;
    const head = h("div", { class: `super${this.#isUse("sx", col?.overLevel ?? -1) ? " use" : ""}`, title: col?.over ?? "" }, h("span", {}, col?.overName ?? ""));
    this.#place(head, geometry, c, end);
    return head;
  }

  #place(element: HTMLElement, geometry: Geometry, c: number, end: number): void {
    element.style.left = `${geometry.headWidth + (geometry.colAt[c] ?? 0)}px`;
    element.style.width = `${(geometry.colAt[end - 1] ?? 0) - (geometry.colAt[c] ?? 0) + geometry.cellWidth}px`;
  }

  /** Under each column, or group of columns: how many of its images held. */
  #paintSums(geometry: Geometry, c0: number, c1: number): void {
    const { layout, verdict } = this.app;
    this.#sums.hidden = geometry.sumHeight === 0 || !verdict;
    if (!verdict || geometry.sumHeight === 0) return;
    const made: Node[] = [h("span", { class: "sum-name", role: "rowheader" }, geometry.hasRowHeads ? "held" : "")];
    for (let c = c0; c < c1; ) {
      let end = c + 1;
      while (end < c1 && layout.cols[c]?.over && layout.cols[end]?.group === layout.cols[c]?.group) end += 1;
      const columns = Array.from({ length: end - c }, (_, place) => c + place);
      const sum = sumOf(verdict, columns.flatMap((col) => layout.rows.map((_, r) => layout.at(r, col)).filter((row) => row >= 0)));
      const col = layout.cols[c];
      const element = h("span", { role: "gridcell", class: `sum${this.#isUse("x", col?.level ?? -1) || this.#isUse("sx", col?.overLevel ?? -1) ? " use" : ""}` }, textOf(sum, geometry.cellWidth * columns.length));
      this.#place(element, geometry, c, end);
      made.push(element);
      c = end;
    }
    this.#sums.style.top = `${geometry.headHeight + (geometry.rowAt.at(-1) ?? 0)}px`;
    this.#sums.replaceChildren(...made);
  }

  /** Under a grid that leaves room: the findings after the first. */
  paintAlso(geometry: Geometry, { width, height: room }: { width: number; height: number }): void {
    const top = geometry.headHeight + (geometry.rowAt.at(-1) ?? 0) + geometry.sumHeight;
    const { app } = this;
    const words = app.view.blind || app.view.panel !== "grid" ? [] : mainFindings(app.table).slice(1, 4);
    this.also.hidden = words.length === 0 || geometry.asList || top + 64 + words.reduce((sum, word) => sum + 20 * Math.ceil((splitSentence(word.text)[0].length * 7) / Math.min(900, width)), 0) > room;
    if (this.also.hidden) return;
    const lines = words.map((word, at) => h("li", { value: at + 2 }, splitSentence(word.text)[0]));
    const all = h("button", { class: "link", onclick: () => app.store.set({ panel: "findings" }) }, "all findings (i)");
    this.also.style.top = `${top + 14}px`;
    this.also.replaceChildren(h("p", {}, "Also found"), h("ol", {}, ...lines), all);
  }

  /** Beside a line: how many of its images held; "" where that is not counted. */
  lineSum(geometry: Geometry, r: number): string {
    const { layout, verdict } = this.app;
    if (!verdict || geometry.sumWidth === 0) return "";
    return textOf(sumOf(verdict, layout.cols.map((_, c) => layout.at(r, c)).filter((row) => row >= 0)), geometry.sumWidth);
  }

  /** Headings of the groups that the lines `r0` to `r1` belong to; each is as high as its group and its text sticks. */
  paintGroups(geometry: Geometry, r0: number, r1: number): void {
    const { rows } = this.app.layout;
    const [first, last] = geometry.groupHeight > 0 && r1 > r0 ? [rows[r0]?.group ?? 0, rows[r1 - 1]?.group ?? -1] : [0, -1];
    for (const [at, element] of this.#groups) {
      if (at >= first && at <= last) continue;
      element.remove();
      this.#groups.delete(at);
    }
    for (let at = first; at <= last; at += 1) {
      const group = geometry.groups[at];
      if (!group || this.#groups.has(at)) continue;
      const element = this.#groupHead(geometry, group);
      this.#groups.set(at, element);
      this.space.append(element);
    }
  }

  #groupHead(geometry: Geometry, group: Group): HTMLElement {
    const { app } = this;
    const level = app.layout.rows[group.first]?.overLevel ?? -1;
    const weakest = isWeakest(app, app.view.sy, level);
    const own = app.verdict?.groups.find((known) => known.at === level);
    const sum = own && app.verdict?.group?.name === app.view.sy && geometry.sumWidth > 0 ? `${own.held} of ${own.images} held` : "";
    const label = h("div", { class: `group-label${weakest ? " weakest" : ""}`, title: group.label }, h("span", {}, ...named(app.table.axis(app.view.sy), group.name), weakest ? h("small", {}, " · weakest") : ""), sum ? h("span", { class: "group-sum" }, sum) : "");
    const element = h("div", { class: "group", role: "presentation" }, label);
    const top = (geometry.rowAt[group.first] ?? 0) - geometry.groupHeight;
    element.style.top = `${geometry.headHeight + top}px`;
    element.style.height = `${(geometry.rowAt[group.last] ?? 0) + geometry.picHeight + geometry.captionHeight - top}px`;
    return element;
  }
}

/** Whether a level is the group in which most images fell below. */
export function isWeakest({ verdict, view }: App, axis: string | null, level: number): boolean {
  return verdict !== null && verdict.group?.name === axis && !view.blind && verdict.groups[0]?.at === level && hasWeakest(verdict);
}

function textOf({ held, images }: Sum, width: number): string {
  return images === 0 ? "" : width < 46 ? `${held}/${images}` : `${held} of ${images}`;
}

/** A level with its axis's name before it. */
function named(axis: Axis | null, label: string): (Node | string)[] {
  return [h("small", {}, axis?.label ?? ""), ` ${label}`];
}
