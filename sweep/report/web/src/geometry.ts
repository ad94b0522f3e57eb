// Where everything on the grid lies, in px: computed from the layout and the room there is, without touching the page.

import type { App } from "./app";
import { scaleOf } from "./colour";
import { clamp } from "./dom";
import type { Head } from "./layout";

export const gap = 3;
export const mostCells = 400;
const groupGap = 12;
const groupLine = 25; // a group's own heading, over its lines
const superLine = 22; // a group's own heading, over its columns
const nameLine = 20;
const labelLine = 26;
const sumLine = 26;

export interface Group {
  label: string;
  name: string;
  first: number;
  last: number;
}

export interface Geometry {
  asList: boolean;
  hasRowHeads: boolean;
  cellWidth: number;
  picHeight: number;
  captionHeight: number;
  headWidth: number;
  headHeight: number;
  nameHeight: number; // of the line with the name of the axis across
  sumWidth: number; // of the counts beside the lines, 0 where there are none
  sumHeight: number;
  groupHeight: number; // of a heading over lines, 0 where lines are not grouped
  colAt: Float64Array; // left of each column, then the end
  rowAt: Float64Array;
  groups: Group[]; // of lines
}

interface Room {
  width: number;
  height: number;
}

/** Measures the grid; a list is wrapped anew to fit the room, which changes `app.layout`. */
export function geometryOf(app: App, room: Room): Geometry {
  const { view } = app;
  const aspect = aspectOf(app);
  const asList = app.layout.kind === "list" || view.sort !== null || view.blind;
  const hasRowHeads = !asList && app.layout.rows.some((row) => row.label);
  const headWidth = hasRowHeads ? headWidthOf(app, room.width) : room.width < 560 ? 10 : 20;
  const hasSums = !asList && app.verdict !== null && app.verdict.total.images > 0;
  const sumWidth = hasSums ? (room.width < 430 ? 44 : 68) : 0;
  const cellWidth = Math.round(wantedSize(app, { ...room, width: room.width - sumWidth }, headWidth, aspect));
  const picHeight = Math.round(cellWidth * aspect);
  const captionHeight = captionHeightOf(app, asList, cellWidth);
  if (asList) {
    app.perLine = Math.max(1, Math.floor((room.width - headWidth - 4) / (cellWidth + gap)));
    app.arrange();
  }
  const { cols, rows } = app.layout;
  const supers = cols.some((col) => col.over);
  const groups = asList ? [] : groupsOf(rows);
  const groupHeight = groups.length > 0 ? groupLine : 0;
  return {
    asList,
    hasRowHeads,
    cellWidth,
    picHeight,
    captionHeight,
    headWidth,
    nameHeight: !asList && cols.some((col) => col.label) ? nameLine : 0,
    sumWidth,
    sumHeight: hasSums ? sumLine : 0,
    headHeight: asList || !cols.some((col) => col.label) ? 0 : nameLine + labelLine + (supers ? superLine : 0),
    groupHeight,
    colAt: places(cols, cellWidth + gap, 0, groupGap),
    rowAt: places(rows, picHeight + captionHeight + gap, groupHeight, groupHeight),
    groups,
  };
}

function captionHeightOf({ view, table }: App, asList: boolean, cellWidth: number): number {
  if (view.blind) return 0;
  if (asList) return cellWidth < 70 ? 17 : 34;
  return scaleOf(view.colour, table) ? 17 : 0;
}

/** The smallest cell at which no more than `mostCells` are in sight. */
export function smallest(app: App, { width, height }: Room): number {
  const { kind, cols, rows, shown } = app.layout;
  const all = kind === "list" ? shown : cols.length * rows.length;
  return all <= mostCells ? 40 : Math.ceil(Math.max(40, Math.sqrt((width * height) / mostCells / aspectOf(app))));
}

function wantedSize(app: App, room: Room, headWidth: number, aspect: number): number {
  const least = smallest(app, room);
  if (app.view.size > 0) return clamp(app.view.size, least, 1024);
  const { kind, cols, rows } = app.layout;
  const columns = Math.max(1, kind === "list" ? 6 : cols.length);
  const groups = cols.at(-1)?.group ?? 0;
  const fitting = (room.width - headWidth - 8 - columns * gap - groups * groupGap) / columns;
  const tall = (room.height - 90) / Math.min(Math.max(1, rows.length), 2.4) / aspect;
  const smaller = fitting >= 44 ? 44 : 56; // small cells where that brings all columns into sight, and only there
  return clamp(Math.min(fitting, Math.max(tall, 110)), Math.max(smaller, least), Math.min(columns * rows.length <= 6 ? 480 : 320, naturalSize(app)));
}

/** The width of the widest of the first images: the grid does not enlarge an image unless asked to. */
function naturalSize({ table }: App): number {
  const widths = table.images.width.slice(0, 200).filter((width) => typeof width === "number");
  return widths.length > 0 ? Math.max(96, ...widths) : 320;
}

/** Room for the longest label of a line, and for the name of the axis if that is not much longer. */
function headWidthOf(app: App, width: number): number {
  const phone = width < 430;
  const longest = Math.max(0, ...app.layout.rows.slice(0, 400).map((row) => row.name.length));
  const named = Math.max(...[app.view.sx ? app.view.x : null, app.view.y].map((name) => (app.table.axis(name)?.label.length ?? 0) + 2));
  const wanted = Math.max(longest * 7.2, Math.min(phone ? 48 : 140, named * 7.2)) + (phone ? 18 : 30);
  return Math.round(clamp(wanted, phone ? 40 : 56, phone ? 92 : 190));
}

/** The shape of most images: height by width. */
function aspectOf(app: App): number {
  const { width, height } = app.table.images;
  const found: number[] = [];
  for (let row = 0; row < app.table.rows && found.length < 60; row += 1) {
    const [w, t] = [width[row], height[row]];
    if (typeof w === "number" && typeof t === "number" && w > 0) found.push(t / w);
  }
  found.sort((a, b) => a - b);
  return clamp(found[found.length >> 1] ?? 1, 0.4, 2.5);
}

function groupsOf(heads: Head[]): Group[] {
  const groups: Group[] = [];
  heads.forEach((head, at) => {
    if (!head.over) return;
    const group = groups[head.group];
    if (group) group.last = at;
    else groups[head.group] = { label: head.over, name: head.overName, first: at, last: at };
  });
  return groups;
}

function places(heads: { group: number }[], step: number, before: number, between: number): Float64Array {
  const found = new Float64Array(heads.length + 1);
  found[0] = before;
  for (let at = 0; at < heads.length; at += 1) {
    const newGroup = at + 1 < heads.length && heads[at + 1]?.group !== heads[at]?.group;
    found[at + 1] = (found[at] ?? 0) + step + (newGroup ? between : 0);
  }
  return found;
}

/** First and past-the-last of what lies between two places. */
export function range(at: Float64Array, from: number, to: number): [number, number] {
  const length = at.length - 1;
  let [low, high] = [0, length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((at[middle + 1] ?? 0) <= from) low = middle + 1;
    else high = middle;
  }
  let end = low;
  while (end < length && (at[end] ?? 0) < to) end += 1;
  return [low, end];
}
