// What is printed: question, answer and marks, then the images with their values, then how they were made.

import * as Plot from "@observablehq/plot";
import type { App } from "./app";
import { h } from "./dom";
import { count, number, short, shortAll } from "./format";
import type { Head } from "./layout";
import { curvesOf } from "./means";
import { domainOf, frame, label } from "./plots";
import { mainFindings, splitSentence } from "./ranking";
import type { Axis } from "./table";
import { capital, holds, sign } from "./verdict";

const mostImages = 40;
const mostColumns = 12; // of a part of the grid: more would be too small on paper
const mostLines = 6;
const curve = { width: 670, height: 215 }; // px: A4 between its margins
const dashes = ["", "7 4", "2 3", "9 3 2 3", "14 4", "1 5"]; // a line of its own in grey, too

/** The sheet of paper: images with their values, the curve, the numbers. */
export function paperOf(app: App): HTMLElement[] {
  const { table, verdict, layout, view } = app;
  const lines = layout.rows.map((_, r) => layout.cols.map((_col, c) => layout.at(r, c)));
  const all = lines.flat().filter((row) => row >= 0);
  const isWhole = all.length <= mostImages;
  const step = isWhole ? 1 : Math.ceil(layout.cols.length / mostColumns);
  const seen = <T>(columns: T[]): T[] => columns.filter((_, c) => c % step === 0);
  const shown = isWhole ? lines : namedLines(app, lines, seen);
  const rest = layout.passing - shown.flatMap(seen).filter((row) => row >= 0).length;
  const named = (...axes: (string | null)[]): string => (layout.kind === "list" ? "" : axes.map((name) => table.axis(name)?.label).filter(Boolean).join(", "));
  const [across, down] = [named(view.sx, view.x), named(view.sy, view.y)];
  const head = h("tr", {}, h("th", {}, down && `${down} ↓`), ...seen(layout.cols).map((col) => h("th", {}, nameOf(col))));
  const body = shown.map((rows) => {
    const r = lines.indexOf(rows);
    return h("tr", {}, h("th", {}, nameOf(layout.rows[r])), ...seen(rows).map((row) => cell(app, row)));
  });
  const grid = h("table", { class: "paper-grid" }, h("thead", {}, h("tr", {}, h("th", { class: down ? "" : "nameless" }), h("th", { colSpan: Math.max(1, seen(layout.cols).length) }, across && `${across} →`)), head), h("tbody", {}, ...body));
  grid.style.setProperty("--lines", String(shown.length));
  if (view.blind) return [grid];
  const only = layout.sliders.map((axis) => `${axis.label} ${short(axis.labels[view.slide[axis.name] ?? 0] ?? "", 60)}`).join(" · ");
  return [
    grid,
    h("p", {}, only && `Only ${only}. `, rest > 0 ? `${rest.toLocaleString("en")} of ${count(layout.passing, "image")} are not shown. ` : "", verdict ? `● held, ○ fell below ${number(verdict.threshold)} in ${verdict.metric.label}` : ""),
    source(app),
    alsoFound(app),
    curveOf(app),
    ...(isWhole && layout.kind === "matrix" ? numbers(app, lines) : []),
  ].filter((part) => part !== null);
}

/** A line or column of the grid, with the group it is in. */
function nameOf(head: Head | undefined): string {
  return [head?.overName, head?.name].map((name) => short(name ?? "", 32)).filter(Boolean).join(" · ");
}

/** The metric of the finding along its axis: a line for each group, named at its end, and a mark for each image. */
function curveOf(app: App): HTMLElement | null {
  const { table, verdict, view, chartMask } = app;
  const metric = verdict?.metric ?? table.column(view.metric);
  const along = verdict?.along ?? table.axis(view.along);
  if (!metric || !along || along.levels.length < 2) return null;
  const group = verdict ? verdict.group : table.axis(view.group);
  const lines = curvesOf(table, chartMask, metric, along, group && group !== along && group.levels.length <= mostLines ? group : null);
  if (lines.length === 0) return null;
  const grouped = lines.length > 1 ? group : null;
  const points = table.key.flatMap((_, row) => (chartMask[row] && typeof metric.values[row] === "number" ? [{ x: along.numeric ? Number(along.levels[along.at[row] ?? 0]) : (along.at[row] ?? 0), y: Number(metric.values[row]), held: !verdict || holds(verdict, row) === true }] : []));
  const names = shortAll(grouped?.labels ?? [], 26);
  const levels = shortAll(along.labels, 14);
  const ends = lines.map((line) => ({ ...(line.at.at(-1) ?? { x: 0, mean: 0 }), text: names[line.group] ?? "" }));
  const ticks = along.levels.length <= 12 ? { ticks: along.levels.map((level, at) => (along.numeric ? Number(level) : at)) } : {};
  const plot = Plot.plot({
    ...frame(curve.width, curve.height),
    marginRight: grouped ? 170 : 24,
    x: { label: `${along.label} →`, domain: domainOf(along), ...ticks, tickFormat: (at: number) => (along.numeric ? number(at, 6) : (levels[at] ?? "")) },
    y: { label: null, nice: true, ticks: 6 },
    marks: [
      ...(verdict ? [Plot.ruleY([verdict.threshold], { stroke: "var(--dim)", strokeDasharray: "2 3" })] : []),
      ...lines.map((line, at) => Plot.line(line.at, { x: "x", y: "mean", stroke: "var(--ink)", strokeWidth: 1.6, strokeDasharray: dashes[at % dashes.length] || "none" })),
      ...(points.length <= 400 ? [Plot.dot(points, { x: "x", y: "y", r: 2.6, stroke: "var(--ink)", fill: (point: { held: boolean }) => (point.held ? "var(--ink)" : "var(--bg)") })] : []),
      Plot.text(spread(ends, points), { x: "x", y: "place", text: "text", dx: 10, textAnchor: "start", fill: "var(--ink)" }),
    ],
  });
  label(plot, `${metric.label} along ${along.label}`);
  const held = verdict ? ` Dotted: ${sign(verdict)} ${number(verdict.threshold)} holds; hollow marks fell below.` : "";
  const marks = points.length <= 400 ? " Marks: single images." : "";
  return h("figure", { class: "paper-curve" }, h("h2", {}, `${capital(metric.label)} by ${along.label}`), plot, h("figcaption", {}, `Line: mean${linesNote(grouped)}.${marks}${held}`));
}

/** Places for the names at the ends of lines, so that none is written over another. */
function spread<E extends { mean: number }>(ends: E[], points: { y: number }[]): (E & { place: number })[] {
  const values = points.map((point) => point.y);
  const least = (Math.max(...values) - Math.min(...values)) * 0.07;
  let last = Number.NEGATIVE_INFINITY;
  return [...ends].sort((a, b) => a.mean - b.mean).map((end) => ({ ...end, place: (last = Math.max(end.mean, last + least)) }));
}

function linesNote(group: Axis | null): string {
  return group ? ` of each ${group.label}` : "";
}

function source({ thumbs, view, table }: App): HTMLElement | null {
  const found = thumbs.source(Math.max(0, view.cursor));
  return found && table.sources.length === 1 ? h("figure", { class: "paper-source" }, h("img", { src: found.thumb, alt: "" }), h("figcaption", {}, "the source image")) : null;
}

function alsoFound({ table }: App): HTMLElement | null {
  const words = mainFindings(table).slice(1, 4);
  return words.length > 0 ? h("div", { class: "paper-also" }, h("h2", {}, "Also found"), h("ol", {}, ...words.map((word, at) => h("li", { value: at + 2 }, splitSentence(word.text)[0])))) : null;
}

/** The main metric and those that say most besides it, a table each: rows and columns as in the grid. */
function numbers(app: App, lines: number[][]): HTMLElement[] {
  const { table, verdict, layout } = app;
  const names = verdict ? [verdict.metric.name, "ssim", "delta_e"] : table.metrics.slice(0, 3).map((metric) => metric.name);
  const metrics = [...new Set(names)].flatMap((name) => table.column(name) ?? []);
  const head = (text: string): HTMLElement => h("tr", {}, h("th", {}, text), ...layout.cols.map((col) => h("th", {}, nameOf(col))));
  const tables = metrics.map((metric) =>
    h("table", { class: "paper-numbers" }, h("thead", {}, head(lines.length > 1 ? metric.label : "")), h("tbody", {}, ...lines.map((rows, r) => h("tr", {}, h("th", {}, nameOf(layout.rows[r]) || metric.label), ...rows.map((row) => h("td", {}, row >= 0 ? written(metric.values[row]) : "")))))),
  );
  return tables.length > 0 ? [h("h2", { class: "paper-title" }, "The numbers"), ...tables] : [];
}

/** With as many digits as its neighbours. */
function written(value: unknown): string {
  return typeof value !== "number" ? "" : value.toFixed(Math.abs(value) < 10 ? 3 : 1).replace("-", "−");
}

/** The lines that the findings speak of: those of the weakest group, until there are as many images as fit. Of each the
 * columns that are `seen`. */
function namedLines(app: App, lines: number[][], seen: (rows: number[]) => number[]): number[][] {
  const { verdict } = app;
  const worth = (rows: number[]): number => rows.filter((row) => row >= 0 && verdict && holds(verdict, row) === false).length;
  const kept = new Set<number[]>();
  let count = 0;
  for (const rows of [...lines].sort((a, b) => worth(b) - worth(a))) {
    count += seen(rows).filter((row) => row >= 0).length;
    if (kept.size > 0 && count > mostImages) break;
    kept.add(rows);
  }
  return lines.filter((rows) => kept.has(rows));
}

function cell(app: App, row: number): HTMLElement {
  const address = row >= 0 ? app.thumbs.thumb(row) : null;
  if (!address) return h("td", {}, row === -3 ? "left out" : row >= 0 ? String(app.table.status[row]) : "");
  const { table, verdict, layout, view } = app;
  const held = verdict && !view.blind ? holds(verdict, row) : null;
  const value = verdict && held !== null ? `${held ? "●" : "○"} ${written(verdict.metric.values[row])}` : "";
  const name = layout.kind === "list" && !view.blind ? table.describe(row) : "";
  return h("td", {}, h("img", { src: address, alt: "" }), value && h("span", { class: held ? "" : "fell-below" }, value), name && h("span", {}, short(name, 80)));
}
