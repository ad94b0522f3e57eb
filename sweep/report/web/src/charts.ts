// Charts beside the grid. They and the grid are one instrument: a brush filters it, a point under the cursor is shown.

import * as Plot from "@observablehq/plot";
import type { App } from "./app";
import { Parallel } from "./parallel";
import { h, oncePerFrame, replace, select } from "./dom";
import { number, percent } from "./format";
import { curvesOf, meansOf, sharesOf } from "./means";
import { series } from "./colour";
import { show } from "./cells";
import type { View } from "./state";
import type { Axis, Column } from "./table";

const mostPoints = 600;
const mostLines = 80;

interface Point {
  row: number;
  x: number;
  y: number;
  group: number;
  line: string;
}

export class SweepCharts extends HTMLElement {
  app!: App;
  #controls!: HTMLElement;
  #response!: HTMLElement;
  #interaction!: HTMLElement;
  #shares!: HTMLElement;
  #parallel!: Parallel;
  #tip!: HTMLElement;
  #tipImage!: HTMLImageElement;
  #tipText!: HTMLElement;
  #points: Point[] = [];
  #place: ((point: Point) => [number, number]) | null = null;
  #light: SVGCircleElement | null = null;
  #width = 0;
  readonly #later = oncePerFrame(() => this.#draw());

  connectedCallback(): void {
    this.#controls = h("div", { class: "controls" });
    this.#response = h("figure", { class: "response" });
    this.#interaction = h("figure", { class: "interaction" });
    this.#shares = h("figure", { class: "shares" });
    this.#tipImage = h("img", { alt: "" });
    this.#tipText = h("span", {});
    this.#tip = h("div", { class: "tip", hidden: true }, this.#tipImage, this.#tipText);
    this.#parallel = new Parallel(this.app);
    this.replaceChildren(this.#controls, this.#response, this.#interaction, this.#shares, this.#parallel.element, this.#tip);
    new ResizeObserver(() => {
      if (Math.abs(this.#inside() - this.#width) > 4) this.#later();
    }).observe(this);
    this.app.store.listen((changed) => this.#follow(changed));
    this.app.onHover(() => this.#lightUp());
    this.#later();
  }

  #follow(changed: Set<keyof View>): void {
    if (this.app.view.panel !== "charts") return;
    const shape = ["metric", "along", "group", "filter", "brush", "hidden", "panel", "blind"] as const;
    if (shape.some((name) => changed.has(name))) this.#later();
    else if (changed.has("cursor")) this.#lightUp();
  }

  #draw(): void {
    const { app } = this;
    if (app.view.panel !== "charts" || this.clientWidth === 0) return;
    this.#width = this.#inside();
    const metric = app.table.column(app.view.metric);
    this.#paintControls();
    if (!metric || app.view.blind) {
      const why = app.view.blind ? "Charts are hidden in blind mode (b leaves it)." : "There are no metrics yet: sweep study measures the pictures and draws their response here.";
      for (const figure of [this.#interaction, this.#shares]) replace(figure);
      replace(this.#response, h("p", { class: "dim" }, why));
      this.#parallel.draw(app.view.blind ? 0 : this.#width);
      return;
    }
    const along = app.table.axis(app.view.along);
    const group = app.table.axis(app.view.group);
    this.#drawResponse(metric, along, group === along ? null : group);
    this.#drawInteraction(metric, along, group === along ? null : group);
    this.#drawShares();
    this.#parallel.draw(this.#width);
  }

  #inside(): number {
    const style = getComputedStyle(this);
    return Math.floor(this.clientWidth - Number.parseFloat(style.paddingLeft) - Number.parseFloat(style.paddingRight));
  }

  #paintControls(): void {
    const { view, store, table } = this.app;
    const axes: [string, string][] = table.axes.filter((axis) => axis.levels.length > 1).map((axis) => [axis.name, axis.label]);
    const metrics: [string, string][] = table.metrics.map((column) => [column.name, column.label]);
    this.#controls.hidden = metrics.length === 0;
    const focused = document.activeElement?.getAttribute("aria-label");
    const had = this.#controls.contains(document.activeElement);
    replace(
      this.#controls,
      h("label", {}, h("span", {}, "metric"), select("Metric", metrics, view.metric ?? "", (metric) => store.set({ metric }))),
      h("label", {}, h("span", {}, "along"), select("Along", axes, view.along ?? "", (along) => store.set({ along }))),
      h("label", {}, h("span", {}, "lines"), select("Lines", [["", "all together"], ...axes], view.group ?? "", (group) => store.set({ group: group || null }))),
    );
    if (had && focused) this.#controls.querySelector<HTMLElement>(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
  }

  #drawResponse(metric: Column, along: Axis | null, group: Axis | null): void {
    if (!along) return replace(this.#response, h("p", { class: "dim" }, "One point has no curve: sweep an axis to see a response."));
    const lines = curvesOf(this.app.table, this.app.chartMask, metric, along, group);
    this.#points = pointsOf(this.app, metric, along, group);
    if (this.#points.length === 0) return replace(this.#response, title(metric.label, metric.summary), h("p", { class: "dim" }, "No picture in sight has this metric."));
    const seeded = lines.some((line) => line.seeds > 1);
    const marks: Plot.Markish[] = [];
    for (const line of lines) marks.push(Plot.areaY(line.at.filter((level) => level.low !== null), { x: "x", y1: "low", y2: "high", fill: series(line.group), fillOpacity: 0.16 }));
    const single = new Set(this.#points.map((point) => point.line)).size;
    if (single <= mostLines) marks.push(Plot.line(this.#points, { x: "x", y: "y", z: "line", stroke: (point: Point) => series(point.group), strokeOpacity: 0.22, strokeWidth: 0.8 }));
    marks.push(Plot.dot(this.#points, { x: "x", y: "y", fill: (point: Point) => series(point.group), r: this.#points.length > 300 ? 1.6 : 2.2, fillOpacity: (point: Point) => (this.app.mask[point.row] ? 0.7 : 0.12) }));
    for (const line of lines) marks.push(Plot.line(line.at, { x: "x", y: "mean", stroke: series(line.group), strokeWidth: 2.2 }));
    marks.push(...this.#halves(metric, along, group));
    const ticks = along.numeric ? {} : { ticks: along.levels.map((_, at) => at), tickFormat: (at: number) => short(along.labels[at] ?? "", 14) };
    const plot = Plot.plot({
      ...frame(this.#width, 300),
      x: { label: `${along.label} →`, domain: domainOf(along), ...ticks },
      y: { label: null, grid: true, nice: true, ticks: 6 },
      marks,
    }) as SVGSVGElement & Plot.Plot;
    const interval = seeded ? "Line: mean over seeds. Band: 95 % t interval over seed means. " : "Line: mean; one seed has no interval. ";
    const sample = this.#points.length === mostPoints ? "Dots: a sample of the pictures." : "";
    const dashed = this.#halves(metric, along, group).length > 0 ? " Dashed: half of the range, from the study." : "";
    replace(this.#response, title(metric.label, metric.summary), legend(group), plot, h("figcaption", {}, `${interval}${single <= mostLines ? "Thin: single seeds. " : ""}${sample}${dashed} Drag over the chart to filter the grid, click to let go.`));
    this.#listen(plot);
    this.#lightUp();
  }

  /** The strength at half of the range, as the study found it. */
  #halves(metric: Column, along: Axis, group: Axis | null): Plot.Markish[] {
    const found: Plot.Markish[] = [];
    for (const curve of this.app.table.payload.study?.curves ?? []) {
      if (curve.metric !== metric.name || curve.axis !== along.name || curve.half.value === null) continue;
      const keys = Object.keys(curve.group);
      const fits = group ? keys.length === 1 && keys[0] === group.name : keys.length === 0;
      if (!fits || !along.numeric) continue;
      const at = group ? group.levels.indexOf(curve.group[group.name] ?? null) : 0;
      found.push(Plot.ruleX([curve.half.value], { stroke: series(Math.max(0, at)), strokeDasharray: "3 3", strokeOpacity: 0.9 }));
    }
    return found;
  }

  #drawInteraction(metric: Column, along: Axis | null, group: Axis | null): void {
    const { app } = this;
    const others = app.table.axes.filter((axis) => axis.levels.length > 1 && axis.levels.length <= 12 && axis !== along);
    const across = group && others.includes(group) ? group : others[0];
    if (!along || !across || along.levels.length > 24) return replace(this.#interaction);
    const means = meansOf(app.table, app.chartMask, metric, across, along);
    const plot = Plot.plot({
      ...frame(this.#width, 210),
      marginBottom: 34,
      x: { label: null, type: "point", domain: across.levels.map((_, at) => at), tickFormat: (at: number) => short(across.labels[at] ?? "", Math.floor(this.#width / across.levels.length / 7)), padding: 0.3 },
      y: { label: null, grid: true, nice: true, ticks: 5 },
      color: { type: "linear", range: ["#365c8d", "#4ac16d"] },
      marks: [
        Plot.line(means, { x: "x", y: "mean", z: "z", stroke: (cell: { z: number }) => shade(cell.z, along.levels.length), strokeWidth: 1.6 }),
        Plot.dot(means, { x: "x", y: "mean", fill: (cell: { z: number }) => shade(cell.z, along.levels.length), r: 2.4 }),
        Plot.text(apart(means.filter((cell) => cell.x === across.levels.length - 1), means), { x: "x", y: "mean", text: (cell: { z: number }) => along.labels[cell.z] ?? "", dx: 8, textAnchor: "start", fill: "var(--dim)" }),
      ],
    });
    replace(this.#interaction, title(`Interaction of ${across.label} and ${along.label}`, `Mean of ${metric.label}. Parallel lines: the two act independently.`), plot);
  }

  #drawShares(): void {
    const { table, chartMask } = this.app;
    const shares = sharesOf(table, chartMask);
    if (shares.entries.length === 0) return replace(this.#shares);
    const terms = [...new Set(shares.entries.map((entry) => entry.term))];
    const metrics = [...new Set(shares.entries.map((entry) => entry.metric))];
    const plot = Plot.plot({
      ...frame(this.#width, metrics.length * 20 + 34),
      marginLeft: Math.min(150, this.#width * 0.36),
      marginRight: 14,
      x: { label: null, domain: [0, 1], tickFormat: (share: number) => `${Math.round(share * 100)} %`, ticks: 4, grid: true },
      y: { label: null, domain: metrics, tickSize: 0 },
      marks: [
        Plot.barX(shares.entries, { x: "share", y: "metric", fill: (entry: { term: string }) => (entry.term === "rest" ? "var(--line)" : series(terms.indexOf(entry.term))), insetTop: 3, insetBottom: 3, order: terms, title: (entry: { term: string; metric: string; share: number }) => `${entry.metric}: ${entry.term} ${percent(entry.share)}` }),
      ],
    });
    const keys = h("div", { class: "keys" }, ...terms.map((term, at) => swatch(term, term === "rest" ? "var(--line)" : series(at))));
    replace(this.#shares, title("Which axis explains the variance", shares.note), keys, plot);
  }

  #listen(plot: SVGSVGElement & Plot.Plot): void {
    const [scaleX, scaleY] = [plot.scale("x"), plot.scale("y")];
    if (!scaleX || !scaleY) return;
    this.#place = (point) => [Number(scaleX.apply(point.x)), Number(scaleY.apply(point.y))];
    this.#light = svg("circle", { r: "6", class: "light" }) as SVGCircleElement;
    const brush = svg("rect", { class: "brush" }) as SVGRectElement;
    plot.append(brush, this.#light);
    const kept = this.#kept(scaleX, scaleY);
    if (kept) setRect(brush, ...kept);
    let from: [number, number] | null = null;
    const at = (event: PointerEvent): [number, number] => {
      const box = plot.getBoundingClientRect();
      return [((event.clientX - box.left) * plot.viewBox.baseVal.width) / box.width, ((event.clientY - box.top) * plot.viewBox.baseVal.height) / box.height];
    };
    plot.addEventListener("pointerdown", (event) => {
      from = at(event);
      plot.setPointerCapture(event.pointerId);
    });
    plot.addEventListener("pointermove", (event) => {
      const now = at(event);
      if (!from) return this.#hoverNear(now, event);
      setRect(brush, from, now);
    });
    plot.addEventListener("pointerup", (event) => {
      const now = at(event);
      if (from && Math.hypot(now[0] - from[0], now[1] - from[1]) > 6) this.#brush(from, now, (x) => Number(scaleX.invert?.(x)), (y) => Number(scaleY.invert?.(y)));
      else if (this.app.hover >= 0) this.app.goTo(this.app.hover);
      else this.#letGo();
      from = null;
    });
    plot.addEventListener("pointerleave", () => {
      this.#tip.hidden = true;
      this.app.setHover(-1);
    });
  }

  /** The corners of the brush that is in force, null where none is. */
  #kept(scaleX: Plot.Scale, scaleY: Plot.Scale): [[number, number], [number, number]] | null {
    const { view } = this.app;
    const [x, y] = [view.brush[view.along ?? ""], view.brush[view.metric ?? ""]];
    if (!x || !y) return null;
    return [
      [Number(scaleX.apply(x[0])), Number(scaleY.apply(y[0]))],
      [Number(scaleX.apply(x[1])), Number(scaleY.apply(y[1]))],
    ];
  }

  #brush(a: [number, number], b: [number, number], x: (at: number) => number, y: (at: number) => number): void {
    const { view, store } = this.app;
    if (!view.along || !view.metric) return;
    const range = (p: number, q: number): [number, number] => [Math.min(p, q), Math.max(p, q)];
    store.set({ brush: { ...view.brush, [view.along]: range(x(a[0]), x(b[0])), [view.metric]: range(y(a[1]), y(b[1])) } });
  }

  #letGo(): void {
    const { view, store } = this.app;
    store.set({ brush: Object.fromEntries(Object.entries(view.brush).filter(([name]) => name !== view.along && name !== view.metric)) });
  }

  #hoverNear([x, y]: [number, number], event: PointerEvent): void {
    let best: Point | null = null;
    let nearest = 26;
    for (const point of this.#points) {
      const [px, py] = this.#place?.(point) ?? [0, 0];
      const distance = Math.hypot(px - x, py - y);
      if (distance < nearest) [best, nearest] = [point, distance];
    }
    this.app.setHover(best?.row ?? -1);
    this.#tip.hidden = best === null;
    if (!best) return;
    const picture = this.app.picture(best.row);
    show(this.#tipImage, picture?.thumb ?? "", "");
    this.#tipText.textContent = `${this.app.table.describe(best.row)}\n${number(best.y, 4)}`;
    const left = Math.min(event.clientX + 14, window.innerWidth - 190);
    const top = event.clientY + 230 > window.innerHeight ? event.clientY - 226 : event.clientY + 14;
    this.#tip.style.left = `${left}px`;
    this.#tip.style.top = `${Math.max(4, top)}px`;
  }

  #lightUp(): void {
    if (!this.#light || this.app.view.panel !== "charts") return;
    const row = this.app.hover >= 0 ? this.app.hover : this.app.view.cursor;
    const point = this.#pointOf(row);
    const [x, y] = (point && this.#place?.(point)) ?? [Number.NaN, Number.NaN];
    const known = Number.isFinite(x) && Number.isFinite(y);
    this.#light.style.display = known ? "" : "none";
    if (!known) return;
    this.#light.setAttribute("cx", String(x));
    this.#light.setAttribute("cy", String(y));
  }

  #pointOf(row: number): Point | null {
    const { table, view } = this.app;
    const [metric, along] = [table.column(view.metric), table.axis(view.along)];
    const y = metric?.values[row];
    if (!along || typeof y !== "number") return null;
    const at = along.at[row] ?? 0;
    return { row, x: along.numeric ? Number(along.levels[at]) : at, y, group: 0, line: "" };
  }
}

/** The rows in sight as points, an even sample of them where they are many. */
function pointsOf(app: App, metric: Column, along: Axis, group: Axis | null): Point[] {
  const { table, chartMask: mask } = app;
  const others = table.axes.filter((axis) => axis !== along);
  const rows: number[] = [];
  for (let row = 0; row < table.rows; row += 1) if (mask[row] && typeof metric.values[row] === "number") rows.push(row);
  const count = Math.min(rows.length, mostPoints);
  const points: Point[] = [];
  for (let drawn = 0; drawn < count; drawn += 1) {
    const row = rows[Math.floor((drawn * rows.length) / count)] ?? 0;
    const at = along.at[row] ?? 0;
    const x = along.numeric ? Number(along.levels[at]) : at;
    points.push({ row, x, y: Number(metric.values[row]), group: group?.at[row] ?? 0, line: others.map((axis) => axis.at[row]).join(",") });
  }
  return points.sort((a, b) => a.x - b.x);
}

/** Those of `cells` whose labels do not run into each other. */
function apart<C extends { mean: number }>(cells: C[], all: C[]): C[] {
  const values = all.map((cell) => cell.mean);
  const least = (Math.max(...values) - Math.min(...values)) * 0.06;
  const kept: C[] = [];
  for (const cell of [...cells].sort((a, b) => a.mean - b.mean)) {
    const last = kept.at(-1);
    if (!last || cell.mean - last.mean >= least) kept.push(cell);
  }
  return kept;
}

function domainOf(axis: Axis): [number, number] {
  if (!axis.numeric) return [-0.3, axis.levels.length - 0.7];
  const levels = axis.levels.map(Number);
  return [Math.min(...levels), Math.max(...levels)];
}

function frame(width: number, height: number): Plot.PlotOptions {
  return { width, height, marginLeft: 44, marginRight: 34, marginTop: 12, marginBottom: 36, className: "plot", style: { fontSize: "11px", background: "none", overflow: "visible" } };
}

function title(text: string, under: string): HTMLElement {
  return h("div", { class: "title" }, h("h3", {}, text), under ? h("p", {}, under) : null);
}

function legend(group: Axis | null): HTMLElement | null {
  return group ? h("div", { class: "keys" }, ...group.labels.slice(0, 16).map((label, at) => swatch(label, series(at)))) : null;
}

function swatch(label: string, colour: string): HTMLElement {
  const mark = h("i", {});
  mark.style.background = colour;
  return h("span", { title: label }, mark, short(label, 40));
}

function shade(at: number, of: number): string {
  return `color-mix(in oklab, var(--series-2) ${Math.round((at / Math.max(1, of - 1)) * 100)}%, var(--series-1))`;
}

function short(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, Math.max(1, most - 1))}…` : text;
}

function svg(tag: string, attributes: Record<string, string>): SVGElement {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function setRect(rect: SVGRectElement, a: [number, number], b: [number, number]): void {
  rect.setAttribute("x", String(Math.min(a[0], b[0])));
  rect.setAttribute("y", String(Math.min(a[1], b[1])));
  rect.setAttribute("width", String(Math.abs(a[0] - b[0])));
  rect.setAttribute("height", String(Math.abs(a[1] - b[1])));
}

