// What is printed: question, answer and marks, then the images with their values, then how they were made.

import type { App } from "./app";
import { h } from "./dom";
import { number } from "./format";
import { mainFindings } from "./ranking";
import { splitSentence } from "./summary";
import type { Column } from "./table";
import { holds } from "./verdict";

const mostImages = 40;

/** The sheet of paper: images with their values, the curve, the numbers. */
export function paperOf(app: App): HTMLElement[] {
  const { table, verdict, layout } = app;
  const lines = layout.rows.map((_, r) => layout.cols.map((_col, c) => layout.at(r, c)));
  const all = lines.flat().filter((row) => row >= 0);
  const shown = all.length <= mostImages ? lines : namedLines(app, lines);
  const count = shown.flat().filter((row) => row >= 0).length;
  const names = [app.view.sx, app.view.x].map((name) => table.axis(name)?.label).filter(Boolean).join(", ");
  const head = h("tr", {}, h("th", {}, `${[app.view.sy, app.view.y].map((name) => table.axis(name)?.label).filter(Boolean).join(", ")} ↓`), ...layout.cols.map((col) => h("th", {}, [col.over, col.label].filter(Boolean).join(" · "))));
  const body = shown.map((rows) => {
    const r = lines.indexOf(rows);
    return h("tr", {}, h("th", {}, [layout.rows[r]?.over, layout.rows[r]?.label].filter(Boolean).join(" · ")), ...rows.map((row) => cell(app, row)));
  });
  const rest = all.length - count;
  return [
    source(app),
    h("table", { class: "paper-grid" }, h("thead", {}, h("tr", {}, h("th", {}), h("th", { colSpan: Math.max(1, layout.cols.length) }, `${names} →`)), head), h("tbody", {}, ...body)),
    h("p", {}, rest > 0 ? `${rest} of ${all.length} images are not shown. ` : "", verdict ? `● held, ○ fell below ${number(verdict.threshold)} in ${verdict.metric.label}` : ""),
    alsoFound(app),
    ...(all.length <= mostImages ? numbers(app, lines) : []),
  ].filter((part) => part !== null);
}

function source({ thumbs, view, table }: App): HTMLElement | null {
  const found = thumbs.source(Math.max(0, view.cursor));
  return found && table.sources.length === 1 ? h("figure", { class: "paper-source" }, h("img", { src: found.thumb, alt: "" }), h("figcaption", {}, "the source image")) : null;
}

function alsoFound({ table }: App): HTMLElement | null {
  const words = mainFindings(table.payload.study?.words ?? []).slice(1, 4);
  return words.length > 0 ? h("div", { class: "paper-also" }, h("h2", {}, "Also found"), h("ol", {}, ...words.map((word, at) => h("li", { value: at + 2 }, splitSentence(word.text)[0])))) : null;
}

/** The main metric and those that say most besides it, a table each: rows and columns as in the grid. */
function numbers(app: App, lines: number[][]): HTMLElement[] {
  const { table, verdict, layout } = app;
  const names = [verdict?.metric.name, "ssim", "delta_e"];
  const metrics = table.metrics.filter((metric, at) => (verdict ? names.includes(metric.name) : at < 3)).slice(0, 3);
  const head = (metric: Column): HTMLElement => h("tr", {}, h("th", {}, metric.label), ...layout.cols.map((col) => h("th", {}, [col.over, col.label].filter(Boolean).join(", "))));
  const tables = metrics.map((metric) =>
    h("table", { class: "paper-numbers" }, h("thead", {}, head(metric)), h("tbody", {}, ...lines.map((rows, r) => h("tr", {}, h("th", {}, [layout.rows[r]?.over, layout.rows[r]?.label].filter(Boolean).join(" · ")), ...rows.map((row) => h("td", {}, row >= 0 ? written(metric.values[row]) : "")))))),
  );
  return tables.length > 0 ? [h("h2", { class: "paper-title" }, "The numbers"), ...tables] : [];
}

/** With as many digits as its neighbours. */
function written(value: unknown): string {
  return typeof value !== "number" ? "" : Math.abs(value) < 10 ? value.toFixed(3).replace("-", "−") : number(value);
}

/** The lines that the findings speak of: those of the weakest group, until there are as many images as fit. */
function namedLines(app: App, lines: number[][]): number[][] {
  const { verdict } = app;
  const worth = (rows: number[]): number => rows.filter((row) => row >= 0 && verdict && holds(verdict, row) === false).length;
  const kept: number[][] = [];
  for (const rows of [...lines].sort((a, b) => worth(b) - worth(a))) {
    const count = kept.flat().filter((row) => row >= 0).length + rows.filter((row) => row >= 0).length;
    if (kept.length > 0 && count > mostImages) break;
    kept.push(rows.slice(0, mostImages));
  }
  return lines.filter((rows) => kept.includes(rows));
}

function cell(app: App, row: number): HTMLElement {
  const address = row >= 0 ? app.thumbs.thumb(row) : null;
  if (!address) return h("td", {}, row === -3 ? "left out" : row >= 0 ? String(app.table.status[row]) : "");
  const { verdict } = app;
  const held = verdict ? holds(verdict, row) : null;
  const value = verdict && held !== null ? `${held ? "●" : "○"} ${written(verdict.metric.values[row])}` : "";
  return h("td", {}, h("img", { src: address, alt: app.table.describe(row) }), value ? h("span", { class: held ? "" : "fell-below" }, value) : null);
}
