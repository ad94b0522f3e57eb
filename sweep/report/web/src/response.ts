// The response curve: a metric along an axis, every image a point, brushing filters the grid.

import * as Plot from "@observablehq/plot";
import type { App } from "./app";
import { show } from "./cells";
import { series } from "./colour";
import { h, replace, svg } from "./dom";
import { number } from "./format";
import { curvesOf, type Line } from "./means";
import { domainOf, frame, label, legend, setRect, tickNames, title } from "./plots";
import type { Axis, Column } from "./table";

const mostLines = 80;
const reach = 26; // px at which the pointer finds a point

export interface Asked {
  metric: Column;
  along: Axis;
  group: Axis | null;
}

export class Response {
  readonly element = h("figure", { class: "response" });
  readonly tip: HTMLElement;
  readonly #tipImage = h("img", { alt: "" });
  readonly #tipText = h("span", {});
  #points: Point[] = [];
  #place: ((point: { x: number; y: number }) => Spot) | null = null;
  #light: SVGCircleElement | null = null;

  constructor(private readonly app: App) {
    this.tip = h("div", { class: "tip", hidden: true }, this.#tipImage, this.#tipText);
  }

  /** A sentence in place of a chart. */
  say(...text: (Node | string)[]): void {
    this.#place = null;
    replace(this.element, ...text.map((part) => (typeof part === "string" ? h("p", { class: "dim" }, part) : part)));
  }

  draw(width: number, asked: Asked): void {
    const { metric, along, group } = asked;
    const lines = curvesOf(this.app.table, this.app.chartMask, metric, along, group);
    const before = this.#before(asked);
    this.#points = pointsOf(this.app, metric, along, group);
    if (this.#points.length === 0) return this.say(title(metric.label, metric.summary), "No image shown has this metric.");
    const single = new Set(this.#points.map((point) => point.line)).size <= mostLines;
    const halves = this.#halves(asked);
    const names = along.numeric ? [] : tickNames(along.labels, width - 34);
    const ticks = along.numeric ? {} : { ticks: along.levels.map((_, at) => at), tickFormat: (at: number) => names[at] ?? "" };
    const plot = Plot.plot({
      ...frame(width, 300),
      x: { label: `${along.label} →`, domain: domainOf(along), ...ticks },
      y: { label: null, grid: true, nice: true, ticks: 6 },
      marks: [...this.#marks(lines, single), ...before.map((line) => Plot.line(line.at, { x: "x", y: "mean", stroke: series(line.group), strokeWidth: 1.8, strokeDasharray: "6 4" })), ...halves],
    }) as SVGSVGElement & Plot.Plot;
    label(plot, `${metric.label} along ${along.label}${group ? `, a line for each ${group.label}` : ""}`);
    const runs = this.app.table.payload.runs;
    const dashes = before.length > 0 && runs ? `Dashed: ${runs.other}; solid: ${runs.shown}. ` : "";
    const caption = h("figcaption", {}, dashes + captionOf(lines, single, this.#points.length, halves.length));
    const [x, y] = [plot.scale("x"), plot.scale("y")];
    const strip = x ? filmstrip(this.app, metric, along, { place: (level) => Number(x.apply(level)), width }) : null;
    replace(this.element, title(metric.label, metric.summary), legend(group), plot, strip, caption);
    if (x && y) this.#listen(plot, x, y);
    this.lightUp();
  }

  /** The curves of the other run, where two are compared: what changed, taken away again. */
  #before({ metric, along, group }: Asked): Line[] {
    const { table, chartMask } = this.app;
    const change = table.others ? table.column(`change_${metric.name}`) : null;
    if (!change) return [];
    const values = metric.values.map((value, row) => (typeof value === "number" && typeof change.values[row] === "number" ? value - Number(change.values[row]) : null));
    return curvesOf(table, chartMask, { ...metric, values }, along, group);
  }

  #marks(lines: Line[], single: boolean): Plot.Markish[] {
    const points = this.#points;
    const colour = (point: Point): string => series(point.group);
    const marks: Plot.Markish[] = lines.map((line) => Plot.areaY(line.at.filter((level) => level.low !== null), { x: "x", y1: "low", y2: "high", fill: series(line.group), fillOpacity: 0.16 }));
    if (single) marks.push(Plot.line(points, { x: "x", y: "y", z: "line", stroke: colour, strokeOpacity: 0.22, strokeWidth: 0.8 }));
    const opacity = (point: Point): number => (this.app.mask[point.row] ? 0.7 : 0.12);
    marks.push(Plot.dot(points, { x: "x", y: "y", fill: colour, r: points.length > 300 ? 1.6 : 2.2, fillOpacity: opacity }));
    return [...marks, ...lines.map((line) => Plot.line(line.at, { x: "x", y: "mean", stroke: series(line.group), strokeWidth: 2.2 }))];
  }

  /** The strength at half of the range, as the study found it. */
  #halves({ metric, along, group }: Asked): Plot.Markish[] {
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

  #listen(plot: SVGSVGElement, x: Plot.Scale, y: Plot.Scale): void {
    this.#place = (point) => [Number(x.apply(point.x)), Number(y.apply(point.y))];
    brushOver(plot, this.#kept(), {
      hovered: (spot, event) => this.#hoverNear(spot, event),
      left: () => {
        this.tip.hidden = true;
        this.app.setHover(-1);
      },
      brushed: (from, to, both) => this.#brush([from, to].map(([left, top]) => [Number(x.invert?.(left)), Number(y.invert?.(top))]) as [Spot, Spot], both),
      clicked: () => (this.app.hover >= 0 ? this.app.goTo(this.app.hover) : this.#letGo()),
    });
    this.#light = svg("circle", { r: "6", class: "light" }) as SVGCircleElement;
    plot.append(this.#light);
  }

  /** The corners of the brush that is in force, null where none is. */
  #kept(): [Spot, Spot] | null {
    const { view } = this.app;
    const [x, y] = [view.brush[view.along ?? ""], view.brush[view.metric ?? ""]];
    if (!x || !this.#place) return null;
    const [from, to] = [this.#place({ x: x[0], y: y?.[0] ?? 0 }), this.#place({ x: x[1], y: y?.[1] ?? 0 })];
    return y ? [from, to] : [[from[0], 0], [to[0], 300]];
  }

  /** Along the axis alone; with Shift in the metric, too. */
  #brush([a, b]: [Spot, Spot], both: boolean): void {
    const { view, store } = this.app;
    if (!view.along || !view.metric) return;
    const range = (p: number, q: number): [number, number] => [Math.min(p, q), Math.max(p, q)];
    const { [view.metric]: _former, ...others } = view.brush;
    store.set({ brush: { ...others, [view.along]: range(a[0], b[0]), ...(both ? { [view.metric]: range(a[1], b[1]) } : {}) } });
  }

  #letGo(): void {
    const { view, store } = this.app;
    store.set({ brush: Object.fromEntries(Object.entries(view.brush).filter(([name]) => name !== view.along && name !== view.metric)) });
  }

  #hoverNear([x, y]: Spot, event: PointerEvent): void {
    let best: Point | null = null;
    let nearest = reach;
    for (const point of this.#points) {
      const [px, py] = this.#place?.(point) ?? [0, 0];
      const distance = Math.hypot(px - x, py - y);
      if (distance < nearest) [best, nearest] = [point, distance];
    }
    this.app.setHover(best?.row ?? -1);
    this.tip.hidden = best === null;
    if (best) this.#showTip(best, event);
  }

  #showTip(point: Point, event: PointerEvent): void {
    show(this.#tipImage, this.app.image(point.row)?.thumb ?? "", "");
    this.#tipText.textContent = `${this.app.table.describe(point.row)}\n${number(point.y, 4)}`;
    const left = Math.min(event.clientX + 14, window.innerWidth - 190);
    const top = event.clientY + 230 > window.innerHeight ? event.clientY - 226 : event.clientY + 14;
    this.tip.style.left = `${left}px`;
    this.tip.style.top = `${Math.max(4, top)}px`;
  }

  /** Rings the point of the cell under the pointer, or of the cursor. */
  lightUp(): void {
    if (!this.#light) return;
    const point = this.#pointOf(this.app.hover >= 0 ? this.app.hover : this.app.view.cursor);
    const [x, y] = (point && this.#place?.(point)) ?? [Number.NaN, Number.NaN];
    const known = Number.isFinite(x) && Number.isFinite(y);
    this.#light.style.display = known ? "" : "none";
    if (!known) return;
    this.#light.setAttribute("cx", String(x));
    this.#light.setAttribute("cy", String(y));
  }

  #pointOf(row: number): { x: number; y: number } | null {
    const { table, view } = this.app;
    const [metric, along] = [table.column(view.metric), table.axis(view.along)];
    const y = metric?.values[row];
    return along && typeof y === "number" ? { x: placeOf(along, row), y } : null;
  }
}

function captionOf(lines: Line[], single: boolean, points: number, halves: number): string {
  return [
    lines.some((line) => line.seeds > 2) ? "Line: mean over seeds. Band: 95 % t interval over seed means." : "Line: mean. A band needs three seeds.",
    single ? "Thin lines: single seeds." : "",
    points === mostPoints ? "Dots: a sample of the images." : "",
    halves > 0 ? "Dashed: where half of the range is passed." : "",
    "Drag across to filter the grid (Shift: also by value); click to clear.",
  ].filter(Boolean).join(" ");
}

const least = 34; // px an image
const gap = 2;

export interface Span {
  place: (level: number) => number; // px from the left of the chart
  width: number; // of the chart, px
}

/** A line of images under a chart; null where they would be too small or there is none. */
export function filmstrip(app: App, metric: Column, along: Axis, { place, width }: Span): HTMLElement | null {
  const rows = medians(app, metric, along);
  const apart = rows.length > 1 ? (place(placeOf(along, rows.at(-1) ?? 0)) - place(placeOf(along, rows[0] ?? 0))) / (rows.length - 1) : 0;
  const every = Math.max(1, Math.ceil((least + gap) / Math.max(1, apart)));
  const side = Math.min(84, apart * every - gap);
  if (rows.length < 2 || side < least) return null;
  const strip = h("div", { class: "strip", title: "At each level, the image with the median value of those shown" });
  strip.style.height = `${side}px`;
  rows.forEach((row, at) => {
    const thumb = at % every === 0 ? app.thumbs.thumb(row) : null;
    if (thumb === null) return;
    const image = h("img", { alt: app.table.describe(row), draggable: false });
    image.style.width = image.style.height = `${side}px`;
    image.style.left = `${Math.min(width - side, Math.max(0, place(placeOf(along, row)) - side / 2))}px`;
    show(image, thumb, "");
    image.addEventListener("click", () => app.goTo(row));
    image.addEventListener("pointerenter", () => app.setHover(row));
    image.addEventListener("pointerleave", () => app.setHover(-1));
    strip.append(image);
  });
  return strip;
}

/** At every level the row in the middle of those in sight that have an image, in the order of the levels. */
function medians({ table, chartMask, thumbs }: App, metric: Column, along: Axis): number[] {
  const byLevel: number[][] = along.levels.map(() => []);
  for (let row = 0; row < table.rows; row += 1) {
    if (chartMask[row] && typeof metric.values[row] === "number" && thumbs.thumb(row) !== null) byLevel[along.at[row] ?? -1]?.push(row);
  }
  const worth = (row: number): number => Number(metric.values[row]);
  return byLevel.filter((rows) => rows.length > 0).map((rows) => rows.sort((a, b) => worth(a) - worth(b) || a - b)[(rows.length - 1) >> 1] as number);
}

export const mostPoints = 600;

export interface Point {
  row: number;
  x: number;
  y: number;
  group: number;
  line: string;
}

/** Where a level stands along an axis: its number, or its place among words. */
export function placeOf(axis: Axis, row: number): number {
  const at = axis.at[row] ?? 0;
  return axis.numeric ? Number(axis.levels[at]) : at;
}

/** The rows in sight as points, an even sample of them where they are many. */
export function pointsOf(app: App, metric: Column, along: Axis, group: Axis | null): Point[] {
  const { table, chartMask: mask } = app;
  const others = table.axes.filter((axis) => axis !== along);
  const rows: number[] = [];
  for (let row = 0; row < table.rows; row += 1) if (mask[row] && typeof metric.values[row] === "number") rows.push(row);
  const count = Math.min(rows.length, mostPoints);
  const points: Point[] = [];
  for (let drawn = 0; drawn < count; drawn += 1) {
    const row = rows[Math.floor((drawn * rows.length) / count)] ?? 0;
    points.push({ row, x: placeOf(along, row), y: Number(metric.values[row]), group: group?.at[row] ?? 0, line: others.map((axis) => axis.at[row]).join(",") });
  }
  return points.sort((a, b) => a.x - b.x);
}

export type Spot = [x: number, y: number];

export interface Heard {
  hovered: (spot: Spot, event: PointerEvent) => void;
  left: () => void;
  brushed: (from: Spot, to: Spot, both: boolean) => void;
  clicked: () => void;
}

/** Listens on a chart; `kept` are the corners of the brush in force. Spots are in the chart's own coordinates. */
export function brushOver(plot: SVGSVGElement, kept: [Spot, Spot] | null, heard: Heard): void {
  const brush = svg("rect", { class: "brush" }) as SVGRectElement;
  plot.append(brush);
  if (kept) setRect(brush, ...kept);
  let from: Spot | null = null;
  const spot = (event: PointerEvent): Spot => {
    const box = plot.getBoundingClientRect();
    const { width, height } = plot.viewBox.baseVal;
    return [((event.clientX - box.left) * width) / box.width, ((event.clientY - box.top) * height) / box.height];
  };
  const corners = (a: Spot, b: Spot, both: boolean): [Spot, Spot] => (both ? [a, b] : [[a[0], 0], [b[0], plot.viewBox.baseVal.height]]);
  plot.addEventListener("pointerdown", (event) => {
    from = spot(event);
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointermove", (event) => {
    if (from) setRect(brush, ...corners(from, spot(event), event.shiftKey));
    else heard.hovered(spot(event), event);
  });
  plot.addEventListener("pointerup", (event) => {
    const to = spot(event);
    const far = from && (event.shiftKey ? Math.hypot(to[0] - from[0], to[1] - from[1]) : Math.abs(to[0] - from[0])) > 6;
    if (from && far) heard.brushed(...corners(from, to, event.shiftKey), event.shiftKey);
    else heard.clicked();
    from = null;
  });
  plot.addEventListener("pointerleave", heard.left);
}
