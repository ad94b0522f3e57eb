// What the reader chose, as one value: kept in the address so that a link shows the same view.

import { chooseArrangement, type Place } from "./arrangement";
import type { Axis, Table } from "./table";
import { questionOf } from "./verdict";

export type { Place };

export type Mode = "plain" | "compare" | "difference";
export type Panel = "grid" | "findings" | "charts" | "table";
/** How much brighter a difference can be shown. */
export const gains = [1, 2, 4, 8, 16];

export interface View {
  x: string | null;
  y: string | null;
  sx: string | null;
  sy: string | null;
  slide: Record<string, number>; // level index of every axis that is not on the grid
  hidden: Record<string, number[]>; // level indices
  size: number; // of a cell, px
  sort: string | null;
  falling: boolean;
  weakest: boolean; // groups with most that fell below first
  threshold: number | null; // null: the study's
  mark: boolean; // what fell below the threshold carries its value
  filter: string;
  brush: Record<string, [number, number]>; // ranges drawn in a chart, by axis or column
  colour: string | null;
  cursor: number; // row, -1: none
  pin: number;
  against: string; // source | pin | run | axis:NAME=LEVEL
  mode: Mode;
  blink: boolean;
  split: number; // percent
  gain: number; // how much brighter a difference is shown
  zoom: number;
  panX: number; // percent of the image
  panY: number;
  panel: Panel;
  metric: string | null;
  along: string | null;
  group: string | null;
  blind: boolean;
  full: boolean;
}

type Listener = (changed: Set<keyof View>) => void;

export class Store {
  view: View;
  readonly #listeners: Listener[] = [];
  readonly #changed = new Set<keyof View>();
  #scheduled = false;

  constructor(view: View) {
    this.view = view;
  }

  listen(listener: Listener): void {
    this.#listeners.push(listener);
  }

  set(patch: Partial<View>): void {
    for (const name of Object.keys(patch) as (keyof View)[]) {
      if (this.view[name] !== patch[name]) this.#changed.add(name);
    }
    this.view = { ...this.view, ...patch };
    if (this.#changed.size > 0) this.#schedule();
  }

  /** Tells everybody, e.g. because rows arrived. */
  touch(...names: (keyof View)[]): void {
    for (const name of names) this.#changed.add(name);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      const changed = new Set(this.#changed);
      this.#changed.clear();
      for (const listener of this.#listeners) listener(changed);
    });
  }
}

/** A first view: the arrangement that shows most of the experiment (sweep/report/report_writer.py, list_first_thumbs, puts its
 * images first into the page). */
export function firstView(table: Table): View {
  const varied = leading(table);
  const numeric = varied.filter((axis) => axis.numeric);
  const question = questionOf(table, null);
  const main = question?.along ?? numeric[0] ?? varied[0] ?? table.axes[0] ?? null;
  const { x, y, sx, sy } = chooseArrangement(varied.length > 0 ? varied : table.axes.slice(0, 1), main, gridRoom());
  const slide: Record<string, number> = {};
  for (const axis of table.axes) slide[axis.name] = axis.at[0] ?? 0;
  return {
    x: x?.name ?? null,
    y: y?.name ?? null,
    sx: sx?.name ?? null,
    sy: sy?.name ?? null,
    slide,
    hidden: {},
    size: 0,
    sort: isSparse(table, x, y) ? "index" : null,
    falling: false,
    weakest: question !== null,
    threshold: null,
    mark: true,
    filter: "",
    brush: {},
    colour: table.others && table.column("between_ssim")?.numeric ? "between_ssim" : null, // what changed is seen at once
    cursor: -1,
    pin: -1,
    against: table.others ? "run" : table.sources.length > 0 ? "source" : "pin",
    mode: "plain",
    blink: false,
    split: 50,
    gain: 1,
    zoom: 1,
    panX: 0,
    panY: 0,
    panel: "grid",
    metric: (question?.metric.name ?? table.payload.study?.words.find((word) => word.headline && table.column(word.metric))?.metric ?? table.metrics[0]?.name) ?? null,
    along: main?.name ?? null,
    group: (question?.group ?? varied.find((axis) => axis !== main && axis.kind !== "seed" && axis.levels.length <= 8))?.name ?? null,
    blind: false,
    full: false,
  };
}

/** The room that the grid has in a window like this one, before anything is laid out. */
function gridRoom(): { width: number; height: number } {
  const panel = innerWidth <= 760 ? 0 : Math.max(300, Math.min(innerWidth * 0.3, 520));
  return { width: innerWidth - panel, height: Math.max(320, innerHeight - 300) };
}

/** The axes that vary, each by itself: of those that go in step only the first. */
export function leading(table: Table): Axis[] {
  const kept: Axis[] = [];
  for (const axis of table.axes) {
    if (axis.levels.length > 1 && !kept.some((leader) => table.follows(axis, leader))) kept.push(axis);
  }
  return kept;
}

/** Drawn designs (Latin hypercube and the like) leave nearly every cell of a matrix empty: those begin as a list. */
function isSparse(table: Table, x: Axis | null, y: Axis | null): boolean {
  if (!x || !y || table.rows === 0 || table.payload.live?.running) return false;
  const pairs = new Set<number>();
  for (let row = 0; row < table.rows; row += 1) pairs.add((x.at[row] ?? 0) * y.levels.length + (y.at[row] ?? 0));
  return pairs.size < 0.3 * x.levels.length * y.levels.length;
}

const plainText = ["x", "y", "sx", "sy", "sort", "filter", "colour", "against", "mode", "panel", "metric", "along", "group"] as const;
const flags = ["falling", "blind", "full"] as const;

/** The part of `view` that differs from `first`, as an address's hash without "#". */
export function toHash(view: View, first: View, table: Table): string {
  const out = new URLSearchParams();
  for (const name of plainText) if (view[name] !== first[name]) out.set(name, view[name] ?? "");
  for (const name of flags) if (view[name]) out.set(name, "1");
  for (const name of ["weakest", "mark"] as const) if (view[name] !== first[name]) out.set(name, view[name] ? "1" : "0");
  if (view.threshold !== null) out.set("hold", String(view.threshold));
  if (view.size !== first.size) out.set("size", String(Math.round(view.size)));
  if (view.zoom !== 1) out.set("zoom", [view.zoom, view.panX, view.panY].map((part) => part.toFixed(2)).join(","));
  if (view.gain !== 1) out.set("gain", String(view.gain));
  if (view.split !== 50) out.set("split", view.split.toFixed(0));
  for (const row of ["cursor", "pin"] as const) if (view[row] >= 0) out.set(row, table.rowName(view[row]));
  for (const axis of table.axes) {
    const at = view.slide[axis.name] ?? 0;
    if (at !== (first.slide[axis.name] ?? 0)) out.set(`at.${axis.name}`, JSON.stringify(axis.levels[at] ?? null));
    const hidden = view.hidden[axis.name] ?? [];
    if (hidden.length > 0) out.set(`hide.${axis.name}`, JSON.stringify(hidden.map((index) => axis.levels[index] ?? null)));
  }
  for (const [name, range] of Object.entries(view.brush)) out.set(`in.${name}`, range.map((end) => Number(end.toPrecision(6))).join(","));
  return out.toString();
}

/** Reads a hash; what it does not know or what no longer exists is left as in `first`. */
export function fromHash(hash: string, first: View, table: Table): View {
  const view: View = { ...first, slide: { ...first.slide }, hidden: {}, brush: {} };
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  for (const name of ["x", "y", "sx", "sy", "along", "group"] as const) {
    const value = given.get(name);
    if (value === "" || table.axis(value)) view[name] = value || null;
  }
  const taken = new Set<string>(); // an axis has one place: one that is asked for goes before one it has by itself
  for (const place of (["x", "y", "sx", "sy"] as const).toSorted((a, b) => Number(given.has(b)) - Number(given.has(a)))) {
    const name = view[place];
    if (name && taken.has(name)) view[place] = null;
    else if (name) taken.add(name);
  }
  for (const name of ["sort", "colour", "metric"] as const) {
    const value = given.get(name);
    if (value === "" || (name === "sort" && /^(index|status|rating)$/.test(value ?? "")) || table.column(value) || table.axis(value)) view[name] = value || null;
  }
  view.filter = given.get("filter") ?? "";
  const against = given.get("against");
  const level = /^axis:(.+)=(\d+)$/.exec(against ?? "");
  if (against && (/^(source|pin|run)$/.test(against) || Number(level?.[2]) < (table.axis(level?.[1] ?? null)?.levels.length ?? 0))) view.against = against;
  const mode = given.get("mode");
  if (mode === "compare" || mode === "difference") view.mode = mode;
  const panel = given.get("panel");
  if (panel === "charts" || panel === "table" || panel === "findings") view.panel = panel;
  for (const name of flags) view[name] = given.get(name) === "1";
  for (const name of ["weakest", "mark"] as const) if (given.has(name)) view[name] = given.get(name) === "1";
  const hold = Number.parseFloat(given.get("hold") ?? "");
  view.threshold = Number.isFinite(hold) ? hold : null;
  view.size = finite(given.get("size"), first.size);
  view.gain = gains.find((gain) => String(gain) === given.get("gain")) ?? 1;
  view.split = finite(given.get("split"), 50);
  const zoom = (given.get("zoom") ?? "").split(",");
  if (zoom.length === 3) [view.zoom, view.panX, view.panY] = [finite(zoom[0], 1), finite(zoom[1], 0), finite(zoom[2], 0)];
  view.cursor = table.rowOf(given.get("cursor"));
  view.pin = table.rowOf(given.get("pin"));
  readLevels(given, view, table);
  return view;
}

function readLevels(given: URLSearchParams, view: View, table: Table): void {
  for (const axis of table.axes) {
    const at = parse(given.get(`at.${axis.name}`));
    const index = axis.levels.indexOf(at as never);
    if (index >= 0) view.slide[axis.name] = index;
    const hidden = parse(given.get(`hide.${axis.name}`));
    if (Array.isArray(hidden)) {
      view.hidden[axis.name] = hidden.map((value) => axis.levels.indexOf(value as never)).filter((found) => found >= 0);
    }
  }
  for (const [name, text] of given) {
    const ends = text.split(",").map(Number);
    if (name.startsWith("in.") && ends.length === 2 && ends.every(Number.isFinite)) {
      view.brush[name.slice(3)] = [ends[0] ?? 0, ends[1] ?? 0];
    }
  }
}

function parse(text: string | null): unknown {
  if (text === null) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function finite(text: string | null | undefined, otherwise: number): number {
  const value = Number.parseFloat(text ?? "");
  return Number.isFinite(value) ? value : otherwise;
}
