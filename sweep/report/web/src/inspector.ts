// The side panel: one picture large, against its reference, with everything known about it and the reader's judgement.

import type { App } from "./app";
import { h, icon, replace, select } from "./dom";
import { level, number, words } from "./format";
import { Gestures, within } from "./gestures";
import { show } from "./cells";
import { needsPartner } from "./layout";
import type { Mode } from "./state";

export class SweepInspector extends HTMLElement {
  app!: App;
  #stage!: HTMLElement;
  #picture!: HTMLImageElement;
  #other!: HTMLImageElement;
  #message!: HTMLElement;
  #tools!: HTMLElement;
  #split!: HTMLInputElement;
  #facts!: HTMLElement;
  #judgement!: HTMLElement;
  #note!: HTMLInputElement;
  #caption!: HTMLElement;
  #shown = "";
  #factsOf = "";
  #toolsOf = "";

  connectedCallback(): void {
    const { store } = this.app;
    this.#picture = h("img", { class: "a", alt: "", draggable: false });
    this.#other = h("img", { class: "b", alt: "", draggable: false, hidden: true });
    this.#message = h("p", { class: "message" });
    this.#stage = h("div", { class: "stage" }, this.#picture, this.#other, h("div", { class: "split-line", "aria-hidden": "true" }), this.#message);
    this.#stage.dataset.wheel = "1";
    new Gestures(this.app, this.#stage, ".stage").listen();
    this.#stage.addEventListener("dblclick", () => store.set({ full: !store.view.full }));
    this.#split = h("input", { type: "range", min: "0", max: "100", step: "1", class: "split", "aria-label": "Compare slider: how much of the reference is seen" });
    this.#split.addEventListener("input", () => store.set({ split: Number(this.#split.value) }));
    this.#caption = h("p", { class: "against" });
    this.#tools = h("div", { class: "tools", role: "toolbar", "aria-label": "Compare" });
    this.#facts = h("div", { class: "facts" });
    this.#note = h("input", { type: "text", class: "note", placeholder: "note", "aria-label": "Note", maxLength: 2000 });
    this.#note.addEventListener("input", () => this.app.marks.set(this.app.view.cursor, { note: this.#note.value }));
    this.#judgement = h("div", { class: "judgement" });
    const grip = h("button", { class: "grip", "aria-label": "Show or hide the panel", onclick: () => this.classList.toggle("open") });
    this.replaceChildren(grip, this.#tools, this.#stage, this.#split, this.#caption, this.#judgement, this.#note, this.#facts);
    store.listen(() => this.#paint());
    new ResizeObserver(() => this.#fit()).observe(this);
    this.#paint();
  }

  #paint(): void {
    const { app } = this;
    const { view, table } = app;
    const row = view.cursor;
    this.classList.toggle("full", view.full);
    this.classList.toggle("none", row < 0);
    const picture = row >= 0 ? app.picture(row) : null;
    const other = row >= 0 && needsPartner(view.mode, view.blink) ? app.reference(row) : null;
    const shown = `${row}|${picture?.thumb.length}|${picture?.full}|${other?.full ?? other?.thumb.length}|${view.mode}|${view.blink}`;
    if (shown !== this.#shown) {
      this.#shown = shown;
      show(this.#picture, picture ? (picture.full ?? picture.thumb) : "", picture?.thumb ?? "");
      show(this.#other, other ? (other.full ?? other.thumb) : "", other?.thumb ?? "");
      this.#picture.alt = picture ? picture.label : "";
      this.#fit();
    }
    this.#message.textContent = row < 0 ? "Choose a picture, or press an arrow key." : picture ? "" : this.#whyNone(row);
    this.#split.value = String(view.split);
    this.#split.hidden = view.mode !== "compare";
    this.#paintCaption(row, other !== null);
    this.#paintTools();
    this.#paintJudgement(row);
    this.#paintFacts(row, `${row}|${view.blind}|${table.rows}|${String(table.status[row])}|${view.colour}`);
  }

  #whyNone(row: number): string {
    const { table } = this.app;
    const error = table.error[row];
    return `${table.status[row]}${error ? `: ${error}` : ""}`;
  }

  #fit(): void {
    const { table, view } = this.app;
    const [width, height] = [table.pictures.width[view.cursor], table.pictures.height[view.cursor]];
    const aspect = typeof width === "number" && typeof height === "number" && width > 0 ? height / width : 1;
    this.#stage.style.setProperty("--aspect", String(1 / aspect));
  }

  #paintCaption(row: number, has: boolean): void {
    const { view } = this.app;
    const comparing = needsPartner(view.mode, view.blink) && row >= 0;
    this.#caption.hidden = !comparing;
    if (!comparing) return;
    const name = this.#againstOptions().find(([value]) => value === view.against)?.[1] ?? view.against;
    if (!has) this.#caption.textContent = view.against === "pin" ? "Nothing is pinned: press p on a picture to compare others with it." : `There is no picture to compare with (${name}).`;
    else if (view.blink) this.#caption.textContent = `Showing ${name}.`;
    else if (view.mode === "compare") this.#caption.textContent = `Left: ${name}. Right: this picture.`;
    else this.#caption.textContent = `Difference to ${name}: black is equal.`;
  }

  #againstOptions(): [string, string][] {
    const { table, view } = this.app;
    const options: [string, string][] = [];
    if (table.others) options.push(["run", `the same point in ${table.payload.runs?.other ?? "the other run"}`]);
    if (table.sources.some((source) => source.thumb)) options.push(["source", "the source picture"]);
    options.push(["pin", view.pin >= 0 && !view.blind ? `pinned: ${table.describe(view.pin)}` : "the pinned picture"]);
    if (view.blind) return options;
    for (const axis of table.axes) {
      if (axis.levels.length < 2 || axis.levels.length > 60) continue;
      axis.labels.forEach((label, at) => options.push([`axis:${axis.name}=${at}`, `${axis.label} ${label}`]));
    }
    return options;
  }

  #paintTools(): void {
    const { app } = this;
    const { view, store } = app;
    const state = [view.mode, view.blink, view.zoom, view.full, view.against, view.pin, view.blind, app.table.rows].join("|");
    if (state === this.#toolsOf) return;
    this.#toolsOf = state;
    const toggle = (mode: Mode, text: string, key: string): HTMLButtonElement =>
      h(
        "button",
        { class: "tool", "aria-pressed": String(view.mode === mode), title: `${text} (${key})`, onclick: () => store.set({ mode: view.mode === mode ? "plain" : mode }) },
        icon(mode),
        h("span", {}, text),
      );
    const focused = this.#tools.contains(document.activeElement) ? document.activeElement?.getAttribute("title") : null;
    replace(
      this.#tools,
      toggle("compare", "compare", "c"),
      h("button", { class: "tool", "aria-pressed": String(view.blink), title: "blink (space)", onclick: () => store.set({ blink: !view.blink }) }, icon("blink"), h("span", {}, "blink")),
      toggle("difference", "difference", "d"),
      h("button", { class: "tool", title: "zoom 1:1 (z)", onclick: () => this.zoomReal() }, h("span", {}, view.zoom === 1 ? "1:1" : `${number(view.zoom, 2)}×`)),
      h("button", { class: "tool", "aria-pressed": String(view.full), title: "full screen (f)", "aria-label": "full screen", onclick: () => store.set({ full: !view.full }) }, icon(view.full ? "close" : "full")),
      select("Compare with", this.#againstOptions(), view.against, (against) => store.set({ against }), { class: "against-select" }),
    );
    if (focused) this.#tools.querySelector<HTMLElement>(`[title="${CSS.escape(focused)}"]`)?.focus();
  }

  #paintJudgement(row: number): void {
    const { marks, store, view } = this.app;
    this.#judgement.hidden = row < 0;
    this.#note.hidden = row < 0;
    if (row < 0) return;
    const mark = marks.of(row);
    if (document.activeElement !== this.#note) this.#note.value = mark.note;
    const stars = [1, 2, 3].map((n) =>
      h(
        "button",
        { class: `star${mark.stars >= n ? " on" : ""}`, "aria-label": `${n} ${n === 1 ? "star" : "stars"}`, "aria-pressed": String(mark.stars >= n), title: `${n} of 3 (${n})`, onclick: () => marks.set(row, { stars: mark.stars === n ? 0 : n }) },
        mark.stars >= n ? "★" : "☆",
      ),
    );
    const focused = this.#judgement.contains(document.activeElement) ? document.activeElement?.getAttribute("title") : null;
    replace(
      this.#judgement,
      ...stars,
      h("button", { class: "tool", "aria-pressed": String(mark.rejected), title: "reject (x)", onclick: () => marks.set(row, { rejected: !mark.rejected }) }, icon("reject"), h("span", {}, "reject")),
      h("button", { class: "tool", "aria-pressed": String(view.pin === row), title: "pin as reference (p)", onclick: () => store.set(view.pin === row ? { pin: -1 } : { pin: row, against: "pin" }) }, icon("pin"), h("span", {}, "pin")),
    );
    if (focused) this.#judgement.querySelector<HTMLElement>(`[title="${CSS.escape(focused)}"]`)?.focus();
  }

  #paintFacts(row: number, of: string): void {
    if (of === this.#factsOf) return;
    this.#factsOf = of;
    const { table, view } = this.app;
    if (row < 0) return replace(this.#facts);
    if (view.blind) return replace(this.#facts, h("p", { class: "dim" }, "Blind: what made this picture is hidden until you leave blind mode (b)."));
    const axes = table.axes.map((axis) => [axis.label, axis.labels[axis.at[row] ?? -1] ?? "none", ""] as const);
    const metrics = table.metrics.map((column) => [column.label, numberOf(column.values[row]), column.summary] as const).filter(([, value]) => value !== "");
    const about = table.columns
      .filter((column) => column.kind === "info" && column.values[row] !== null && column.values[row] !== undefined)
      .map((column) => [column.label, level(column.values[row] ?? null), ""] as const);
    const error = table.error[row];
    replace(
      this.#facts,
      error ? h("p", { class: "error" }, String(error)) : null,
      list("values", axes),
      metrics.length > 0 ? list("metrics", metrics) : null,
      list("about", [...about, ["status", String(table.status[row]), ""], ["key", String(table.key[row]), ""]]),
    );
  }

  /** One pixel of the picture on one pixel of the page; back to fitting when it is there already. */
  zoomReal(): void {
    const { store, view, table } = this.app;
    const size = [table.pictures.width[view.cursor], table.pictures.height[view.cursor]];
    const [width, height] = size.map((side) => (typeof side === "number" && side > 0 ? side : this.#picture.naturalWidth || 1)) as [number, number];
    const shown = Math.min(this.#stage.clientWidth, (this.#stage.clientHeight * width) / height) || 1;
    const real = width / shown;
    const wanted = view.zoom !== 1 ? 1 : real > 1.02 ? real : 2;
    store.set({ zoom: wanted, ...within(wanted, 50 - 50 * wanted, 50 - 50 * wanted) });
  }

  focusNote(): void {
    this.classList.add("open");
    this.#note.focus();
  }
}

function numberOf(value: unknown): string {
  return typeof value === "number" ? number(value) : "";
}

function list(name: string, entries: readonly (readonly [string, string, string])[]): HTMLElement {
  const element = h("dl", { class: name });
  for (const [term, text, title] of entries) element.append(h("dt", { title }, words(term)), h("dd", { title: text }, text));
  return element;
}
