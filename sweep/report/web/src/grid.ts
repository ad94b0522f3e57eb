// The grid of pictures: a virtual one, in which only what can be seen has elements.

import type { App } from "./app";
import { type CellView, CellPainter, newCell } from "./cells";
import { scaleOf } from "./colour";
import { clamp, h, oncePerFrame } from "./dom";
import { Gestures } from "./gestures";
import type { Head } from "./layout";
import type { View } from "./state";

interface LineView {
  element: HTMLElement;
  head: HTMLElement;
  cells: Map<number, CellView>;
}

const gap = 3;
const groupGap = 12;
const mostCells = 300;

export class SweepGrid extends HTMLElement {
  app!: App;
  #scroll!: HTMLElement;
  #space!: HTMLElement;
  #heads!: HTMLElement;
  #corner!: HTMLElement;
  #empty!: HTMLElement;
  #lines = new Map<number, LineView>();
  #spareLines: LineView[] = [];
  #spareCells: CellView[] = [];
  #colAt: Float64Array = new Float64Array(1);
  #rowAt: Float64Array = new Float64Array(1);
  #headWidth = 0;
  #hasHeads = false;
  #headHeight = 0;
  #cellWidth = 96;
  #picHeight = 96;
  #captionHeight = 0;
  #aspect = 1;
  #painter!: CellPainter;
  #headRange = "";
  readonly #later = oncePerFrame(() => this.#paint());

  connectedCallback(): void {
    this.#painter = new CellPainter(this.app);
    this.#corner = h("div", { class: "corner", role: "columnheader" });
    this.#heads = h("div", { class: "line heads", role: "row", "aria-rowindex": 1 }, this.#corner);
    this.#space = h("div", { class: "space", role: "presentation" }, this.#heads);
    this.#scroll = h("div", { class: "scroll", role: "grid", tabindex: "0", "aria-label": "Pictures" }, this.#space);
    this.#empty = h("div", { class: "empty", role: "status" });
    this.replaceChildren(this.#scroll, this.#empty);
    this.#scroll.addEventListener("scroll", this.#later, { passive: true });
    new ResizeObserver(() => this.#measure()).observe(this.#scroll);
    new Gestures(this.app, this.#scroll, ".cell.has").listen();
    this.#scroll.addEventListener("pointerover", (event) => this.app.setHover(rowUnder(event.target)));
    this.#scroll.addEventListener("pointerleave", () => this.app.setHover(-1));
    this.#scroll.addEventListener("click", (event) => this.#choose(rowUnder(event.target)));
    this.#scroll.addEventListener("dblclick", (event) => rowUnder(event.target) >= 0 && this.app.store.set({ full: true }));
    this.app.store.listen((changed) => this.#follow(changed));
    this.app.onHover(() => this.#light());
    this.#measure();
  }

  focusGrid(): void {
    this.#scroll.focus({ preventScroll: true });
  }

  #choose(row: number): void {
    if (row >= 0) this.app.store.set({ cursor: row });
  }

  #follow(changed: Set<keyof View>): void {
    const shape = ["filter", "brush", "hidden", "slide", "x", "y", "sx", "sy", "sort", "falling", "blind", "size", "colour"] as const;
    if (shape.some((name) => changed.has(name))) this.#measure();
    else this.#paint();
    if (changed.has("cursor")) this.#reveal();
  }

  /** The smallest cell at which no more than `mostCells` are in sight. */
  #smallest(): number {
    return Math.ceil(Math.max(40, Math.sqrt((this.#scroll.clientWidth * this.#scroll.clientHeight) / mostCells / this.#aspect)));
  }

  #measure(): void {
    const { app } = this;
    const width = this.#scroll.clientWidth;
    if (width === 0) return;
    this.#aspect = aspectOf(app);
    const scale = app.view.blind ? null : scaleOf(app.view.colour, app.table);
    const asList = app.layout.kind === "list" || app.view.sort !== null || app.view.blind;
    const labels = app.layout.rows.some((row) => row.label || row.over);
    this.#hasHeads = labels && !asList;
    this.#headWidth = this.#hasHeads ? headWidth(app, width) : width < 560 ? 10 : 20;
    this.#cellWidth = Math.round(this.#wantedSize(width));
    this.#picHeight = Math.round(this.#cellWidth * this.#aspect);
    this.#captionHeight = app.view.blind ? 0 : asList ? (this.#cellWidth < 70 ? 16 : 34) : scale ? 17 : 0;
    this.#painter.set({ width: this.#cellWidth, caption: this.#captionHeight, scale });
    if (asList) {
      app.perLine = Math.max(1, Math.floor((width - this.#headWidth - 4) / (this.#cellWidth + gap)));
      app.arrange();
    }
    const { layout } = app;
    const supers = layout.cols.some((col) => col.over);
    this.#headHeight = asList ? 0 : (layout.cols.some((col) => col.label) ? 26 : 0) + (supers ? 22 : 0);
    this.#colAt = places(layout.cols, this.#cellWidth + gap);
    this.#rowAt = places(layout.rows, this.#picHeight + this.#captionHeight + gap);
    this.#arrange(supers);
    this.#trim();
    this.#paint();
  }

  #wantedSize(width: number): number {
    const { app } = this;
    if (app.view.size > 0) return clamp(app.view.size, this.#smallest(), 1024);
    const columns = Math.max(1, app.layout.kind === "list" ? 6 : app.layout.cols.length);
    const rows = Math.max(1, app.layout.rows.length);
    const groups = app.layout.cols.at(-1)?.group ?? 0;
    const fitting = (width - this.#headWidth - 8 - columns * gap - groups * groupGap) / columns;
    const tall = (this.#scroll.clientHeight - 60) / Math.min(rows, 3) / this.#aspect;
    return clamp(Math.min(fitting, Math.max(tall, 110)), Math.max(56, this.#smallest()), 320);
  }

  #arrange(supers: boolean): void {
    const { layout, view, table } = this.app;
    const width = this.#headWidth + (this.#colAt[layout.cols.length] ?? 0);
    const height = this.#headHeight + (this.#rowAt[layout.rows.length] ?? 0);
    this.#space.style.width = `${width}px`;
    this.#space.style.height = `${height}px`;
    const style = this.style;
    style.setProperty("--cell-w", `${this.#cellWidth}px`);
    style.setProperty("--pic-h", `${this.#picHeight}px`);
    style.setProperty("--cap-h", `${this.#captionHeight}px`);
    style.setProperty("--head-w", `${this.#headWidth}px`);
    style.setProperty("--head-h", `${this.#headHeight}px`);
    style.setProperty("--super-h", supers ? "22px" : "0px");
    this.#scroll.setAttribute("aria-rowcount", String(layout.rows.length + 1));
    this.#scroll.setAttribute("aria-colcount", String(layout.cols.length + 1));
    const across = [view.sx, view.x].map((name) => table.axis(name)?.label).filter(Boolean).join(" › ");
    const down = [view.sy, view.y].map((name) => table.axis(name)?.label).filter(Boolean).join(" › ");
    this.#corner.replaceChildren(h("span", { class: "across" }, across && `${across} →`), h("span", { class: "down" }, down && `${down} ↓`));
    this.#headRange = "";
  }

  #trim(): void {
    while (this.#spareLines.length > 40) this.#spareLines.pop();
    while (this.#spareCells.length > mostCells) this.#spareCells.pop();
  }

  #releaseLine(at: number, line: LineView): void {
    for (const cell of line.cells.values()) this.#releaseCell(cell);
    line.cells.clear();
    line.element.remove();
    this.#lines.delete(at);
    this.#spareLines.push(line);
  }

  #releaseCell(cell: CellView): void {
    cell.element.remove();
    cell.shows = "";
    this.#spareCells.push(cell);
  }

  #paint(): void {
    const { layout } = this.app;
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.#scroll;
    if (clientWidth === 0) return;
    const [r0, r1] = range(this.#rowAt, layout.rows.length, scrollTop, scrollTop + clientHeight - this.#headHeight);
    const [c0, c1] = range(this.#colAt, layout.cols.length, scrollLeft, scrollLeft + clientWidth - this.#headWidth);
    for (const [at, line] of this.#lines) if (at < r0 || at >= r1) this.#releaseLine(at, line);
    for (let r = r0; r < r1; r += 1) this.#paintLine(r, c0, c1);
    this.#paintHeads(c0, c1);
    this.#paintEmpty();
    this.#light();
  }

  #paintLine(r: number, c0: number, c1: number): void {
    const { layout } = this.app;
    let line = this.#lines.get(r);
    if (!line) {
      line = this.#spareLines.pop() ?? newLine();
      this.#lines.set(r, line);
      line.element.setAttribute("aria-rowindex", String(r + 2));
      this.#space.append(line.element);
    }
    line.element.style.top = `${this.#headHeight + (this.#rowAt[r] ?? 0)}px`;
    this.#paintRowHead(line, layout.rows[r]);
    for (const [c, cell] of line.cells) {
      if (c < c0 || c >= c1) {
        line.cells.delete(c);
        this.#releaseCell(cell);
      }
    }
    for (let c = c0; c < c1; c += 1) {
      let cell = line.cells.get(c);
      if (!cell) {
        cell = this.#spareCells.pop() ?? newCell();
        line.cells.set(c, cell);
        cell.element.setAttribute("aria-colindex", String(c + 2));
        line.element.append(cell.element);
      }
      cell.element.style.left = `${this.#headWidth + (this.#colAt[c] ?? 0)}px`;
      this.#painter.paint(cell, layout.at(r, c));
    }
  }

  #paintRowHead(line: LineView, head: Head | undefined): void {
    line.head.hidden = !this.#hasHeads;
    const title = [head?.over, head?.label].filter(Boolean).join(" · ");
    if (line.head.title === title && line.head.childElementCount > 0) return;
    line.head.title = title;
    line.head.replaceChildren(...(head?.over ? [h("small", {}, head.over)] : []), h("span", {}, head?.label ?? ""));
  }

  #paintHeads(c0: number, c1: number): void {
    const name = `${c0}-${c1}`;
    if (name === this.#headRange) return;
    this.#headRange = name;
    const { cols } = this.app.layout;
    const made: Node[] = [this.#corner];
    this.#heads.hidden = this.#headHeight === 0;
    this.#corner.hidden = !this.#hasHeads;
    for (let c = c0; c < c1; c += 1) {
      const col = cols[c];
      const left = this.#headWidth + (this.#colAt[c] ?? 0);
      if (col?.over && (c === c0 || cols[c - 1]?.group !== col.group)) made.push(this.#superHead(c, c1, col.over, left));
      if (col?.label) {
        const head = h("div", { class: "head", role: "columnheader", "aria-colindex": c + 2, title: col.label }, col.label);
        head.style.left = `${left}px`;
        made.push(head);
      }
    }
    this.#heads.replaceChildren(...made);
  }

  #superHead(c: number, c1: number, label: string, left: number): HTMLElement {
    const { cols } = this.app.layout;
    let end = c;
    while (end < c1 && cols[end]?.group === cols[c]?.group) end += 1;
    const head = h("div", { class: "super", title: label }, h("span", {}, label));
    head.style.left = `${left}px`;
    head.style.width = `${(this.#colAt[end - 1] ?? 0) - (this.#colAt[c] ?? 0) + this.#cellWidth}px`;
    return head;
  }

  #paintEmpty(): void {
    const { layout, table, filter, store, view } = this.app;
    const empty = layout.shown === 0;
    this.#empty.hidden = !empty;
    this.#scroll.classList.toggle("is-empty", empty);
    if (!empty) return;
    const undo = h("button", { onclick: () => store.set({ filter: "", brush: {}, hidden: {} }) }, "Show everything again");
    const narrowed = filter.active || Object.keys(view.brush).length > 0 || Object.values(view.hidden).some((levels) => levels.length > 0);
    if (table.rows === 0) this.#empty.replaceChildren(h("p", {}, table.payload.live ? "Waiting for the first picture…" : "There are no results in this folder yet."));
    else if (narrowed && layout.passing === 0) this.#empty.replaceChildren(h("p", {}, "Nothing passes the filter."), undo);
    else {
      const first = this.app.mask.indexOf(1);
      const go = h("button", { onclick: () => this.app.goTo(first) }, "Go to the first there is");
      this.#empty.replaceChildren(h("p", {}, "There are no pictures at these slider positions."), go, ...(narrowed ? [undo] : []));
    }
  }

  #light(): void {
    for (const element of this.#space.querySelectorAll(".lit")) element.classList.remove("lit");
    if (this.app.hover >= 0) this.#space.querySelector(`#cell-${this.app.hover}`)?.classList.add("lit");
  }

  /** Scrolls so that the cursor's cell is in sight. */
  #reveal(): void {
    const { cursor } = this.app.view;
    const place = cursor >= 0 ? this.app.layout.find(cursor) : null;
    if (!place) {
      this.#scroll.removeAttribute("aria-activedescendant");
      return;
    }
    const [r, c] = place;
    const scroll = this.#scroll;
    const top = this.#rowAt[r] ?? 0;
    const left = this.#colAt[c] ?? 0;
    const bottom = top + this.#picHeight + this.#captionHeight + gap + this.#headHeight;
    const right = left + this.#cellWidth + gap + this.#headWidth;
    if (top < scroll.scrollTop) scroll.scrollTop = top;
    else if (bottom > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = bottom - scroll.clientHeight;
    if (left < scroll.scrollLeft) scroll.scrollLeft = left;
    else if (right > scroll.scrollLeft + scroll.clientWidth) scroll.scrollLeft = right - scroll.clientWidth;
    this.#paint();
    scroll.setAttribute("aria-activedescendant", `cell-${cursor}`);
  }

  /** Moves the cursor by cells, over those that hold nothing. */
  move(down: number, right: number): void {
    const { layout, view, store } = this.app;
    const place = view.cursor >= 0 ? layout.find(view.cursor) : null;
    let [r, c] = place ?? [0, 0];
    if (!place) {
      const first = layout.at(0, 0);
      if (first >= 0) store.set({ cursor: first });
      if (first >= 0 || layout.rows.length === 0) return;
    }
    for (;;) {
      r += Math.sign(down);
      c += Math.sign(right);
      if (layout.kind === "list" && c >= layout.cols.length) [r, c] = [r + 1, 0];
      if (layout.kind === "list" && c < 0) [r, c] = [r - 1, layout.cols.length - 1];
      if (r < 0 || c < 0 || r >= layout.rows.length || c >= layout.cols.length) return;
      const row = layout.at(r, c);
      if (row >= 0) return store.set({ cursor: row });
    }
  }

  /** Home, End, Page Up and Page Down. */
  jump(to: "first" | "last" | "up" | "down"): void {
    const { layout, view, store } = this.app;
    const [r = 0, c = 0] = layout.find(view.cursor) ?? [];
    const page = Math.max(1, Math.floor(this.#scroll.clientHeight / (this.#picHeight + this.#captionHeight + gap)) - 1);
    const row = to === "up" ? Math.max(0, r - page) : to === "down" ? Math.min(layout.rows.length - 1, r + page) : r;
    const cols = to === "last" ? [...layout.cols.keys()].reverse() : to === "first" ? [...layout.cols.keys()] : [c];
    const found = cols.map((col) => layout.at(row, col)).find((there) => there >= 0);
    if (found !== undefined) store.set({ cursor: found });
  }

  resize(factor: number): void {
    this.app.store.set({ size: clamp(this.#cellWidth * factor, this.#smallest(), 1024) });
  }

  get cellSize(): number {
    return this.#cellWidth;
  }
}

function newLine(): LineView {
  const head = h("div", { class: "row-head", role: "rowheader" });
  return { element: h("div", { class: "line", role: "row" }, head), head, cells: new Map() };
}

export function rowUnder(target: EventTarget | null): number {
  const cell = target instanceof Element ? target.closest<HTMLElement>("[data-row]") : null;
  return cell ? Number(cell.dataset.row) : -1;
}

function places(heads: { group: number }[], step: number): Float64Array {
  const found = new Float64Array(heads.length + 1);
  for (let at = 0; at < heads.length; at += 1) {
    const newGroup = at + 1 < heads.length && heads[at + 1]?.group !== heads[at]?.group;
    found[at + 1] = (found[at] ?? 0) + step + (newGroup ? groupGap : 0);
  }
  return found;
}

/** First and past-the-last of what lies between two places. */
function range(at: Float64Array, length: number, from: number, to: number): [number, number] {
  let [low, high] = [0, length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((at[middle + 1] ?? 0) <= from) low = middle + 1;
    else high = middle;
  }
  let end = low;
  while (end < length && (at[end] ?? 0) < to) end += 1;
  return [low, end];
}

function headWidth(app: App, width: number): number {
  const longest = Math.max(0, ...app.layout.rows.slice(0, 400).map((row) => Math.max(row.label.length, row.over.length * 0.85)));
  const named = [app.view.x, app.view.y].map((name) => app.table.axis(name)?.label.length ?? 0);
  return Math.round(clamp(Math.max(longest * 7.2 + 18, Math.max(...named) * 6.2 + 42), 48, width < 560 ? 92 : 190));
}

function aspectOf(app: App): number {
  const { width, height } = app.table.pictures;
  const found: number[] = [];
  for (let row = 0; row < app.table.rows && found.length < 60; row += 1) {
    const [w, t] = [width[row], height[row]];
    if (typeof w === "number" && typeof t === "number" && w > 0) found.push(t / w);
  }
  found.sort((a, b) => a - b);
  return clamp(found[found.length >> 1] ?? 1, 0.4, 2.5);
}
