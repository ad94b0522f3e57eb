// What the charts have in common: frames, titles, keys, and texts that fit.

import type * as Plot from "@observablehq/plot";
import { series } from "./colour";
import { h } from "./dom";
import { short, shortAll } from "./format";
import type { Axis } from "./table";

/** Those of `cells` whose labels do not run into each other. */
export function apart<C extends { mean: number }>(cells: C[], all: C[]): C[] {
  const values = all.map((cell) => cell.mean);
  const least = (Math.max(...values) - Math.min(...values)) * 0.075;
  const kept: C[] = [];
  for (const cell of [...cells].sort((a, b) => a.mean - b.mean)) {
    const last = kept.at(-1);
    if (!last || cell.mean - last.mean >= least) kept.push(cell);
  }
  return kept;
}

export function domainOf(axis: Axis): [number, number] {
  if (!axis.numeric) return [-0.3, axis.levels.length - 0.7];
  const levels = axis.levels.map(Number);
  return [Math.min(...levels), Math.max(...levels)];
}

export function frame(width: number, height: number): Plot.PlotOptions {
  return { width, height, marginLeft, marginRight: 34, marginTop: 12, marginBottom: 36, className: "plot", style: { fontSize: "11px", background: "none", overflow: "visible" } };
}

const marginLeft = 44;

/** Names of levels under a chart that ends at `width` px, as long as they fit; of more than fit every second, third …. */
export function tickNames(labels: readonly string[], width: number): string[] {
  const step = (width - marginLeft) / (labels.length - 0.4);
  const every = Math.ceil(28 / step);
  return shortAll(labels, Math.max(3, Math.min(24, Math.floor((step * every) / 7) - 1))).map((name, at) => (at % every === 0 ? name : ""));
}

/** Names a chart for those who do not see it. */
export function label(plot: Element, text: string): void {
  plot.setAttribute("role", "img");
  plot.setAttribute("aria-label", text);
  for (const part of plot.querySelectorAll("g[aria-label]")) part.setAttribute("role", "group"); // a bare g may have no label
}

export function title(text: string, under: string): HTMLElement {
  return h("div", { class: "title" }, h("h3", {}, text), under ? h("p", {}, under) : null);
}

export function legend(group: Axis | null): HTMLElement | null {
  return group ? h("div", { class: "keys" }, ...shortAll(group.labels, 40).slice(0, 16).map((name, at) => swatch(name, series(at), group.labels[at]))) : null;
}

export function swatch(name: string, colour: string, label = name): HTMLElement {
  const mark = h("i", {});
  mark.style.background = colour;
  return h("span", { title: label }, mark, short(name, 40));
}

export function shade(at: number, of: number): string {
  return `color-mix(in oklab, var(--series-2) ${Math.round((at / Math.max(1, of - 1)) * 100)}%, var(--series-1))`;
}

export function setRect(rect: SVGRectElement, a: [number, number], b: [number, number]): void {
  rect.setAttribute("x", String(Math.min(a[0], b[0])));
  rect.setAttribute("y", String(Math.min(a[1], b[1])));
  rect.setAttribute("width", String(Math.abs(a[0] - b[0])));
  rect.setAttribute("height", String(Math.abs(a[1] - b[1])));
}
