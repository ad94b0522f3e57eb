// Rows that arrive while the page is open, from the loopback server of `sweep view`.

import type { App } from "./app";
import { count } from "./format";
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
    const wasEmpty = app.table.rows === 0;
    const before = app.table.axes.map((axis) => axis.levels.length).join();
    const held = app.table.axes.map((axis) => axis.levels[app.view.slide[axis.name] ?? 0]);
    app.table.merge(news.rows);
    if (app.table.axes.map((axis) => axis.levels.length).join() !== before && !wasEmpty) {
      const slide = { ...app.view.slide };
      app.table.axes.forEach((axis, at) => (slide[axis.name] = Math.max(0, axis.levels.indexOf(held[at] ?? null))));
      app.store.set({ slide });
    }
    app.relayout();
    app.store.touch("filter");
    if (line) line.textContent = said(news);
  });
  source.addEventListener("error", () => {
    if (line) line.textContent = source.readyState === EventSource.CLOSED ? "sweep view has ended; what is shown stays." : "connection lost, trying again…";
  });
}

function said(news: News): string {
  const failed = news.failed > 0 ? ` · ${news.failed} failed` : "";
  const of = news.points > 0 ? ` of ${count(news.points, "point")}` : "";
  return `${news.done}${of}${failed}${news.running ? " · rendering" : ""}`;
}
