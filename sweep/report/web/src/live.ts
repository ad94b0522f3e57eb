// A run that goes on: the line of progress, cells as their state changes, and the end, at which the page becomes the report.

import type { App } from "./app";
import { h } from "./dom";
import type { LiveRow, Payload, Progress } from "./payload";
import { firstView, leading } from "./state";
import { Table } from "./table";

interface News extends Progress {
  generation: number;
  rows: LiveRow[];
  gone: string[]; // keys that are at no server any more
}

export class SweepProgress extends HTMLElement {
  app!: App;
  #told = -1;
  readonly #spoken = h("p", { class: "sr-only", "aria-live": "polite" });

  connectedCallback(): void {
    this.paint();
  }

  /** While a run goes on: count, time left, bar and legend. Afterwards only what is not simply rendered. */
  paint(): void {
    const { table } = this.app;
    const live = table.payload.live;
    const running = live?.running === true;
    const waiting = live && live.points > 0 && !live.report ? [headOf(live, "the run has ended · measuring the images")] : [];
    const parts = running ? runningParts(live, table.payload.leftOut.length) : [...waiting, ...endedParts(table)];
    this.hidden = parts.length === 0;
    this.className = running ? "running" : "ended";
    this.replaceChildren(...parts, this.#spoken);
    if (live) this.#announce(live);
  }

  /** Says each tenth aloud, not each image. */
  #announce({ done, failed, points, running }: Progress): void {
    const tenth = running ? Math.floor((10 * (done + failed)) / Math.max(1, points)) : 11;
    if (tenth === this.#told) return;
    this.#told = tenth;
    this.#spoken.textContent = running ? `${done} of ${points} rendered` : `The run has ended: ${done} of ${points} rendered.`;
  }
}

function runningParts(live: Progress, leftOut: number): HTMLElement[] {
  const { done, failed, points, rendering, retrying } = live;
  const queued = Math.max(0, points - done - failed - rendering - retrying);
  const time = live.left !== null ? `about ${span(live.left)} left · ${span(live.seconds)} so far` : `${done > 0 ? "rendering" : "starting"} · the time left is known after the first image of this run`;
  const bar = h("div", { class: "progress-bar", role: "progressbar", "aria-label": "Images rendered", "aria-valuemin": "0", "aria-valuemax": points, "aria-valuenow": done });
  for (const [name, part] of [["rendered", done], ["rendering", rendering], ["failed", failed]] as const) {
    const piece = h("i", { class: name });
    piece.style.width = `${(100 * part) / Math.max(1, points)}%`;
    bar.append(piece);
  }
  return [headOf(live, time), bar, legendOf({ rendered: done, rendering, queued, retrying, failed, leftOut })];
}

function headOf({ done, points }: Progress, text: string): HTMLElement {
  return h("p", { class: "progress-head" }, h("b", {}, `${done.toLocaleString("en")} of ${points.toLocaleString("en")}`), h("span", {}, text));
}

function endedParts(table: Table): HTMLElement[] {
  const failed = table.status.filter((status) => status === "failed").length;
  const leftOut = table.payload.leftOut.length;
  if (failed + leftOut === 0) return [];
  const rendered = table.status.filter((status) => status === "completed").length;
  return [legendOf({ rendered, rendering: 0, queued: 0, retrying: 0, failed, leftOut })];
}

const legendNames = { rendered: "rendered", rendering: "rendering", queued: "queued", retrying: "trying again", failed: "failed", leftOut: "left out by the experiment" };

function legendOf(counts: Record<keyof typeof legendNames, number>): HTMLElement {
  const always = new Set(["rendered"]);
  const items = (Object.keys(legendNames) as (keyof typeof legendNames)[]).filter((name) => counts[name] > 0 || always.has(name));
  return h("ul", { class: "states" }, ...items.map((name) => h("li", {}, h("i", { class: `state ${name}`, "aria-hidden": "true" }), h("b", {}, counts[name].toLocaleString("en")), ` ${legendNames[name]}`)));
}

/** Seconds as people say them. */
export function span(seconds: number): string {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Listens for news and merges them, until the run has ended and the report is there. */
export function follow(app: App, progress: SweepProgress): void {
  const { live } = app.table.payload;
  if (!live) return;
  app.table.merge(live.rows);
  app.relayout();
  app.store.touch("filter");
  const source = new EventSource(`${live.events}?since=${live.generation}`);
  source.addEventListener("rows", (event) => {
    const { rows, gone, ...now } = JSON.parse(event.data) as News;
    Object.assign(live, now);
    app.table.remove(gone);
    take(app, rows);
    progress.paint();
    if (!now.report) return;
    source.close();
    void becomeReport(app, progress);
  });
  source.addEventListener("error", () => showLost(progress, source.readyState === EventSource.CLOSED));
}

function showLost(progress: SweepProgress, ended: boolean): void {
  const text = ended ? "This page is no longer served; it stays as it is. sweep view shows the run again." : "Connection lost, reconnecting…";
  const head = progress.querySelector(".progress-head span");
  if (head) head.textContent = text;
}

/** Merges rows; sliders stay on the level they show, and a view nobody has changed yet follows what there is to see. */
function take(app: App, rows: LiveRow[]): void {
  const { table, store } = app;
  const shape = (): string => [...table.axes.map((axis) => axis.levels.length), ...leading(table).map((axis) => axis.name)].join();
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
  if (table.sources.length > 0 && app.first.against === "pin") {
    if (app.view.against === "pin" && app.view.pin < 0) store.set({ against: "source" });
    app.first.against = "source"; // it came with the first image
  }
  app.relayout();
  const first = app.view.cursor < 0 ? table.status.indexOf("completed") : -1;
  if (first >= 0) store.set({ cursor: first }); // something to look at, until the reader chooses
  store.touch("filter");
}

/** Takes the results and texts of the finished report in place of the live ones: same address, selection and scroll. */
async function becomeReport(app: App, progress: SweepProgress): Promise<void> {
  const answer = await fetch(location.pathname);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html"); // inert: no script of it runs
  const data = page.getElementById("sweep-data");
  if (data?.getAttribute("type") !== "application/json") return location.reload();
  const payload = JSON.parse(data.textContent ?? "") as Payload;
  for (const part of [".state-line", "section.end"]) {
    const fresh = page.querySelector(part);
    if (fresh) document.querySelector(part)?.replaceWith(document.adoptNode(fresh));
  }
  for (const chunk of page.querySelectorAll("script[data-thumbs]")) document.body.append(document.adoptNode(chunk));
  const scroll = document.querySelector("sweep-grid .scroll");
  const [left, top] = [scroll?.scrollLeft ?? 0, scroll?.scrollTop ?? 0];
  app.adopt(new Table(payload));
  const { metric, along, group } = (app.first = { ...firstView(app.table), weakest: app.view.weakest });
  app.store.set({ metric, along, group });
  progress.paint();
  document.dispatchEvent(new Event("sweep-report"));
  requestAnimationFrame(() => scroll?.scrollTo(left, top));
  performance.mark("sweep-report");
}
