// The headings of the grid, which stay in sight: columns and their groups on top, groups of lines over their lines.

import type { App } from "./app";
import { h } from "./dom";
import type { Geometry, Group } from "./geometry";
import type { Axis } from "./table";

export class GridHeads {
  readonly element: HTMLElement;
  readonly #corner = h("div", { class: "corner", role: "columnheader" });
  readonly #groups = new Map<number, HTMLElement>();
  #painted = "";

  constructor(
    private readonly app: App,
    private readonly space: HTMLElement,
  ) {
    this.element = h("div", { class: "line heads", role: "row", "aria-rowindex": 1 }, this.#corner);
    space.append(this.element);
  }

  /** After the layout or a size changed. */
  forget(): void {
    const { view, table } = this.app;
    const across = table.axis(view.x)?.label;
    const down = table.axis(view.y)?.label;
    this.#corner.replaceChildren(h("span", { class: "across", title: across }, across && `${across} →`), h("span", { class: "down", title: down }, down && `${down} ↓`));
    for (const element of this.#groups.values()) element.remove();
    this.#groups.clear();
    this.#painted = "";
  }

  paintColumns(geometry: Geometry, c0: number, c1: number): void {
    const range = `${c0}-${c1}`;
    if (range === this.#painted) return;
    this.#painted = range;
    const { cols } = this.app.layout;
    const made: Node[] = [this.#corner];
    this.element.hidden = geometry.headHeight === 0;
    this.#corner.hidden = !geometry.hasRowHeads;
    for (let c = c0; c < c1; c += 1) {
      const col = cols[c];
      const left = geometry.headWidth + (geometry.colAt[c] ?? 0);
      if (col?.over && (c === c0 || cols[c - 1]?.group !== col.group)) made.push(this.#superHead(geometry, c, c1, col.over));
      if (!col?.label) continue;
      const head = h("div", { class: "head", role: "columnheader", "aria-colindex": c + 2, title: col.label }, col.label);
      head.style.left = `${left}px`;
      made.push(head);
    }
    this.element.replaceChildren(...made);
  }

  #superHead(geometry: Geometry, c: number, c1: number, label: string): HTMLElement {
    const { cols } = this.app.layout;
    let end = c;
    while (end < c1 && cols[end]?.group === cols[c]?.group) end += 1;
    const head = h("div", { class: "super", title: label }, h("span", {}, ...named(this.app.table.axis(this.app.view.sx), label)));
    head.style.left = `${geometry.headWidth + (geometry.colAt[c] ?? 0)}px`;
    head.style.width = `${(geometry.colAt[end - 1] ?? 0) - (geometry.colAt[c] ?? 0) + geometry.cellWidth}px`;
    return head;
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
    const label = h("div", { class: "group-label", title: group.label }, h("span", {}, ...named(this.app.table.axis(this.app.view.sy), group.label)));
    const element = h("div", { class: "group", role: "presentation" }, label);
    const top = (geometry.rowAt[group.first] ?? 0) - geometry.groupHeight;
    element.style.top = `${geometry.headHeight + top}px`;
    element.style.height = `${(geometry.rowAt[group.last] ?? 0) + geometry.picHeight + geometry.captionHeight - top}px`;
    return element;
  }
}

/** A level with its axis's name before it. */
function named(axis: Axis | null, label: string): (Node | string)[] {
  return [h("small", {}, axis?.label ?? ""), ` ${label}`];
}
