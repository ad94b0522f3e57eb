// The top of the page: what to do, the counts behind it, what it cannot say, and every image as a mark beside it.

import type { App } from "./app";
import { distancesOf } from "./distances";
import { copyText, h, replaceKeepingFocus, svg } from "./dom";
import { number, percent } from "./format";
import { splitSentence } from "./ranking";
import type { View } from "./state";
import { type Answer, answerOf, followUp, type Group, hasWeakest, holds, sign, untestedGap, type Verdict } from "./verdict";

const mostGroups = 6;
const mostMarks = 14; // a cell of the strip; beyond, a bar of the part that held

export class SweepSummary extends HTMLElement {
  app!: App;
  #painted = "";

  connectedCallback(): void {
    this.app.store.listen((changed) => this.#follow(changed));
    this.paint();
  }

  #follow(changed: Set<keyof View>): void {
    if (["threshold", "blind", "filter", "cursor", "panel", "brush"].some((name) => changed.has(name as keyof View))) this.paint();
  }

  paint(): void {
    const { app } = this;
    const { verdict, view, table } = app;
    const live = table.payload.live;
    this.hidden = view.blind || view.panel === "findings" || live?.running === true;
    const state = [view.threshold, table.version, this.hidden, view.cursor, JSON.stringify(view.brush), table.payload.study === null, innerWidth < 760].join("|");
    if (state === this.#painted) return;
    this.#painted = state;
    if (this.hidden) return replaceKeepingFocus(this);
    if (verdict && verdict.total.images > 0) replaceKeepingFocus(this, this.#answer(verdict, answerOf(verdict)), this.#strip(verdict));
    else replaceKeepingFocus(this, ...this.#words(), this.#distances() ?? this.#shares());
  }

  #answer(verdict: Verdict, answer: Answer): HTMLElement {
    const counts = answer.counts.map((part) => (part.strong ? h("b", {}, part.text) : part.text));
    return h("div", { class: "answer" }, h("h2", {}, answer.title), h("p", { class: "counts-line" }, ...counts), this.#method(verdict, answer));
  }

  #method(verdict: Verdict, answer: Answer): HTMLElement {
    const { store, table } = this.app;
    const field = h("input", { class: "threshold", type: "number", step: "0.01", "aria-label": `Threshold of ${verdict.metric.label}`, value: String(verdict.threshold) });
    field.addEventListener("change", () => store.set({ threshold: Number.isFinite(field.valueAsNumber) ? field.valueAsNumber : null }));
    const reset = this.app.view.threshold === null ? null : h("button", { class: "link", onclick: () => store.set({ threshold: null }) }, "reset");
    const gap = untestedGap(verdict);
    const next = gap && followUp(table.payload.experiment, verdict.along, gap);
    const copy = next ? h("button", { class: "link", onclick: (event: Event) => copyText(next, event.currentTarget as HTMLElement) }, "copy a follow-up experiment") : null;
    return h(
      "p",
      { class: "method" },
      "“Held” means ",
      h("span", { title: verdict.metric.summary }, `${verdict.metric.label} ${sign(verdict)} `),
      field,
      reset ? " " : "",
      reset,
      `${answer.meaning}. ${answer.limits} `,
      ...(gap ? [`Nothing was tested between ${number(Math.min(...gap))} and ${number(Math.max(...gap))}. `, copy] : []),
    );
  }

  /** A run without a recommendation: what the study says on top, the first sentence large. */
  #words(): HTMLElement[] {
    const { table } = this.app;
    if (table.rows === 1 && table.status[0] === "completed") return [h("div", { class: "answer" }, h("h2", {}, "One image: nothing to compare it with yet."))];
    const [first, ...rest] = (table.payload.study?.words ?? []).filter((word) => word.headline);
    if (!first) return [];
    const [title, detail] = splitSentence(first.text);
    const lines = first.kind === "word" ? [[detail, first.detail ?? ""].filter(Boolean).join(" ")] : [detail, ...rest.map((word) => word.text)];
    return [h("div", { class: "answer" }, h("h2", { class: title.length > 90 ? "long" : "" }, title), ...lines.filter(Boolean).map((text) => h("p", { class: "counts-line" }, text)))];
  }

  /** How far images lie apart that differ in one axis alone: a tick a pair, the mean in black. */
  #distances(): HTMLElement | null {
    const distances = distancesOf(this.app.table);
    if (distances.length < 2) return null;
    const most = Math.max(...distances.flatMap((distance) => distance.pairs.map((pair) => pair.value)));
    const tick = (value: number, name: string, reach: number): SVGElement => {
      const x = ((value / most) * 280 + 2).toFixed(1);
      return svg("line", { x1: x, x2: x, y1: String(10 - reach), y2: String(10 + reach), class: name });
    };
    const lines = distances.map(({ axis, seed, mean, pairs }) => {
      const picture = svg("svg", { viewBox: "0 0 284 20", preserveAspectRatio: "none", height: "20", "aria-hidden": "true" });
      picture.append(...pairs.map((pair) => tick(pair.value, seed ? "seed" : "pair", 6)), tick(mean, "mean", 9));
      return h("div", { class: "distance-line" }, h("span", {}, seed ? h("em", {}, "a new seed") : axis.label), picture, h("b", {}, number(mean)));
    });
    return h("figure", { class: "strip-figure distances", title: "a tick is a pair of images that differ in this alone; black: the mean" }, ...lines, h("figcaption", {}, "colour difference when this alone changes · one tick per pair"));
  }

  /** Which axis explains how much, as bars, where marks make no sense. */
  #shares(): HTMLElement | null {
    const { table } = this.app;
    const study = table.payload.study;
    const metric = study?.words.find((word) => word.headline && word.metric)?.metric;
    const effects = study?.effects.find((found) => found.metric === metric);
    const shares = (effects?.shares ?? []).filter((share) => share.axes.length === 1 && share.share.value !== null).slice(0, 5);
    if (shares.length < 2) return null;
    const lines = shares.map((share) => {
      const value = Math.max(0, share.share.value ?? 0);
      const bar = h("i", { class: "share" });
      bar.style.width = `${Math.min(100, value * 100)}%`;
      return h("div", { class: "share-line" }, h("span", {}, table.axis(share.axes[0] ?? "")?.label ?? share.axes.join(" × ")), h("span", { class: "track" }, bar), h("b", {}, percent(value)));
    });
    return h("figure", { class: "strip-figure shares-figure", role: "img", "aria-label": `Shares of variance of ${table.column(metric ?? null)?.label ?? metric}` }, ...lines, h("figcaption", {}, `share of the variance of ${table.column(metric ?? null)?.label ?? metric}`));
  }

  #strip(verdict: Verdict): HTMLElement {
    const shown = verdict.groups.slice(0, mostGroups);
    const hidden = verdict.groups.length - shown.length;
    const { along, levels } = verdict;
    const labels = thin(levels.length, verdict.use);
    const head = (at: number): HTMLElement => h("th", { class: at === verdict.use ? "use" : "", scope: "col" }, labels(at) ? h("button", { onclick: () => this.#select({ [along.name]: at }) }, along.labels[at] ?? "") : "");
    const cells = levels.map((level, at) => h("td", { class: `sum${at === verdict.use ? " use" : ""}` }, labels(at) && level.images > 0 ? h("button", { onclick: () => this.#select({ [along.name]: at }) }, markWidth(verdict) < 52 ? String(level.held) : `${level.held} of ${level.images}`) : ""));
    const table = h(
      "table",
      { class: `strip-table${markWidth(verdict) < 52 ? " dense" : ""}` },
      h("thead", {}, h("tr", { class: "names" }, h("td", {}), h("th", { colSpan: levels.length, scope: "colgroup" }, `${along.label} →`), h("th", { scope: "col" }, "held")), h("tr", {}, h("td", {}), ...levels.map((_, at) => head(at)), h("td", {}))),
      h("tbody", {}, ...shown.map((group, place) => this.#line(verdict, group, place === 0 && hasWeakest(verdict)))),
      h("tfoot", {}, h("tr", {}, h("th", { scope: "row" }, "held"), ...cells, h("td", { class: "sum all" }, `${verdict.total.held} of ${verdict.total.images}`))),
    );
    const more = hidden > 0 ? ` · the ${shown.length} weakest of ${verdict.groups.length}` : "";
    const key = h("figcaption", {}, h("i", { class: "mark held" }), "held ", h("i", { class: "mark below" }), "fell below ", h("i", { class: "mark dotted" }), `${number(verdict.threshold)} · one mark per image${more}`);
    return h("figure", { class: "strip-figure" }, table, key);
  }

  #line(verdict: Verdict, group: Group, weakest: boolean): HTMLElement {
    const name = group.at < 0 ? h("span", {}, "all images") : h("button", { title: group.label, onclick: () => this.#select({ [verdict.group?.name ?? ""]: group.at }) }, group.name);
    const cells = group.marks.map((rows, at) => h("td", { class: at === verdict.use ? "use" : "" }, rows.length > 0 ? this.#marks(verdict, rows) : null));
    return h("tr", { class: weakest ? "weakest" : "" }, h("th", { scope: "row" }, name), ...cells, h("td", { class: "sum" }, `${group.held} of ${group.images}`));
  }

  /** One mark per image, above or below the line that it had to hold. */
  #marks(verdict: Verdict, rows: number[]): SVGElement {
    const held = rows.filter((row) => holds(verdict, row));
    const [width, height] = [markWidth(verdict), 32];
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width: String(width), height: String(height), role: "img", "aria-label": `${held.length} of ${rows.length} held` });
    picture.append(svg("line", { x1: "0", x2: String(width), y1: "16", y2: "16", class: "threshold-line" }));
    if (rows.length > mostMarks) this.#bar(picture, held.length / rows.length, width);
    else rows.forEach((row, at) => picture.append(this.#mark(verdict, row, ((at + 1) * width) / (rows.length + 1), spreadOf(verdict), Math.min(4.4, Math.max(1.6, width / (rows.length + 1) / 2.2)))));
    return picture;
  }

  #bar(picture: SVGElement, part: number, width: number): void {
    picture.append(svg("rect", { x: "3", y: "12", width: String(width - 6), height: "8", class: "below" }), svg("rect", { x: "3", y: "12", width: String((width - 6) * part), height: "8", class: "held" }));
  }

  #mark(verdict: Verdict, row: number, x: number, spread: number, radius: number): SVGElement {
    const good = holds(verdict, row) === true;
    const value = Number(verdict.metric.values[row]);
    const lift = Math.min(1, Math.abs(value - verdict.threshold) / spread) * (12 - radius) + radius * 0.9;
    const mark = svg("circle", { cx: x.toFixed(1), cy: (16 - (good ? lift : -lift)).toFixed(1), r: String(good ? radius : radius - 0.5), class: good ? "held" : "below" });
    mark.append(Object.assign(svg("title", {}), { textContent: `${this.app.table.describe(row)}: ${number(value)}` }));
    mark.toggleAttribute("data-cursor", this.app.view.cursor === row);
    mark.addEventListener("click", () => this.app.goTo(row));
    return mark;
  }

  /** Shows only the cells at some levels; the same once more shows all again. */
  #select(levels: Record<string, number>): void {
    const { store, table } = this.app;
    const brush = { ...store.view.brush };
    for (const [name, at] of Object.entries(levels)) {
      const axis = table.axis(name);
      const place = axis?.numeric ? Number(axis.levels[at]) : at;
      if (brush[name]?.[0] === place && brush[name]?.[1] === place) delete brush[name];
      else brush[name] = [place, place];
    }
    store.set({ brush });
  }
}

/** The distance from the threshold at which a mark is as far from its line as it can be. */
function spreadOf({ metric, threshold }: Verdict): number {
  let most = 1e-9;
  for (const value of metric.values) if (typeof value === "number") most = Math.max(most, Math.abs(value - threshold));
  return most;
}

/** Room for the marks of a level, px. */
function markWidth({ levels }: Verdict): number {
  const room = innerWidth < 760 ? innerWidth - 215 : 350;
  return Math.round(Math.min(62, Math.max(15, room / levels.length)));
}

/** Which of many levels have room for their label: the recommended one always, and those that are not beside it. */
function thin(levels: number, use: number): (at: number) => boolean {
  const every = Math.ceil(levels / (innerWidth < 760 ? 6 : 12));
  return (at) => at === use || (at % every === 0 && (every === 1 || use < 0 || Math.abs(at - use) > 1));
}
