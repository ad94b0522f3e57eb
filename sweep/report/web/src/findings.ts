// The findings as a list: at most five, each with its chart and the images that show it; the rest folded by kind.

import * as Plot from "@observablehq/plot";
import type { App } from "./app";
import { show } from "./cells";
import { series } from "./colour";
import { drawDistances } from "./decides";
import { copyText, h, replace } from "./dom";
import { number, percent, short, shortAll } from "./format";
import { curvesOf } from "./means";
import type { Word } from "./payload";
import { domainOf, frame, label } from "./plots";
import { drawChoices } from "./preferences";
import { foldedFindings, mainFindings, splitSentence } from "./ranking";
import type { View } from "./state";
import type { Axis, Column } from "./table";
import { answerOf, holds, type Verdict } from "./verdict";

const mostImages = 8;
const chart = { width: 290, height: 140 };

export class SweepFindings extends HTMLElement {
  app!: App;
  #at = 0;
  #items: HTMLElement[] = [];

  connectedCallback(): void {
    this.tabIndex = 0;
    this.setAttribute("role", "region");
    this.setAttribute("aria-label", "Findings");
    this.app.store.listen((changed) => this.#follow(changed));
    this.#draw();
  }

  #follow(changed: Set<keyof View>): void {
    if (this.app.view.panel === "findings" && ["panel", "threshold", "metric", "blind"].some((name) => changed.has(name as keyof View))) this.#draw();
  }

  #draw(): void {
    const { app } = this;
    const main = mainFindings(app.table);
    if (app.view.blind || main.length === 0) {
      const text = app.view.blind ? "Blind mode hides the findings. Press b to leave it." : "No findings yet. sweep study measures the images and says what they show.";
      return replace(this, h("p", { class: "dim" }, text));
    }
    this.#items = main.map((word, at) => this.#item(word, at));
    const keys = h("p", { class: "finding-keys" }, h("kbd", {}, "j"), h("kbd", {}, "k"), " next, previous ", h("kbd", {}, "↵"), " show in the grid ", h("kbd", {}, "y"), " copy the sentence");
    replace(this, h("header", {}, h("p", {}, main.length > 1 ? `The ${main.length} that change most what you would do.` : "What changes most what you would do."), keys), h("ol", {}, ...this.#items), this.#folded());
    this.#mark(Math.min(this.#at, main.length - 1));
  }

  #item(word: Word, at: number): HTMLElement {
    const { text, detail } = this.#sentence(word, at);
    const grid = h("button", { class: "link", onclick: () => this.#showInGrid(word) }, "show in the grid");
    const copy = h("button", { class: "link", onclick: (event: Event) => copyText(`${text} ${detail}`.trim(), event.currentTarget as HTMLElement) }, "copy");
    const item = h("li", {}, h("span", { class: "number" }, String(at + 1)), h("div", { class: "finding" }, h("h2", {}, text), detail ? h("p", {}, detail) : null, h("p", { class: "finding-links" }, grid, " ", copy)), ...this.#evidence(word));
    item.addEventListener("click", () => this.#mark(at));
    return item;
  }

  /** What shows a finding: a panel of its own for words and blind choices, else a chart and images. */
  #evidence(word: Word): HTMLElement[] {
    const panel = word.kind === "word" ? drawDistances(this.app) : word.kind === "choice" ? drawChoices(this.app, word.axis) : null;
    return panel ? [panel] : [this.#chart(word), this.#images(word)];
  }

  /** The first finding is the answer of the main view, in its words; others are split after their first sentence. */
  #sentence(word: Word, at: number): { text: string; detail: string } {
    const { verdict } = this.app;
    if (at === 0 && verdict && word.metric === verdict.metric.name && word.kind === "recommendation") {
      const answer = answerOf(verdict);
      return { text: answer.title, detail: answer.counts.map((part) => part.text).join("") };
    }
    const [text, detail] = splitSentence(word.text);
    const more = word.kind === "word" ? (word.detail ?? "") : "";
    return { text, detail: [detail, more].filter(Boolean).join(" ") };
  }

  #chart(word: Word): HTMLElement {
    const { table, verdict } = this.app;
    const metric = table.column(word.metric);
    const axis = table.axis(word.axis);
    const figure = h("figure", {});
    const shares = word.kind === "share" && metric ? this.#shares(metric) : [];
    if (shares.length > 0) figure.append(...shares);
    else if (word.kind === "share") {
      const first = this.#strongest(word);
      if (metric && first) figure.append(...(first.numeric ? this.#curve(metric, first) : this.#dots(metric, first)));
    } else if (verdict && metric === verdict.metric && axis === verdict.along) figure.append(...this.#held(verdict));
    else if (metric && axis) figure.append(...(axis.numeric ? this.#curve(metric, axis) : this.#dots(metric, axis)));
    return figure;
  }

  #held(verdict: Verdict): Element[] {
    const rows = verdict.levels.flatMap((level, at) => [
      { at, part: "held", images: level.held },
      { at, part: "fell", images: level.images - level.held },
    ]);
    const plot = Plot.plot({
      ...frame(chart.width, chart.height),
      marginLeft: 8,
      marginRight: 8,
      x: { label: null, type: "band", domain: verdict.levels.map((_, at) => at), tickFormat: (at: number) => short(verdict.along.labels[at] ?? "", 6), padding: 0.25 },
      y: { label: null, axis: null },
      marks: [
        Plot.barY(rows, { x: "at", y: "images", fill: (row: { part: string }) => (row.part === "held" ? "var(--series-1)" : "var(--bg)"), stroke: (row: { part: string }) => (row.part === "held" ? "var(--series-1)" : "var(--red)"), order: ["held", "fell"] }),
        Plot.text(verdict.levels.map((level, at) => ({ at, ...level })).filter((level) => level.images > 0), { x: "at", y: "images", text: (row: { held: number }) => String(row.held), dy: -7, fill: "var(--ink)" }),
      ],
    });
    label(plot, `Images that held, by ${verdict.along.label}`);
    return [plot, h("figcaption", {}, `images that held, by ${verdict.along.label}`)];
  }

  #curve(metric: Column, axis: Axis): Element[] {
    const { table, chartMask } = this.app;
    const [line] = curvesOf(table, chartMask, metric, axis, null);
    if (!line) return [];
    const banded = line.seeds > 2;
    const plot = Plot.plot({
      ...frame(chart.width, chart.height),
      x: { label: null, domain: domainOf(axis), ticks: 5 },
      y: { label: null, nice: true, ticks: 4, grid: true },
      marks: [Plot.areaY(line.at.filter((level) => level.low !== null), { x: "x", y1: "low", y2: "high", fill: "var(--series-1)", fillOpacity: 0.16 }), Plot.line(line.at, { x: "x", y: "mean", stroke: "var(--series-1)", strokeWidth: 2 })],
    });
    label(plot, `${metric.label} along ${axis.label}`);
    return [plot, h("figcaption", {}, `${metric.label} along ${axis.label}, mean${banded ? " and 95 % band" : ""}`)];
  }

  /** One mark per seed and the mean of each level, for axes of words. */
  #dots(metric: Column, axis: Axis): Element[] {
    const { table, chartMask } = this.app;
    const seed = table.axes.find((other) => other.kind === "seed" && other !== axis) ?? null;
    const means = curvesOf(table, chartMask, metric, axis, null)[0]?.at ?? [];
    const seeds = curvesOf(table, chartMask, metric, axis, seed).flatMap((line) => line.at);
    const names = shortAll(axis.labels, 18);
    const named = (level: { x: number }): string => names[level.x] ?? "";
    const plot = Plot.plot({
      ...frame(chart.width, Math.max(70, axis.levels.length * 26 + 34)),
      marginLeft: 116,
      x: { label: null, nice: true, ticks: 4 },
      y: { label: null, domain: means.map(named), tickSize: 0 },
      marks: [Plot.ruleY(means, { y: named, stroke: "var(--line)" }), Plot.dot(seeds, { x: "mean", y: named, stroke: "var(--series-1)", r: 3.5 }), Plot.tickX(means, { x: "mean", y: named, stroke: "var(--ink)", strokeWidth: 2.5 })],
    });
    label(plot, `${metric.label} by ${axis.label}`);
    return [plot, h("figcaption", {}, `${metric.label}: the mean, and a mark per seed`)];
  }

  #shares(metric: Column): Element[] {
    const { table } = this.app;
    const shares = (table.payload.study?.effects.find((found) => found.metric === metric.name)?.shares ?? []).filter((share) => share.axes.length === 1 && share.share.value !== null).slice(0, 5);
    if (shares.length === 0) return []; // of few seeds only the order is known
    const rows = shares.map((share) => ({ name: short(share.axes.map((name) => table.axis(name)?.label ?? name).join(" × "), 18), value: Math.max(0, share.share.value ?? 0) }));
    const plot = Plot.plot({
      ...frame(chart.width, rows.length * 26 + 22),
      marginLeft: 116,
      marginBottom: 8,
      x: { axis: null, domain: [0, 1] },
      y: { label: null, domain: rows.map((row) => row.name), tickSize: 0 },
      marks: [Plot.barX(rows, { x: "value", y: "name", fill: series(0), insetTop: 4, insetBottom: 4 }), Plot.text(rows, { x: "value", y: "name", text: (row: { value: number }) => percent(row.value), dx: 5, textAnchor: "start", fill: "var(--ink)" })],
    });
    label(plot, `Shares of the variance of ${metric.label}`);
    return [plot, h("figcaption", {}, `share of the variance of ${metric.label}`)];
  }

  /** One image for each level of the axis, everything else equal: where it fell below, with its value. */
  #images(word: Word): HTMLElement {
    const { app } = this;
    const axis = app.table.axis(word.axis) ?? this.#strongest(word);
    const box = h("div", { class: "finding-images" });
    if (!axis) return box;
    const names = shortAll(axis.labels, 12);
    for (const row of this.#examples(axis).slice(0, mostImages)) {
      const image = h("img", { alt: app.table.describe(row), draggable: false });
      show(image, app.thumbs.thumb(row) ?? "", "");
      const { verdict } = app;
      const fell = verdict?.metric.name === word.metric && verdict && holds(verdict, row) === false ? h("span", { class: "fell" }, number(Number(verdict.metric.values[row]), 2)) : null;
      box.append(h("button", { class: "example", title: app.table.describe(row), onclick: () => app.store.set({ panel: "grid", cursor: row }) }, h("span", { class: "frame" }, image, fell), h("span", { class: "example-name" }, names[axis.at[row] ?? 0] ?? "")));
    }
    return box;
  }

  #strongest(word: Word): Axis | null {
    const effects = this.app.table.payload.study?.effects.find((found) => found.metric === word.metric);
    return this.app.table.axis(effects?.shares.find((share) => share.axes.length === 1)?.axes[0] ?? null);
  }

  /** Rows along an axis at the other levels of the cursor, else of the weakest image. */
  #examples(axis: Axis): number[] {
    const { table, verdict, view } = this.app;
    const start = verdict?.groups[0]?.marks.flat()[0] ?? (view.cursor >= 0 ? view.cursor : 0);
    const others = table.axes.filter((other) => other !== axis && !table.follows(other, axis));
    const found: number[] = [];
    for (let row = 0; row < table.rows; row += 1) {
      if (table.status[row] === "completed" && others.every((other) => other.at[row] === other.at[start])) found.push(row);
    }
    const every = Math.max(1, Math.ceil(found.length / mostImages));
    return found.sort((a, b) => (axis.at[a] ?? 0) - (axis.at[b] ?? 0)).filter((_, at) => at % every === 0);
  }

  #folded(): HTMLElement | null {
    const folded = foldedFindings(this.app.table);
    const count = folded.reduce((sum, [, rest]) => sum + rest.length, 0);
    if (count === 0) return null;
    const details = folded.map(([kind, rest]) => h("details", {}, h("summary", {}, `${kind} ${rest.length}`), h("ul", {}, ...rest.map((word) => h("li", {}, word.text)))));
    return h("footer", {}, h("p", {}, `${count} more, folded`), ...details);
  }

  #mark(at: number): void {
    this.#at = at;
    this.#items.forEach((item, place) => item.toggleAttribute("data-current", place === at));
  }

  /** Whether a key was one of its own. */
  press(key: string): boolean {
    const step = key === "j" ? 1 : key === "k" ? -1 : 0;
    const words = mainFindings(this.app.table);
    const word = words[this.#at];
    if (step !== 0) {
      this.#mark(Math.max(0, Math.min(this.#items.length - 1, this.#at + step)));
      this.#items[this.#at]?.scrollIntoView({ block: "nearest" });
    } else if (key === "Enter" && word) this.#showInGrid(word);
    else if (key === "y" && word) copyText(word.text, this.#items[this.#at]?.querySelector<HTMLElement>(".finding-links .link:last-child") ?? this);
    return step !== 0 || key === "Enter" || key === "y";
  }

  #showInGrid(word: Word): void {
    const axis = this.app.table.axis(word.axis) ?? this.#strongest(word);
    const first = axis ? this.#examples(axis)[0] : undefined;
    this.app.store.set({ panel: "grid", ...(first === undefined ? {} : { cursor: first }), ...(this.app.table.column(word.metric) ? { metric: word.metric } : {}) });
  }
}
