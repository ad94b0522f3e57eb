// What is known about an image: the values that made it, its metrics within the range of all, and where it came from.

import type { App } from "./app";
import { scaleOf } from "./colour";
import { h } from "./dom";
import { level, number, words } from "./format";
import type { Column } from "./table";

type Entry = readonly [term: string, text: string];

/** The facts of a row, as elements. */
export function factsOf(app: App, row: number): HTMLElement[] {
  const { table } = app;
  const error = table.error[row];
  const axes = table.axes.map((axis): Entry => [axis.label, axis.labels[axis.at[row] ?? -1] ?? "none"]);
  const metrics = table.metrics.filter((column) => typeof column.values[row] === "number");
  const about = table.columns
    .filter((column) => column.kind === "info" && column.values[row] !== null && column.values[row] !== undefined)
    .map((column): Entry => [column.label, level(column.values[row] ?? null)]);
  const found = [list("values", axes)];
  if (error) found.unshift(h("p", { class: "error" }, String(error)));
  if (metrics.length > 0) found.push(h("dl", { class: "metrics" }, ...metrics.map((column) => metricLine(app, column, row))));
  found.push(list("about", [...about, ["status", String(table.status[row])], ["key", String(table.key[row])]]));
  return found;
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

function list(name: string, entries: readonly Entry[]): HTMLElement {
  return h("dl", { class: name }, ...entries.map(([term, text]) => h("div", {}, h("dt", {}, words(term)), h("dd", { title: text }, text))));
}
