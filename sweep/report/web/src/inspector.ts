// The side panel: one image large, against its reference, with everything known about it and the reader's judgement.

import type { App } from "./app";
import { show } from "./cells";
import { scaleOf } from "./colour";
import { announce, copyText, h, icon, replace, replaceKeepingFocus, select } from "./dom";
import { level, number, words } from "./format";
import { Gestures, within } from "./gestures";
import { needsPartner } from "./layout";
import { gains, type Mode } from "./state";
import type { Column } from "./table";
import { holds } from "./verdict";

export class SweepInspector extends HTMLElement {
  app!: App;
  #stage!: HTMLElement;
  #image!: HTMLImageElement;
  #other!: HTMLImageElement;
  #message!: HTMLElement;
  #tools!: HTMLElement;
  #reference!: HTMLElement;
  #split!: HTMLInputElement;
  #facts!: HTMLElement;
  #judgement!: HTMLElement;
  #unsaved!: HTMLElement;
  #note!: HTMLInputElement;
  #caption!: HTMLElement;
  #actions!: HTMLElement;
  #scale!: HTMLElement;
  #room = { width: 0, height: 0 }; // of the stage, as last laid out
  #shown = "";
  #factsOf = "";
  #toolsOf = "";

  connectedCallback(): void {
    const { store } = this.app;
    this.#image = h("img", { class: "a", alt: "", draggable: false });
    this.#other = h("img", { class: "b", alt: "", draggable: false, hidden: true });
    this.#message = h("p", { class: "message" });
    this.#stage = h("div", { class: "stage" }, this.#image, this.#other, h("div", { class: "split-line", "aria-hidden": "true" }), this.#message);
    this.#stage.dataset.wheel = "1";
    new Gestures(this.app, this.#stage, ".stage").listen();
    this.#stage.addEventListener("dblclick", () => store.set({ full: !store.view.full }));
    this.#split = h("input", { type: "range", min: "0", max: "100", step: "1", class: "split", "aria-label": "Compare slider: share of the reference that is shown" });
    this.#split.addEventListener("input", () => store.set({ split: Number(this.#split.value) }));
    this.#caption = h("p", { class: "against" });
    this.#tools = h("div", { class: "tools", role: "toolbar", "aria-label": "Compare" });
    this.#reference = h("div", { class: "reference" });
    this.#facts = h("div", { class: "facts" });
    this.#note = h("input", { type: "text", class: "note", placeholder: "note", "aria-label": "Note", maxLength: 2000 });
    this.#note.addEventListener("input", () => this.app.marks.set(this.app.view.cursor, { note: this.#note.value }));
    this.#judgement = h("div", { class: "judgement" });
    this.#unsaved = h("p", { class: "unsaved", role: "alert" });
    const grip = h("button", { class: "grip", "aria-label": "Show or hide the panel", onclick: () => this.classList.toggle("open") });
    this.#actions = h("div", { class: "actions" });
    this.#scale = h("p", { class: "scale", role: "status", hidden: true });
    this.#image.addEventListener("load", () => this.#paintScale());
    this.replaceChildren(grip, this.#tools, this.#reference, this.#stage, this.#scale, this.#split, this.#caption, this.#judgement, this.#unsaved, this.#note, this.#facts, this.#actions);
    store.listen(() => this.#paint());
    new ResizeObserver(() => this.#fit()).observe(this);
    new ResizeObserver(([stage]) => {
      if (stage) this.#room = stage.contentRect;
      this.#paintScale();
    }).observe(this.#stage);
    this.#paint();
  }

  #paint(): void {
    const { app } = this;
    const { view, table } = app;
    const row = view.cursor;
    this.classList.toggle("full", view.full);
    this.classList.toggle("none", row < 0);
    const image = row >= 0 ? app.image(row) : null;
    const other = row >= 0 && needsPartner(view.mode, view.blink) ? app.reference(row) : null;
    const shown = `${row}|${image?.thumb.length}|${image?.full}|${other?.full ?? other?.thumb.length}|${view.mode}|${view.blink}`;
    if (shown !== this.#shown) {
      this.#shown = shown;
      show(this.#image, image ? (image.full ?? image.thumb) : "", image?.thumb ?? "");
      show(this.#other, other ? (other.full ?? other.thumb) : "", other?.thumb ?? "");
      this.#image.alt = image ? image.label : "";
      this.#fit();
    }
    this.#message.textContent = row < 0 ? (table.rows === 0 && table.payload.live?.running ? "The first image comes in a moment. Every cell of the experiment is already here and is filled where it stands." : "Choose an image, or press an arrow key.") : image ? "" : this.#whyNone(row);
    this.#split.value = String(view.split);
    this.#split.hidden = view.mode !== "compare";
    this.#paintCaption(row, other !== null);
    this.#paintTools();
    this.#paintJudgement(row);
    this.#paintScale();
    this.#paintFacts(row, `${view.threshold}|${table.version}|${row}|${view.blind}|${table.rows}|${String(table.status[row])}|${view.colour}`);
  }

  #whyNone(row: number): string {
    const { table } = this.app;
    const error = table.error[row];
    return `${table.status[row]}${error ? `: ${error}` : ""}`;
  }

  #fit(): void {
    const { table, view } = this.app;
    const [width, height] = [table.images.width[view.cursor], table.images.height[view.cursor]];
    const aspect = typeof width === "number" && typeof height === "number" && width > 0 ? height / width : 1;
    this.#stage.style.setProperty("--aspect", String(1 / aspect));
  }

  #paintCaption(row: number, has: boolean): void {
    const { view } = this.app;
    this.#caption.hidden = row < 0 || !needsPartner(view.mode, view.blink);
    if (!this.#caption.hidden) this.#caption.textContent = captionOf(this.app, has);
  }

  #paintTools(): void {
    const { app } = this;
    const { view, store } = app;
    const state = [view.mode, view.blink, view.zoom, view.full, view.against, view.pin, view.blind, view.gain, app.table.rows].join("|");
    if (state === this.#toolsOf) return;
    this.#toolsOf = state;
    const toggle = (mode: Mode, key: string): HTMLButtonElement =>
      tool(mode, `${mode} (${key})`, view.mode === mode, () => store.set({ mode: view.mode === mode ? "plain" : mode }), mode);
    replaceKeepingFocus(
      this.#tools,
      toggle("compare", "c"),
      tool("blink", "blink (space)", view.blink, () => store.set({ blink: !view.blink }), "blink"),
      toggle("difference", "d"),
      h("span", { class: "apart" }),
      h("button", { class: "tool", title: "zoom 1:1 (z)", onclick: () => this.zoomReal() }, h("span", {}, view.zoom === 1 ? "1:1" : `${number(view.zoom, 2)}×`)),
      tool(view.full ? "close" : "full", "full screen (f)", view.full, () => store.set({ full: !view.full })),
    );
    replaceKeepingFocus(
      this.#reference,
      h("label", {}, h("span", {}, "against"), select("Compare with", againstOptions(app), view.against, (against) => store.set({ against }))),
      view.mode === "difference" ? h("label", {}, h("span", {}, "brighter"), select("Brightness of the difference", gains.map((gain) => [String(gain), `×${gain}`]), String(view.gain), (gain) => store.set({ gain: Number(gain) }))) : null,
    );
  }

  #paintJudgement(row: number): void {
    const { marks, store, view } = this.app;
    this.#judgement.hidden = row < 0;
    this.#note.hidden = row < 0;
    if (row < 0) return;
    const mark = marks.of(row);
    this.#unsaved.textContent = marks.failure;
    if (document.activeElement !== this.#note) this.#note.value = mark.note;
    const stars = [1, 2, 3, 4, 5].map((n) =>
      h(
        "button",
        { class: `star${mark.stars >= n ? " on" : ""}`, "aria-label": `${n} ${n === 1 ? "star" : "stars"}`, "aria-pressed": String(mark.stars >= n), title: `${n} of 5 (${n})`, onclick: () => marks.set(row, { stars: mark.stars === n ? 0 : n }) },
        mark.stars >= n ? "★" : "☆",
      ),
    );
    replaceKeepingFocus(
      this.#judgement,
      ...stars,
      h("button", { class: "tool", "aria-pressed": String(mark.rejected), title: "reject (x)", onclick: () => marks.set(row, { rejected: !mark.rejected }) }, icon("reject"), h("span", {}, "reject")),
      h("button", { class: "tool", "aria-pressed": String(view.pin === row), title: "pin as reference (p)", onclick: () => store.set(view.pin === row ? { pin: -1 } : { pin: row, against: "pin" }) }, icon("pin"), h("span", {}, "pin")),
    );
  }

  #paintFacts(row: number, of: string): void {
    if (of === this.#factsOf) return;
    this.#factsOf = of;
    this.#paintActions(row);
    if (row < 0) return replace(this.#facts);
    if (this.app.view.blind) return replace(this.#facts, h("p", { class: "dim" }, "Blind mode hides the settings of this image. Press b to leave it."));
    replaceKeepingFocus(this.#facts, ...factsOf(this.app, row));
  }

  /** One pixel of the image on one pixel of the page; back to fitting when it is there already. */
  zoomReal(): void {
    const { store, view, table } = this.app;
    const size = [table.images.width[view.cursor], table.images.height[view.cursor]];
    const [width, height] = size.map((side) => (typeof side === "number" && side > 0 ? side : this.#image.naturalWidth || 1)) as [number, number];
    const shown = Math.min(this.#stage.clientWidth, (this.#stage.clientHeight * width) / height) || 1;
    const real = width / shown;
    const wanted = view.zoom !== 1 ? 1 : real > 1.02 ? real : 2;
    store.set({ zoom: wanted, ...within(wanted, 50 - 50 * wanted, 50 - 50 * wanted) });
  }

  /** Copies settings, prompts and file of the image, a line each. */
  copyFacts(): void {
    const { app } = this;
    if (app.view.cursor < 0 || app.view.blind) return;
    copyText(madeOf(app, app.view.cursor).map(([term, text]) => `${term}: ${text}`).join("\n"), this.#facts.querySelector<HTMLElement>(".copy") ?? this);
  }

  /** Opens, copies or links the image. */
  #paintActions(row: number): void {
    const { thumbs } = this.app;
    const full = row >= 0 ? thumbs.full(row) : null;
    const image = row >= 0 ? this.app.image(row) : null;
    this.#actions.hidden = !image || this.app.view.blind;
    if (this.#actions.hidden) return;
    replaceKeepingFocus(
      this.#actions,
      h("button", { onclick: (event: Event) => copyText(location.href, event.currentTarget as HTMLElement) }, icon("link"), " copy link"),
      h("button", { onclick: (event: Event) => void copyImage(this.#image, image?.thumb ?? "", event.currentTarget as HTMLElement) }, icon("copy"), " copy image"),
      full && !full.startsWith("data:") ? h("a", { class: "button", href: full, target: "_blank", rel: "noopener" }, icon("open"), " open") : null,
    );
  }

  /** What is shown of an image: a preview is never enlarged without saying so. */
  #paintScale(): void {
    const preview = this.#stage.classList.contains("preview") || (this.app.view.cursor >= 0 && this.app.thumbs.full(this.app.view.cursor) === null);
    const { naturalWidth: width, naturalHeight: height } = this.#image;
    const fitting = Math.min(this.#room.width / width, this.#room.height / height, preview ? 1 : Infinity); // as .preview in grid.css
    const times = width > 0 ? this.app.view.zoom * fitting : 0;
    const enlarged = times > 1.05 ? `nlarged ${number(times, 2)}×` : "";
    this.#scale.hidden = width === 0 || this.#image.hidden || !(preview || enlarged);
    this.#stage.classList.toggle("preview", preview);
    this.#scale.textContent = preview ? `Preview of ${Math.max(width, height)} px${enlarged && `, e${enlarged}`}: the original is not beside this page.` : `E${enlarged}`;
  }

  focusNote(): void {
    this.classList.add("open");
    this.#note.focus();
  }
}

function tool(name: string, title: string, on: boolean, act: () => void, text = ""): HTMLButtonElement {
  return h("button", { class: "tool", "aria-pressed": String(on), "aria-label": text || title, title, onclick: act }, icon(name), text && h("span", {}, text));
}

/** [value of `view.against`, words] of everything there is to compare with. */
export function againstOptions({ table, view }: App): [string, string][] {
  const options: [string, string][] = [];
  if (table.others) options.push(["run", `the same point in ${table.payload.runs?.other ?? "the other run"}`]);
  if (table.sources.some((source) => source.thumb)) options.push(["source", "the source image"]);
  options.push(["pin", view.pin >= 0 && !view.blind ? `pinned: ${table.describe(view.pin)}` : "the pinned image (p)"]);
  if (view.blind) return options;
  for (const axis of table.axes) {
    if (axis.levels.length < 2 || axis.levels.length > 60) continue;
    axis.labels.forEach((label, at) => options.push([`axis:${axis.name}=${at}`, `${axis.label} ${label}`]));
  }
  return options;
}

/** A line under the compared image; `has`: there is something to compare with. */
export function captionOf(app: App, has: boolean): string {
  const { view } = app;
  const name = againstOptions(app).find(([value]) => value === view.against)?.[1] ?? view.against;
  if (!has) return view.against === "pin" ? "No image is pinned. Press p on one to compare others with it." : `No image to compare with (${name}).`;
  if (view.blink) return `Showing ${name}.`;
  if (view.mode === "compare") return `Left: ${name}. Right: this image.`;
  return `Difference to ${name}${view.gain > 1 ? `, ${view.gain} times brighter` : ""}: black is equal.`;
}

type Entry = readonly [term: string, text: string, link?: string];

const elsewhere = new Set(["prompt", "rendered_prompt", "negative_prompt"]);

/** The facts of a row, as elements: what became of it, what made it, its metrics, and where it came from. */
export function factsOf(app: App, row: number): HTMLElement[] {
  const { table } = app;
  const error = table.error[row];
  const found: HTMLElement[] = [];
  if (error) found.push(h("p", { class: "error" }, String(error)), ...retryOf(app));
  const verdict = verdictOf(app, row);
  if (verdict) found.push(verdict);
  found.push(list("made", madeOf(app, row), true));
  const metrics = table.metrics.filter((column) => typeof column.values[row] === "number");
  if (metrics.length > 0) found.push(h("dl", { class: "metrics" }, ...metrics.map((column) => metricLine(app, column, row))));
  found.push(list("about", aboutOf(app, row), false));
  return found;
}

/** Whether the image held what the study asks of it, in words. */
function verdictOf({ verdict }: App, row: number): HTMLElement | null {
  const held = verdict ? holds(verdict, row) : null;
  if (!verdict || held === null) return null;
  const value = `${verdict.metric.label} ${number(Number(verdict.metric.values[row]))}`;
  return h("p", { class: "verdict" }, h("i", { class: `mark ${held ? "held" : "below"}` }), h("b", {}, held ? "Held: " : "Fell below: "), value);
}

function retryOf({ table }: App): HTMLElement[] {
  const { retry } = table.payload;
  if (!retry) return [];
  return [h("p", { class: "retry" }, h("code", {}, retry), copyButton("the command that tries failures again", retry))];
}

/** Settings, prompt, negative prompt and file: what one needs to make the image again. */
function madeOf({ table, thumbs }: App, row: number): Entry[] {
  const { inputs } = table.payload;
  const axes = table.axes.filter((axis) => axis.name !== "prompt").map((axis) => `${axis.label} ${axis.labels[axis.at[row] ?? -1] ?? "none"}`);
  const varied = new Set(table.axes.map((axis) => axis.name));
  const fixed = Object.entries(inputs).filter(([name, value]) => !varied.has(name) && !elsewhere.has(name) && value !== null && name !== "image");
  const prompt = table.value(row, "rendered_prompt") ?? table.value(row, "prompt") ?? inputs.prompt ?? null;
  const negative = table.value(row, "negative_prompt") ?? inputs.negative_prompt ?? null;
  const path = table.images.path[row];
  const entries: Entry[] = [["settings", [...axes, ...fixed.map(([name, value]) => `${words(name)} ${level(value)}`)].join(" · ")]];
  if (prompt !== null) entries.push(["prompt", String(prompt)]);
  if (negative !== null && negative !== "") entries.push(["negative", String(negative)]);
  if (typeof path === "string") entries.push(["file", path.split("/").pop() ?? path, thumbs.full(row) ?? undefined]);
  return entries;
}

function aboutOf({ table }: App, row: number): Entry[] {
  const columns = table.columns.filter((column) => column.kind === "info" && !elsewhere.has(column.name) && column.values[row] !== null && column.values[row] !== undefined);
  return [...columns.map((column): Entry => [column.label, level(column.values[row] ?? null)]), ["status", String(table.status[row])], ["key", String(table.key[row])]];
}

function copyButton(name: string, text: string): HTMLButtonElement {
  return h("button", { class: "copy", title: `copy ${name}`, "aria-label": `Copy ${name}`, onclick: (event: Event) => copyText(text, event.currentTarget as HTMLElement) }, icon("copy"));
}

/** A metric, its value, and a mark where that lies between the least and the largest of all; its name colours the grid. */
function metricLine(app: App, column: Column, row: number): HTMLElement {
  const { store } = app;
  const value = Number(column.values[row]);
  const scale = scaleOf(column.name, app.table);
  const place = scale && scale.high > scale.low ? (value - scale.low) / (scale.high - scale.low) : 0.5;
  const mark = h("i", { class: "range", title: scale ? `from ${number(scale.low)} to ${number(scale.high)}` : "", "aria-hidden": "true" });
  mark.style.setProperty("--at", `${place * 100}%`);
  const on = app.view.colour === column.name;
  const button = h("button", { class: "by", "aria-pressed": String(on), title: `${column.summary} Click: colour the grid by it.`.trim(), onclick: () => store.set({ colour: store.view.colour === column.name ? null : column.name }) }, words(column.label));
  return h("div", {}, h("dt", {}, button), mark, h("dd", {}, number(value)));
}

function list(name: string, entries: readonly Entry[], canCopy: boolean): HTMLElement {
  return h("dl", { class: name }, ...entries.map(([term, text, link]) => h("div", {}, h("dt", {}, words(term)), h("dd", { title: text }, link ? h("a", { href: link, target: "_blank", rel: "noopener" }, text) : text), canCopy ? h("dd", {}, copyButton(term, text)) : null)));
}

/** Copies the image itself; of a page that is a file, which may not read the files beside it, the preview inside it. */
async function copyImage(image: HTMLImageElement, thumb: string, control: HTMLElement): Promise<void> {
  const preview = h("img", { src: thumb });
  const copied = (await writeImage(image)) ? "copied" : (await preview.decode().then(() => writeImage(preview), () => false)) ? "copied the preview" : "cannot copy here";
  announce(control, copied);
}

async function writeImage(image: HTMLImageElement): Promise<boolean> {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  canvas.getContext("2d")?.drawImage(image, 0, 0);
  try {
    const blob = new Promise<Blob>((resolve, reject) => canvas.toBlob((made) => (made ? resolve(made) : reject(new Error("no image"))), "image/png"));
    await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
    return true;
  } catch {
    return false;
  }
}
