// Parallel coordinates on a canvas: one line an image; dragging along an axis filters, a click takes the brush away.

import type { App } from "./app";
import { ramp } from "./colour";
import { h } from "./dom";
import { number } from "./format";

interface Coordinate {
  name: string;
  label: string;
  low: number;
  high: number;
  lowText: string;
  highText: string;
  value: (row: number) => number;
}

const mostLines = 3000;
const top = 30;
const bottom = 18;
const height = 250;

export class Parallel {
  readonly element = h("figure", { class: "parallel" });
  readonly #canvas = h("canvas", { role: "img", "aria-label": "Parallel coordinates: one line per image" });
  #coordinates: Coordinate[] = [];
  #width = 0;
  #drag: { at: number; from: number; to: number } | null = null;

  constructor(private readonly app: App) {
    this.#canvas.addEventListener("pointerdown", (event) => this.#down(event));
    this.#canvas.addEventListener("pointermove", (event) => this.#move(event));
    this.#canvas.addEventListener("pointerup", () => this.#up());
    app.onHover(() => {
      if (app.view.panel === "charts" && this.#width > 0 && app.table.rows <= mostLines) this.#paint();
    });
  }

  draw(width: number): void {
    this.#width = width;
    this.#coordinates = width > 0 ? coordinates(this.app, Math.max(3, Math.floor(width / 74))) : [];
    this.element.hidden = this.#coordinates.length < 2;
    if (this.element.hidden) return;
    if (!this.#canvas.isConnected) {
      this.element.replaceChildren(h("div", { class: "title" }, h("h3", {}, "All at once"), h("p", {}, "One line per image. Drag along an axis to filter the grid; click it to clear.")), this.#canvas);
    }
    const density = devicePixelRatio || 1;
    this.#canvas.width = width * density;
    this.#canvas.height = height * density;
    this.#canvas.style.width = `${width}px`;
    this.#canvas.style.height = `${height}px`;
    this.#paint();
  }

  #x(at: number): number {
    return 36 + (at * (this.#width - 72)) / Math.max(1, this.#coordinates.length - 1);
  }

  #y(coordinate: Coordinate, value: number): number {
    const span = coordinate.high - coordinate.low || 1;
    return height - bottom - ((value - coordinate.low) / span) * (height - top - bottom);
  }

  #paint(): void {
    const context = this.#canvas.getContext("2d");
    if (!context) return;
    const density = devicePixelRatio || 1;
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, this.#width, height);
    const theme = getComputedStyle(this.element);
    this.#paintLines(context, theme.getPropertyValue("--dim"));
    this.#paintAxes(context, theme);
  }

  #paintLines(context: CanvasRenderingContext2D, dim: string): void {
    const { table, mask, view, hover } = this.app;
    const every = Math.max(1, Math.ceil(table.rows / mostLines));
    const by = this.#coordinates.find((coordinate) => coordinate.name === view.metric) ?? this.#coordinates.at(-1);
    const passing: number[] = [];
    context.lineWidth = 1;
    context.strokeStyle = dim;
    context.globalAlpha = 0.09;
    for (let row = 0; row < table.rows; row += every) {
      if (mask[row]) passing.push(row);
      else this.#line(context, row);
    }
    context.globalAlpha = Math.max(0.12, Math.min(0.6, 60 / Math.max(1, passing.length)));
    for (const row of passing) {
      context.strokeStyle = by ? ramp((by.value(row) - by.low) / (by.high - by.low || 1)) : dim;
      this.#line(context, row);
    }
    context.globalAlpha = 1;
    const lit = hover >= 0 ? hover : view.cursor;
    if (lit < 0) return;
    context.lineWidth = 2.5;
    context.strokeStyle = getComputedStyle(this.element).getPropertyValue("--accent");
    this.#line(context, lit);
  }

  #line(context: CanvasRenderingContext2D, row: number): void {
    context.beginPath();
    let open = false;
    this.#coordinates.forEach((coordinate, at) => {
      const value = coordinate.value(row);
      if (Number.isNaN(value)) open = false;
      else if (open) context.lineTo(this.#x(at), this.#y(coordinate, value));
      else context.moveTo(this.#x(at), this.#y(coordinate, value));
      if (!Number.isNaN(value)) open = true;
    });
    context.stroke();
  }

  #paintAxes(context: CanvasRenderingContext2D, theme: CSSStyleDeclaration): void {
    context.font = `11px ${theme.fontFamily}`;
    context.textAlign = "center";
    this.#coordinates.forEach((coordinate, at) => {
      const x = this.#x(at);
      context.strokeStyle = theme.getPropertyValue("--dim");
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(x, top);
      context.lineTo(x, height - bottom);
      context.stroke();
      context.fillStyle = theme.getPropertyValue("--ink");
      this.#write(context, coordinate.label, at, 10);
      context.fillStyle = theme.getPropertyValue("--dim");
      this.#write(context, coordinate.highText, at, 24);
      this.#write(context, coordinate.lowText, at, height - 4);
      this.#paintBrush(context, coordinate, at, theme.getPropertyValue("--accent"));
    });
  }

  /** Writes a text over the middle of an axis; at the edges it stays on the canvas. */
  #write(context: CanvasRenderingContext2D, text: string, at: number, y: number): void {
    const room = Math.max(66, this.#x(1) - this.#x(0) - 8);
    const isOuter = at === 0 || at === this.#coordinates.length - 1;
    const fitting = fit(context, text, isOuter ? this.#x(0) + room / 2 : room);
    const half = context.measureText(fitting).width / 2;
    context.fillText(fitting, Math.min(this.#width - half, Math.max(half, this.#x(at))), y);
  }

  #paintBrush(context: CanvasRenderingContext2D, coordinate: Coordinate, at: number, accent: string): void {
    const range = this.#drag?.at === at ? ([this.#drag.from, this.#drag.to] as const) : this.app.view.brush[coordinate.name];
    if (!range) return;
    const ends = range.map((end) => Math.min(height - bottom + 3, Math.max(top - 3, this.#y(coordinate, end))));
    context.fillStyle = accent;
    context.globalAlpha = 0.35;
    context.fillRect(this.#x(at) - 6, Math.min(...ends), 12, Math.max(4, Math.abs((ends[0] ?? 0) - (ends[1] ?? 0))));
    context.globalAlpha = 1;
  }

  #valueAt(event: PointerEvent, at: number): number {
    const coordinate = this.#coordinates[at];
    if (!coordinate) return 0;
    const y = event.clientY - this.#canvas.getBoundingClientRect().top;
    return coordinate.low + ((height - bottom - y) / (height - top - bottom)) * (coordinate.high - coordinate.low || 1);
  }

  #down(event: PointerEvent): void {
    const x = event.clientX - this.#canvas.getBoundingClientRect().left;
    const at = this.#coordinates.findIndex((_, place) => Math.abs(this.#x(place) - x) < 18);
    if (at < 0) return;
    const value = this.#valueAt(event, at);
    this.#drag = { at, from: value, to: value };
    this.#canvas.setPointerCapture(event.pointerId);
  }

  #move(event: PointerEvent): void {
    if (!this.#drag) return;
    this.#drag.to = this.#valueAt(event, this.#drag.at);
    this.#paint();
  }

  #up(): void {
    const drag = this.#drag;
    this.#drag = null;
    const coordinate = drag ? this.#coordinates[drag.at] : undefined;
    if (!drag || !coordinate) return;
    const { view, store } = this.app;
    const others = Object.fromEntries(Object.entries(view.brush).filter(([name]) => name !== coordinate.name));
    const enough = Math.abs(drag.to - drag.from) > (coordinate.high - coordinate.low) * 0.02;
    store.set({ brush: enough ? { ...others, [coordinate.name]: [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)] } : others });
  }
}

function coordinates(app: App, most: number): Coordinate[] {
  const { table, view } = app;
  const axes = table.axes
    .filter((axis) => axis.levels.length > 1)
    .map((axis): Coordinate => {
      const values = axis.numeric ? axis.levels.map(Number) : axis.levels.map((_, at) => at);
      const [low, high] = [Math.min(...values), Math.max(...values)];
      return {
        name: axis.name,
        label: axis.label,
        low,
        high,
        lowText: axis.numeric ? number(low) : (axis.labels[0] ?? ""),
        highText: axis.numeric ? number(high) : (axis.labels.at(-1) ?? ""),
        value: (row) => values[axis.at[row] ?? -1] ?? Number.NaN,
      };
    });
  const metrics = [...table.metrics].sort((a, b) => Number(b.name === view.metric) - Number(a.name === view.metric)).filter((column) => column.numeric);
  const columns = metrics.slice(0, Math.max(0, most - axes.length)).map((column): Coordinate => {
    const numbers = column.values.filter((value): value is number => typeof value === "number");
    const low = numbers.reduce((least, value) => Math.min(least, value), Number.POSITIVE_INFINITY);
    const high = numbers.reduce((most_, value) => Math.max(most_, value), Number.NEGATIVE_INFINITY);
    return { name: column.name, label: column.label, low, high, lowText: number(low), highText: number(high), value: (row) => table.number(row, column.name) };
  });
  return [...axes, ...columns];
}

function fit(context: CanvasRenderingContext2D, text: string, width: number): string {
  if (context.measureText(text).width <= width) return text;
  let short = text;
  while (short.length > 1 && context.measureText(`${short}…`).width > width) short = short.slice(0, -1);
  return `${short}…`;
}
