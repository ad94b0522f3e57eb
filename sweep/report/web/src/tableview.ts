// The results as a table: every column, sortable, virtual.

import type { App } from "./app";
import { scaleOf } from "./colour";
import { h, oncePerFrame, replaceKeepingFocus } from "./dom";
import { level, number } from "./format";
import { rowUnder, show } from "./cells";
import { sorted } from "./layout";

interface Shown {
  name: string;
  label: string;
  numeric: boolean;
  kind: string;
  width: number;
}

const lineHeight = 34;

export class SweepTable extends HTMLElement {
  app!: App;
  #scroll!: HTMLElement;
  #body!: HTMLElement;
  #head!: HTMLElement;
  #order: number[] = [];
  #columns: Shown[] = [];
  #lines: HTMLElement[] = [];
  readonly #later = oncePerFrame(() => this.#paint());

  connectedCallback(): void {
    this.#head = h("div", { class: "thead", role: "row" });
    this.#body = h("div", { class: "tbody", role: "rowgroup" });
    this.#scroll = h("div", { class: "scroll", role: "table", tabindex: "0", "aria-label": "Results table" }, this.#head, this.#body);
    this.replaceChildren(this.#scroll);
    this.#scroll.addEventListener("scroll", this.#later, { passive: true });
    this.#scroll.addEventListener("click", (event) => {
      const row = rowUnder(event.target);
      if (row >= 0) this.app.goTo(row);
    });
    new ResizeObserver(this.#later).observe(this.#scroll);
    this.app.store.listen((changed) => {
      if (this.app.view.panel !== "table") return;
      if (["filter", "brush", "hidden", "sort", "falling", "panel", "blind", "colour"].some((name) => changed.has(name as never))) this.#fill();
      this.#paint();
    });
    this.#fill();
    this.#paint();
  }

  #fill(): void {
    const { app } = this;
    if (app.view.panel !== "table") return;
    const { table, view } = app;
    this.#order = sorted(app);
    const axes = table.axes.map((axis): Shown => ({ name: axis.name, label: axis.label, numeric: axis.numeric || axis.kind === "seed", kind: axis.kind, width: widthOf(axis.label, axis.labels) }));
    const columns = table.columns.map((column): Shown => ({ name: column.name, label: column.label, numeric: column.numeric, kind: "", width: column.numeric ? widthOf(column.label, ["0.0001"]) : widthOf(column.label, column.values.slice(0, 200).map((value) => level(value))) }));
    const status: Shown = { name: "status", label: "status", numeric: false, kind: "", width: 96 };
    this.#columns = view.blind ? [] : [...axes, status, ...columns];
    const width = 62 + this.#columns.reduce((sum, column) => sum + column.width, 0);
    this.#body.style.height = `${this.#order.length * lineHeight}px`;
    this.#body.style.width = this.#head.style.width = `${width}px`;
    this.#scroll.setAttribute("aria-rowcount", String(this.#order.length + 1));
    replaceKeepingFocus(this.#head, h("span", { class: "td thumb", role: "columnheader" }), ...this.#columns.map((column) => this.#headCell(column)));
    for (const line of this.#lines) line.dataset.shows = "";
  }

  #headCell(column: Shown): HTMLElement {
    const { view, store } = this.app;
    const now = view.sort === column.name;
    const button = h("button", { title: `Sort by ${column.label}`, onclick: () => store.set(now ? { falling: !view.falling } : { sort: column.name, falling: false }) }, column.label, now ? (view.falling ? " ↓" : " ↑") : "");
    const cell = h("span", { class: `td${column.numeric ? " num" : ""}`, role: "columnheader", "aria-sort": now ? (view.falling ? "descending" : "ascending") : "none" }, button);
    cell.style.width = `${column.width}px`;
    return cell;
  }

  #paint(): void {
    if (this.app.view.panel !== "table" || this.#scroll.clientHeight === 0) return;
    const first = Math.max(0, Math.floor(this.#scroll.scrollTop / lineHeight) - 2);
    const count = Math.min(this.#order.length - first, Math.ceil(this.#scroll.clientHeight / lineHeight) + 4, 50);
    while (this.#lines.length < count) {
      const line = h("div", { class: "tr", role: "row" });
      this.#lines.push(line);
      this.#body.append(line);
    }
    this.#lines.forEach((line, at) => {
      line.hidden = at >= count;
      if (at < count) this.#paintLine(line, first + at);
    });
  }

  #paintLine(line: HTMLElement, place: number): void {
    const { app } = this;
    const row = this.#order[place] ?? -1;
    const current = app.view.cursor === row;
    const shows = `${row}|${place}|${current}|${String(app.table.status[row])}|${app.thumbs.thumb(row)?.length}`;
    if (line.dataset.shows === shows) return;
    line.dataset.shows = shows;
    line.dataset.row = String(row);
    line.style.top = `${place * lineHeight}px`;
    line.toggleAttribute("data-cursor", current);
    line.setAttribute("aria-rowindex", String(place + 2));
    const image = h("img", { alt: "", decoding: "async" });
    show(image, app.thumbs.thumb(row) ?? "", "");
    line.replaceChildren(h("span", { class: "td thumb", role: "cell" }, image), ...this.#columns.map((column) => this.#cell(column, row)));
  }

  #cell(column: Shown, row: number): HTMLElement {
    const value = this.app.table.value(row, column.name);
    const isAxis = column.kind !== "";
    const text = value === null && !isAxis ? "" : typeof value === "number" && !isAxis ? number(value, 4) : level(value, column.kind);
    const cell = h("span", { class: `td${column.numeric ? " num" : ""}${text === "failed" ? " error" : ""}`, role: "cell", title: text }, text);
    cell.style.width = `${column.width}px`;
    const colour = column.name === this.app.view.colour ? scaleOf(column.name, this.app.table)?.colour(row) : null;
    cell.classList.toggle("coloured", Boolean(colour));
    if (colour) cell.style.setProperty("--colour", colour);
    return cell;
  }

  focusGrid(): void {
    this.#scroll.focus({ preventScroll: true });
  }

  move(by: number): void {
    const at = this.#order.indexOf(this.app.view.cursor);
    const row = this.#order[Math.max(0, Math.min(this.#order.length - 1, at + by))];
    if (row === undefined) return;
    this.app.goTo(row);
    const top = (at + by) * lineHeight;
    if (top < this.#scroll.scrollTop) this.#scroll.scrollTop = top;
    else if (top + 2 * lineHeight > this.#scroll.scrollTop + this.#scroll.clientHeight) this.#scroll.scrollTop = top + 2 * lineHeight - this.#scroll.clientHeight;
  }
}

/** Room for the name of a column and for the longest of its texts, within reason; px. */
function widthOf(name: string, texts: string[]): number {
  const longest = texts.reduce((most, text) => Math.max(most, text.length), 0);
  return Math.round(Math.min(320, Math.max(64, name.length * 7.6 + 30, longest * 7.1 + 16)));
}
