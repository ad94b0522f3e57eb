// Which row of the results stands in which cell: a matrix over the axes the reader chose, or a sorted list.

import { tellApart } from "./format";
import type { Marks } from "./marks";
import type { Mode, View } from "./state";
import type { Axis, Table } from "./table";

export interface Head {
  label: string;
  name: string; // the label, cut to what tells it apart
  over: string; // the level of the super-axis, "" where there is none
  overName: string;
  group: number; // counts up where the super-axis changes
  level: number; // of the axis, -1 where there is none
  overLevel: number;
}

export interface Layout {
  kind: "matrix" | "list";
  rows: Head[];
  cols: Head[];
  at: (row: number, col: number) => number; // row of the results; -1: there is none; -2: the filter hides it; -3: the experiment leaves it out
  shown: number; // images in the grid
  passing: number; // rows that pass the filter
  sliders: Axis[];
  find: (row: number) => [number, number] | null;
}

/** Axes that are neither on the grid, nor fixed by one that is, nor constant. */
export function slidersFor(view: View, table: Table): Axis[] {
  const leaders = [view.x, view.y, view.sx, view.sy].map((name) => table.axis(name)).filter((axis): axis is Axis => axis !== null);
  const sliders: Axis[] = [];
  for (const axis of table.axes) {
    if (axis.levels.length < 2 || leaders.includes(axis)) continue;
    if (leaders.some((leader) => table.follows(axis, leader))) continue;
    sliders.push(axis);
    leaders.push(axis);
  }
  return sliders;
}

/** The order of an axis's levels where it is not their own: the place of each level. */
export type Ranks = Map<string, number[]>;

export function matrix(view: View, table: Table, mask: Uint8Array, ranks: Ranks = new Map()): Layout {
  const [x, y, sx, sy] = [view.x, view.y, view.sx, view.sy].map((name) => table.axis(name)) as [Axis | null, Axis | null, Axis | null, Axis | null];
  const sliders = slidersFor(view, table);
  const cells = new Map<number, number>();
  const [nx, nsx, ny] = [x?.levels.length ?? 1, sx?.levels.length ?? 1, y?.levels.length ?? 1];
  const width = nx * nsx;
  const usedCols = new Set<number>();
  const usedRows = new Set<number>();
  let passing = 0;
  for (let row = 0; row < table.rows; row += 1) {
    if (mask[row]) passing += 1;
    if (sliders.some((axis) => (axis.at[row] ?? -1) !== (view.slide[axis.name] ?? 0))) continue;
    const col = at(sx, row) * nx + at(x, row);
    const line = at(sy, row) * ny + at(y, row);
    if (mask[row]) {
      usedCols.add(col);
      usedRows.add(line);
    }
    const place = line * width + col;
    const before = cells.get(place);
    if (before === undefined || (mask[row] && !mask[before])) cells.set(place, row);
  }
  const leftOut = leftOutPlaces(table, sliders, view, (level) => [level(sx) * nx + level(x), level(sy) * ny + level(y)], width);
  if (!mask.includes(0)) expect(usedCols, width, usedRows, ny * (sy?.levels.length ?? 1));
  const cols = heads(usedCols, x, sx, ranks);
  const rows = heads(usedRows, y, sy, ranks);
  return {
    kind: "matrix",
    rows: rows.heads,
    cols: cols.heads,
    at: (r, c) => {
      const place = (rows.places[r] ?? -1) * width + (cols.places[c] ?? -1);
      const row = cells.get(place);
      return row === undefined ? (leftOut.has(place) ? -3 : -1) : mask[row] ? row : -2;
    },
    shown: countShown(cells, mask),
    passing,
    sliders,
    find: (row) => {
      const r = rows.places.indexOf(at(sy, row) * ny + at(y, row));
      const c = cols.places.indexOf(at(sx, row) * nx + at(x, row));
      return r >= 0 && c >= 0 && cells.get((rows.places[r] ?? 0) * width + (cols.places[c] ?? 0)) === row ? [r, c] : null;
    },
  };
}

function at(axis: Axis | null, row: number): number {
  return axis ? (axis.at[row] ?? 0) : 0;
}

/** The cells that the experiment's conditions leave out, at the levels the sliders stand at. */
function leftOutPlaces(table: Table, sliders: Axis[], view: View, placeOf: (level: (axis: Axis | null) => number) => [number, number], width: number): Set<number> {
  const places = new Set<number>();
  for (const levels of table.payload.leftOut) {
    const levelOf = (axis: Axis | null): number => (axis ? (levels[table.axes.indexOf(axis)] ?? 0) : 0);
    if (sliders.some((axis) => levelOf(axis) !== (view.slide[axis.name] ?? 0))) continue;
    const [col, line] = placeOf(levelOf);
    places.add(line * width + col);
  }
  return places;
}

/** Every level has its line from the start, also where nothing is rendered yet. */
function expect(cols: Set<number>, width: number, rows: Set<number>, height: number): void {
  for (let col = 0; col < width; col += 1) cols.add(col);
  for (let row = 0; row < height; row += 1) rows.add(row);
}

function countShown(cells: Map<number, number>, mask: Uint8Array): number {
  let shown = 0;
  for (const row of cells.values()) shown += mask[row] ?? 0;
  return shown;
}

function heads(used: Set<number>, axis: Axis | null, over: Axis | null, ranks: Ranks): { heads: Head[]; places: number[] } {
  const levels = axis?.levels.length ?? 1;
  const rank = (of: Axis | null, level: number): number => ranks.get(of?.name ?? "")?.[level] ?? level;
  const order = (place: number): number => rank(over, Math.floor(place / levels)) * levels + rank(axis, place % levels);
  const places = [...used].sort((a, b) => order(a) - order(b));
  const [names, overNames] = [tellApart(axis?.labels ?? []), tellApart(over?.labels ?? [])];
  let group = -1;
  let lastOver = -1;
  const found = places.map((place) => {
    const [overAt, level] = [Math.floor(place / levels), place % levels];
    if (overAt !== lastOver) group += 1;
    lastOver = overAt;
    const texts = { label: axis?.labels[level] ?? "", name: names[level] ?? "", over: over?.labels[overAt] ?? "", overName: overNames[overAt] ?? "" };
    return { ...texts, group, level: axis ? level : -1, overLevel: over ? overAt : -1 };
  });
  return { heads: found, places };
}

const noHead: Head = { label: "", name: "", over: "", overName: "", group: 0, level: -1, overLevel: -1 };

/** Rows wrapped into lines of `perLine`. */
export function list(order: number[], perLine: number): Layout {
  const rows = Array.from({ length: Math.ceil(order.length / perLine) }, (): Head => ({ ...noHead }));
  const cols = Array.from({ length: Math.min(perLine, order.length) }, (): Head => ({ ...noHead }));
  const places = new Map<number, number>();
  order.forEach((row, place) => places.set(row, place));
  return {
    kind: "list",
    rows,
    cols,
    at: (r, c) => order[r * perLine + c] ?? -1,
    shown: order.length,
    passing: order.length,
    sliders: [],
    find: (row) => {
      const place = places.get(row);
      return place === undefined ? null : [Math.floor(place / perLine), place % perLine];
    },
  };
}

interface Ordered {
  view: View;
  table: Table;
  mask: Uint8Array;
  marks: Marks;
}

/** Rows that pass, ordered by `view.sort`; blind: in an order that tells nothing but stays the same. */
export function sorted({ view, table, mask, marks }: Ordered): number[] {
  const order: number[] = [];
  for (let row = 0; row < table.rows; row += 1) if (mask[row]) order.push(row);
  if (view.blind) {
    const ranks = order.map((row) => shuffleRank(String(table.key[row])));
    const rank = new Map(order.map((row, place) => [row, ranks[place] ?? 0]));
    return order.sort((a, b) => (rank.get(a) ?? 0) - (rank.get(b) ?? 0));
  }
  const name = view.sort;
  if (!name || name === "index") return view.falling ? order.reverse() : order;
  const axis = table.axis(name);
  const sign = view.falling ? -1 : 1;
  const value = (row: number): string | number | null => {
    if (axis) return axis.at[row] ?? 0;
    if (name === "rating") return marks.of(row).stars - Number(marks.of(row).rejected);
    const found = table.value(row, name);
    return typeof found === "boolean" ? Number(found) : found;
  };
  return order.sort((a, b) => compare(value(a), value(b), sign) || a - b);
}

function compare(a: string | number | null, b: string | number | null, sign: number): number {
  if (a === null || b === null) return Number(a === null) - Number(b === null);
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * String(a).localeCompare(String(b));
}

function shuffleRank(text: string): number {
  let hash = 2166136261;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 16777619);
  return hash >>> 0;
}

/** The row a row is compared with, where that is another row; -1 where it is none. */
export function partner(row: number, view: View, table: Table): number {
  if (view.against === "pin") return view.pin;
  const match = /^axis:(.+?)=(\d+)$/.exec(view.against);
  if (!match) return -1;
  const axis = table.axis(match[1] ?? null);
  const level = Number(match[2]);
  if (!axis) return -1;
  return axis.at[row] === level ? row : siblings(table).find(row, axis, level);
}

interface Siblings {
  find: (row: number, axis: Axis, level: number) => number;
}

const siblingsOf = new WeakMap<Table, { rows: number; siblings: Siblings }>();

/** Finds the row with the same levels on every axis but one. */
function siblings(table: Table): Siblings {
  const kept = siblingsOf.get(table);
  if (kept && kept.rows === table.rows) return kept.siblings;
  const name = (row: number, axis: Axis | null, level: number): string =>
    table.axes.map((other) => (other === axis ? level : (other.at[row] ?? -1))).join(",");
  const byName = new Map<string, number>();
  for (let row = 0; row < table.rows; row += 1) byName.set(name(row, null, 0), row);
  const siblings: Siblings = { find: (row, axis, level) => byName.get(name(row, axis, level)) ?? -1 };
  siblingsOf.set(table, { rows: table.rows, siblings });
  return siblings;
}

export function needsPartner(mode: Mode, blink: boolean): boolean {
  return mode !== "plain" || blink;
}

export type Jump = "first" | "last" | "up" | "down";

/** The row a step away from `cursor`, -1 where there is none. */
export function step({ layout, cursor }: { layout: Layout; cursor: number }, down: number, right: number): number {
  const place = cursor >= 0 ? layout.find(cursor) : null;
  if (!place) return firstRow(layout);
  let [r, c] = place;
  for (;;) {
    r += Math.sign(down);
    c += Math.sign(right);
    if (layout.kind === "list" && c >= layout.cols.length) [r, c] = [r + 1, 0];
    if (layout.kind === "list" && c < 0) [r, c] = [r - 1, layout.cols.length - 1];
    if (r < 0 || c < 0 || r >= layout.rows.length || c >= layout.cols.length) return -1;
    const row = layout.at(r, c);
    if (row >= 0) return row;
  }
}

/** The row at the end of the line, or a page of `lines` further. */
export function jump({ layout, cursor }: { layout: Layout; cursor: number }, to: Jump, lines: number): number {
  const [r = 0, c = 0] = layout.find(cursor) ?? [];
  const line = to === "up" ? Math.max(0, r - lines) : to === "down" ? Math.min(layout.rows.length - 1, r + lines) : r;
  const cols = to === "last" ? [...layout.cols.keys()].reverse() : to === "first" ? [...layout.cols.keys()] : [c];
  return cols.map((col) => layout.at(line, col)).find((row) => row >= 0) ?? -1;
}

/** The first image of the first lines, -1 where they hold none. */
export function firstRow(layout: Layout): number {
  for (let r = 0; r < Math.min(layout.rows.length, 50); r += 1) {
    for (let c = 0; c < layout.cols.length; c += 1) if (layout.at(r, c) >= 0) return layout.at(r, c);
  }
  return -1;
}
