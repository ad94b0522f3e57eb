// Rows that arrive while the page is open, from the loopback server of `sweep view`.

import type { App } from "./app";
import { count } from "./format";
import { firstView } from "./state";
import type { LiveRow } from "./table";

interface News {
  generation: number;
  rows: LiveRow[];
  done: number;
  failed: number;
  points: number;
  running: boolean;
}

/** Listens for news and merges them; the line under the title says how far the run is. */
export function follow(app: App): void {
  const { live } = app.table.payload;
  if (!live) return;
  const line = document.getElementById("progress");
  const source = new EventSource(`${live.events}?since=${live.generation}`);
  source.addEventListener("rows", (event) => {
    const news = JSON.parse(event.data) as News;
    live.generation = news.generation;
    live.running = news.running;
    take(app, news.rows);
    if (line) line.textContent = said(news);
  });
  source.addEventListener("error", () => {
    if (line) line.textContent = source.readyState === EventSource.CLOSED ? "sweep view has stopped; this page stays as it is." : "connection lost, reconnecting…";
  });
}

/** Merges rows; sliders stay on the level they show, and a view nobody has changed yet follows what there is to see. */
function take(app: App, rows: LiveRow[]): void {
  const { table, store } = app;
  const shape = (): string => table.axes.map((axis) => axis.levels.length).join();
  const before = shape();
  const held = table.axes.map((axis) => axis.levels[app.view.slide[axis.name] ?? 0]);
  table.merge(rows);
  if (shape() !== before) {
    const slide: Record<string, number> = {};
    table.axes.forEach((axis, at) => (slide[axis.name] = Math.max(0, axis.levels.indexOf(held[at] ?? null))));
    const untouched = (["x", "y", "sx", "sy", "sort"] as const).every((name) => app.view[name] === app.first[name]);
    app.first = firstView(table);
    const { x, y, sx, sy, sort, metric, along, group, against } = app.first;
    store.set(untouched ? { slide, x, y, sx, sy, sort, metric, along, group, against } : { slide });
  }
  app.relayout();
  store.touch("filter");
}

function said(news: News): string {
  const failed = news.failed > 0 ? ` · ${news.failed} failed` : "";
  const of = news.points > 0 ? ` of ${count(news.points, "point")}` : "";
  return `${news.done.toLocaleString("en")}${of}${failed}${news.running ? " · rendering" : ""}`;
}
