// The results in memory: axes as level indices, everything else by column; grows while a run is going on.

import { level, words } from "./format";
import { type ColumnData, type ImageData, type Level, type LiveRow, type Payload, type SourceData, unpack } from "./payload";

export interface Axis {
  name: string;
  label: string;
  kind: string;
  levels: Level[];
  labels: string[];
  at: number[];
  numeric: boolean;
}

export interface Column {
  name: string;
  label: string;
  kind: "metric" | "info";
  direction: "higher" | "lower" | "neutral";
  summary: string;
  numeric: boolean;
  values: Level[];
}

export interface Images {
  prefix: string | null;
  path: Level[];
  thumb: Level[];
  width: Level[];
  height: Level[];
}

export class Table {
  readonly axes: Axis[];
  readonly columns: Column[];
  readonly key: Level[];
  readonly status: Level[];
  readonly share: (number | null)[] = []; // that is rendered, of rows at a server
  readonly error: Level[];
  readonly images: Images;
  readonly others: Images | null;
  readonly sources: SourceData[];
  readonly sourceAt: number[];
  readonly #axisByName = new Map<string, Axis>();
  readonly #columnByName = new Map<string, Column>();
  version = 0; // counts up with each change of rows
  #rowByKey: Map<string, number> | null = null;
  readonly #follows = new Map<string, boolean>();

  constructor(readonly payload: Payload) {
    this.axes = payload.axes.map((axis) => ({
      ...axis,
      label: words(axis.name),
      labels: axis.levels.map((value) => level(value, axis.kind)),
      numeric: isNumeric(axis.kind, axis.levels),
    }));
    this.columns = payload.columns.map(readColumn);
    this.key = unpack(payload.key);
    this.status = unpack(payload.status);
    this.error = unpack(payload.error);
    this.images = readImages(payload.images);
    this.others = payload.others ? readImages(payload.others) : null;
    this.sources = payload.sources.list;
    this.sourceAt = payload.sources.at;
    for (const axis of this.axes) this.#axisByName.set(axis.name, axis);
    for (const column of this.columns) this.#columnByName.set(column.name, column);
  }

  /** Made when first needed: a page that is only looked at never asks. */
  #byKey(): Map<string, number> {
    if (this.#rowByKey) return this.#rowByKey;
    this.#rowByKey = new Map();
    for (let row = 0; row < this.rows; row += 1) this.#rowByKey.set(this.rowName(row), row);
    return this.#rowByKey;
  }

  get rows(): number {
    return this.key.length;
  }

  get metrics(): Column[] {
    return this.columns.filter((column) => column.kind === "metric");
  }

  axis(name: string | null): Axis | null {
    return name === null ? null : (this.#axisByName.get(name) ?? null);
  }

  column(name: string | null): Column | null {
    return name === null ? null : (this.#columnByName.get(name) ?? null);
  }

  /** Whether the level of `leader` fixes the level of `axis`, as it does for zipped axes. */
  follows(axis: Axis, leader: Axis): boolean {
    const name = `${leader.name}\n${axis.name}\n${this.rows}`;
    const known = this.#follows.get(name) ?? determines(leader, axis, this.rows);
    this.#follows.set(name, known);
    return known;
  }

  /** A row's name in the file of ratings: its key, and the number of its image. */
  ratingName(row: number): string {
    const image = this.#axisByName.get("image");
    return `${this.key[row]}.${image ? (image.levels[image.at[row] ?? -1] ?? 1) : 1}`;
  }

  /** A row's key, and which of its images where one point has several. */
  rowName(row: number): string {
    const image = this.#axisByName.get("image");
    return image ? `${this.key[row]}.${image.levels[image.at[row] ?? -1] ?? 1}` : String(this.key[row]);
  }

  rowOf(name: string | null): number {
    return name === null ? -1 : (this.#byKey().get(name) ?? -1);
  }

  /** The value of an axis or column in a row. */
  value(row: number, name: string): Level {
    const axis = this.#axisByName.get(name);
    if (axis) return axis.levels[axis.at[row] ?? -1] ?? null;
    if (name === "status") return this.status[row] ?? null;
    if (name === "error") return this.error[row] ?? null;
    return this.#columnByName.get(name)?.values[row] ?? null;
  }

  number(row: number, name: string): number {
    const value = this.value(row, name);
    return typeof value === "number" ? value : Number.NaN;
  }

  describe(row: number): string {
    return this.axes
      .filter((axis) => axis.levels.length > 1)
      .map((axis) => `${axis.label} ${axis.labels[axis.at[row] ?? -1] ?? "none"}`)
      .join(" · ");
  }

  /** Takes rows that arrived or changed. New levels find their place in the order of their axis. */
  merge(rows: LiveRow[]): void {
    this.version += 1;
    const byKey = this.#byKey();
    for (const incoming of rows) {
      const name = this.#axisByName.has("image") ? `${incoming.key}.${incoming.image}` : incoming.key;
      let row = byKey.get(name) ?? -1;
      if (row < 0) {
        row = this.rows;
        byKey.set(name, row);
      }
      this.#put(row, incoming);
    }
  }

  /** Forgets points that were at a server and are not any more, without an outcome. */
  remove(keys: string[]): void {
    for (const key of keys) {
      const row = this.#byKey().get(key) ?? -1;
      if (row >= 0 && this.status[row] !== "completed") this.status[row] = "queued";
    }
    this.version += 1;
  }

  #put(row: number, incoming: LiveRow): void {
    this.key[row] = incoming.key;
    this.status[row] = incoming.status;
    this.share[row] = incoming.share ?? null;
    this.error[row] = incoming.error;
    this.images.path[row] = incoming.path;
    this.images.thumb[row] = incoming.thumb;
    this.images.width[row] = incoming.width;
    this.images.height[row] = incoming.height;
    this.sourceAt[row] = this.#source(incoming.source);
    for (const axis of this.axes) axis.at[row] = placeLevel(axis, axis.name in incoming.axes ? (incoming.axes[axis.name] ?? null) : incoming.image);
    for (const column of this.columns) {
      column.values[row] = incoming.columns[column.name] ?? null;
      column.numeric ||= typeof column.values[row] === "number"; // a page may have been opened before the first image
    }
  }

  #source(source: SourceData | null): number {
    if (!source) return -1;
    const found = this.sources.findIndex((known) => known.path === source.path);
    return found >= 0 ? found : this.sources.push(source) - 1;
  }
}

function isNumeric(kind: string, levels: Level[]): boolean {
  return kind !== "seed" && levels.length > 0 && levels.every((value) => typeof value === "number");
}

function readColumn(data: ColumnData): Column {
  const values = unpack(data.values);
  return { ...data, values, numeric: values.some((value) => typeof value === "number") };
}

function readImages(data: ImageData): Images {
  return {
    prefix: data.prefix,
    path: unpack(data.path),
    thumb: unpack(data.thumb),
    width: unpack(data.width),
    height: unpack(data.height),
  };
}

function placeLevel(axis: Axis, value: Level): number {
  const found = axis.levels.indexOf(value);
  if (found >= 0) return found;
  let place = axis.levels.length;
  if (typeof value === "number") {
    const after = axis.levels.findIndex((other) => typeof other === "number" && other > value);
    if (after >= 0) place = after;
  }
  axis.levels.splice(place, 0, value);
  axis.labels.splice(place, 0, level(value, axis.kind));
  axis.numeric = isNumeric(axis.kind, axis.levels);
  for (let row = 0; row < axis.at.length; row += 1) if ((axis.at[row] ?? -1) >= place) axis.at[row] = (axis.at[row] ?? 0) + 1;
  return place;
}

function determines(leader: Axis, axis: Axis, rows: number): boolean {
  if (rows === 0 || leader.levels.length < axis.levels.length) return false;
  const seen = new Map<number, number>();
  for (let row = 0; row < rows; row += 1) {
    const key = leader.at[row] ?? -1;
    const value = axis.at[row] ?? -1;
    if ((seen.get(key) ?? value) !== value) return false;
    seen.set(key, value);
  }
  return new Set(seen.values()).size > 1 && seen.size < rows; // any axis fixes the one level with which a run begins
}
