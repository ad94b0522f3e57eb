// The grid of images: a virtual one, in which only what can be seen has elements.

import type { App } from "./app";
import { type CellView, CellPainter, newCell, rowUnder } from "./cells";
import { scaleOf } from "./colour";
import { clamp, h, oncePerFrame } from "./dom";
import { type Geometry, gap, geometryOf, mostCells, range, smallest } from "./geometry";
import { Gestures } from "./gestures";
import { GridHeads, isWeakest } from "./heads";
import type { Head } from "./layout";
import type { View } from "./state";
import { firstRow, type Jump, jump, step } from "./layout";

interface LineView {
  element: HTMLElement;
  head: HTMLElement;
  sum: HTMLElement;
  cells: Map<number, CellView>;
}

const shape = ["filter", "brush", "hidden", "slide", "x", "y", "sx", "sy", "sort", "falling", "blind", "size", "colour", "weakest", "threshold", "mark"] as const;
const reordered = ["sort", "falling", "blind"] as const;
const rearranged = ["x", "y", "sx", "sy", "weakest", "threshold"] as const;

export class SweepGrid extends HTMLElement {
  app!: App;
  #scroll!: HTMLElement;
  #space!: HTMLElement;
  #heads!: GridHeads;
  #empty!: HTMLElement;
  #painter!: CellPainter;
  #geometry: Geometry | null = null;
  #arranged = "";
  readonly #lines = new Map<number, LineView>();
  readonly #spareLines: LineView[] = [];
  readonly #spareCells: CellView[] = [];
  readonly #later = oncePerFrame(() => this.#paint());

  connectedCallback(): void {
    this.#painter = new CellPainter(this.app);
    this.#space = h("div", { class: "space", role: "presentation" });
    this.#heads = new GridHeads(this.app, this.#space);
    this.#scroll = h("div", { class: "scroll", role: "grid", tabindex: "0", "aria-label": "Images" }, this.#space);
    this.#empty = h("div", { class: "empty", role: "status" });
    this.replaceChildren(this.#scroll, this.#heads.also, this.#empty);
    this.#listen();
    this.#measure();
  }

  #listen(): void {
    const { app } = this;
    const scroll = this.#scroll;
    scroll.addEventListener("scroll", this.#later, { passive: true });
    new ResizeObserver(() => this.#measure()).observe(scroll);
    new Gestures(app, scroll, ".cell.has").listen();
    scroll.addEventListener("pointerover", (event) => app.setHover(rowUnder(event.target)));
    scroll.addEventListener("pointerleave", () => app.setHover(-1));
    scroll.addEventListener("click", (event) => this.#choose(rowUnder(event.target)));
    scroll.addEventListener("dblclick", (event) => rowUnder(event.target) >= 0 && app.store.set({ full: true }));
    app.store.listen((changed) => this.#follow(changed));
    app.onHover(() => this.#light());
  }

  focusGrid(): void {
    this.#scroll.focus({ preventScroll: true });
  }

  /** A click on the chosen image asks for the panel: on a phone that is a sheet which has to come up. */
  #choose(row: number): void {
    if (row >= 0 && row === this.app.view.cursor) this.dispatchEvent(new Event("wanted"));
    this.#go(row);
  }

  #go(row: number): void {
    if (row >= 0) this.app.store.set({ cursor: row });
  }

  #follow(changed: Set<keyof View>): void {
    if (shape.some((name) => changed.has(name))) this.#measure();
    else this.#paint();
    if (reordered.some((name) => changed.has(name)) && !changed.has("cursor")) this.#begin();
    if (changed.has("cursor") || rearranged.some((name) => changed.has(name))) this.#reveal();
  }

  /** A new order is read from its beginning. */
  #begin(): void {
    this.#scroll.scrollTop = 0;
    if (this.app.layout.kind === "list") this.#go(firstRow(this.app.layout));
    else this.#reveal();
  }

  get #room(): { width: number; height: number } {
    return { width: this.#scroll.clientWidth, height: this.#scroll.clientHeight };
  }

  #measure(): void {
    const { app } = this;
    if (this.#room.width === 0) return;
    const geometry = geometryOf(app, this.#room);
    this.#geometry = geometry;
    this.#painter.set({ width: geometry.cellWidth, caption: geometry.captionHeight, scale: app.view.blind ? null : scaleOf(app.view.colour, app.table) });
    this.#arrange(geometry);
    this.#trim();
    this.#paint();
  }

  /** Gives the stylesheet its sizes and the headings their names; a slider, which changes neither, costs nothing. */
  #arrange(geometry: Geometry): void {
    const { layout, view, verdict } = this.app;
    const { colAt, rowAt, groups, ...sizesOf } = geometry;
    const heads = [...layout.rows, ...layout.cols].map((head) => `${head.over}/${head.label}`);
    const arranged = JSON.stringify([sizesOf, colAt.at(-1), rowAt.at(-1), view.x, view.y, view.sx, view.sy, view.blind, heads]);
    if (arranged === this.#arranged && !verdict) return;
    this.#arranged = arranged;
    this.#space.style.width = `${geometry.headWidth + (geometry.colAt.at(-1) ?? 0) + geometry.sumWidth}px`;
    this.#space.style.height = `${geometry.headHeight + (geometry.rowAt.at(-1) ?? 0) + geometry.sumHeight}px`;
    const sizes = { "cell-w": geometry.cellWidth, "pic-h": geometry.picHeight, "cap-h": geometry.captionHeight, "head-w": geometry.headWidth, "head-h": geometry.headHeight, "name-h": geometry.nameHeight, "sum-w": geometry.sumWidth, "group-h": geometry.groupHeight };
    for (const [name, size] of Object.entries(sizes)) this.style.setProperty(`--${name}`, `${size}px`);
    this.#scroll.setAttribute("aria-rowcount", String(layout.rows.length + 1));
    this.#scroll.setAttribute("aria-colcount", String(layout.cols.length + 1));
    this.toggleAttribute("data-num", isNumeric(this.app));
    this.#heads.forget();
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
    const geometry = this.#geometry;
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.#scroll;
    if (clientWidth === 0 || !geometry) return;
    const [r0, r1] = range(geometry.rowAt, scrollTop, scrollTop + clientHeight - geometry.headHeight);
    const [c0, c1] = range(geometry.colAt, scrollLeft, scrollLeft + clientWidth - geometry.headWidth);
    for (const [at, line] of this.#lines) if (at < r0 || at >= r1) this.#releaseLine(at, line);
    for (let r = r0; r < r1; r += 1) this.#paintLine(geometry, r, c0, c1);
    this.#heads.paintColumns(geometry, c0, c1);
    this.#heads.paintGroups(geometry, r0, r1);
    this.#heads.paintAlso(geometry, { width: clientWidth, height: clientHeight });
    this.#paintEmpty();
    this.#light();
  }

  #paintLine(geometry: Geometry, r: number, c0: number, c1: number): void {
    const { layout } = this.app;
    let line = this.#lines.get(r);
    if (!line) {
      line = this.#spareLines.pop() ?? newLine();
      this.#lines.set(r, line);
      line.element.setAttribute("aria-rowindex", String(r + 2));
      this.#space.append(line.element);
    }
    line.element.style.top = `${geometry.headHeight + (geometry.rowAt[r] ?? 0)}px`;
    this.#paintRowHead(line, geometry.hasRowHeads ? layout.rows[r] : undefined);
    line.sum.hidden = geometry.sumWidth === 0;
    line.sum.textContent = this.#heads.lineSum(geometry, r);
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
      cell.element.style.left = `${geometry.headWidth + (geometry.colAt[c] ?? 0)}px`;
      this.#painter.paint(cell, layout.at(r, c));
    }
  }

  #paintRowHead(line: LineView, head: Head | undefined): void {
    line.head.hidden = !head;
    const title = [head?.over, head?.label].filter(Boolean).join(" · ");
    const weakest = head !== undefined && isWeakest(this.app, this.app.view.y, head.level);
    if (line.head.title === title && line.element.classList.contains("weakest") === weakest && line.head.childElementCount > 0) return;
    line.head.title = title;
    line.element.classList.toggle("use", this.app.verdict?.use === head?.level && this.app.verdict?.along.name === this.app.view.y);
    line.element.classList.toggle("weakest", weakest);
    line.head.setAttribute("aria-label", title);
    line.head.replaceChildren(h("span", {}, head?.name ?? ""), weakest ? h("small", {}, "weakest") : "");
  }

  #paintEmpty(): void {
    const { layout, table, filter, store, view } = this.app;
    const empty = layout.shown === 0 && (table.rows > 0 ? !table.payload.live?.running : layout.rows.length * layout.cols.length < 2);
    this.#empty.hidden = !empty;
    this.#scroll.classList.toggle("is-empty", empty);
    if (!empty) return;
    const undo = h("button", { onclick: () => store.set({ filter: "", brush: {}, hidden: {} }) }, "Show all images");
    const narrowed = filter.active || Object.keys(view.brush).length > 0 || Object.values(view.hidden).some((levels) => levels.length > 0);
    if (table.rows === 0) this.#empty.replaceChildren(h("p", {}, "There are no results in this folder yet."));
    else if (narrowed && layout.passing === 0) this.#empty.replaceChildren(h("p", {}, "No images match this filter."), undo);
    else {
      const first = this.app.mask.indexOf(1);
      const go = h("button", { onclick: () => this.app.goTo(first) }, "Go to the first image");
      this.#empty.replaceChildren(h("p", {}, "No images at these slider positions."), go, ...(narrowed ? [undo] : []));
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
    const geometry = this.#geometry;
    const scroll = this.#scroll;
    if (!geometry) return;
    const [r, c] = place;
    const [top, left] = [geometry.rowAt[r] ?? 0, geometry.colAt[c] ?? 0];
    const bottom = top + geometry.picHeight + geometry.captionHeight + gap + geometry.headHeight;
    const right = left + geometry.cellWidth + gap + geometry.headWidth;
    if (top - geometry.groupHeight < scroll.scrollTop) scroll.scrollTop = top - geometry.groupHeight;
    else if (bottom > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = bottom - scroll.clientHeight;
    if (left < scroll.scrollLeft) scroll.scrollLeft = left;
    else if (right > scroll.scrollLeft + scroll.clientWidth) scroll.scrollLeft = right - scroll.clientWidth;
    this.#paint();
    scroll.setAttribute("aria-activedescendant", `cell-${cursor}`);
  }

  /** Moves the cursor by cells, over those that hold nothing. */
  move(down: number, right: number): void {
    this.#go(step({ layout: this.app.layout, cursor: this.app.view.cursor }, down, right));
  }

  /** Home, End, Page Up and Page Down. */
  jump(to: Jump): void {
    const { layout, view } = this.app;
    const line = (this.#geometry?.picHeight ?? 96) + (this.#geometry?.captionHeight ?? 0) + gap;
    this.#go(jump({ layout, cursor: view.cursor }, to, Math.max(1, Math.floor(this.#scroll.clientHeight / line) - 1)));
  }

  resize(factor: number): void {
    this.app.store.set({ size: clamp(this.cellSize * factor, smallest(this.app, this.#room), 1024) });
  }

  /** Width of a cell in px. */
  get cellSize(): number {
    return this.#geometry?.cellWidth ?? 96;
  }
}

/** Numbers stand right, next to their images; words left. */
function isNumeric({ table, view }: App): boolean {
  const axis = table.axis(view.y);
  return axis !== null && (axis.numeric || axis.kind === "seed");
}

function newLine(): LineView {
  const head = h("div", { class: "row-head", role: "rowheader" });
  const sum = h("div", { class: "row-sum" });
  return { element: h("div", { class: "line", role: "row" }, head, sum), head, sum, cells: new Map() };
}
