// Which axis stands where when a page is opened: so that most of the experiment is seen at once.

import type { Axis } from "./table";

export type Place = "x" | "y" | "sx" | "sy";
export type Arrangement = Record<Place, Axis | null>;

export interface Room {
  width: number;
  height: number;
}

const gap = 3;
const [least, most] = [48, 300]; // px a cell
const mostAxes = 6; // that are tried
const letter = 7; // px

/** The best of all arrangements of up to four axes. `main` is the axis that the page is about. */
export function chooseArrangement(axes: Axis[], main: Axis | null, room: Room): Arrangement {
  let best: Arrangement = { x: axes[0] ?? null, y: null, sx: null, sy: null };
  let bestScore = Number.NEGATIVE_INFINITY;
  for (const candidate of arrangements(axes.slice(0, mostAxes))) {
    const score = scoreOf(candidate, axes, main, room);
    if (score > bestScore) [best, bestScore] = [candidate, score];
  }
  return best;
}

function* arrangements(axes: Axis[]): Generator<Arrangement> {
  const places: Place[][] = [["x"], ["x", "y"], ["x", "y", "sx"], ["x", "y", "sy"], ["x", "sx"], ["x", "y", "sx", "sy"]];
  for (const chosen of places) {
    for (const order of ordered(axes, chosen.length)) {
      const found: Arrangement = { x: null, y: null, sx: null, sy: null };
      chosen.forEach((place, at) => (found[place] = order[at] ?? null));
      yield found;
    }
  }
}

function* ordered(axes: Axis[], count: number): Generator<Axis[]> {
  if (count === 0) return yield [];
  for (const axis of axes) for (const rest of ordered(axes.filter((other) => other !== axis), count - 1)) yield [axis, ...rest];
}

const size = (axis: Axis | null): number => axis?.levels.length ?? 1;

/** The part of all images in sight in percent, then large cells, then a familiar order. */
function scoreOf(given: Arrangement, axes: Axis[], main: Axis | null, room: Room): number {
  const { x, y, sx, sy } = given;
  const [cols, rows] = [size(x) * size(sx), size(y) * size(sy)];
  const all = axes.reduce((product, axis) => product * size(axis), 1);
  const width = room.width - (y ? Math.min(150, room.width * 0.2) : 20) - (size(sx) - (sx ? 1 : 0)) * 12;
  const height = room.height - 60 - (sx ? 22 : 0) - (sy ? size(sy) * 25 : 0);
  const cell = clamp(Math.min(width / cols, Math.max(height / rows, 64)) - gap, least, most);
  const seen = Math.min(cols, Math.floor(width / (cell + gap))) * Math.min(rows, Math.max(1, Math.floor(height / (cell + gap))));
  return (seen / all) * 100 + Math.min(cell, 160) / 16 + habits(given, main) - 30 * cutOf(x, cell);
}

/** How much of the names over the columns is cut off, 0 to 1. */
function cutOf(x: Axis | null, cell: number): number {
  const longest = Math.max(0, ...(x?.labels ?? []).slice(0, 100).map((label) => label.length)) * letter;
  return x?.kind === "text" && longest > cell ? 1 - cell / longest : 0;
}

/** What readers expect: the main axis across, seeds innermost, texts down, no more nesting than needed. */
function habits({ x, y, sx, sy }: Arrangement, main: Axis | null): number {
  let score = -1.5 * Number(sx !== null) - 1.5 * Number(sy !== null);
  if (main) score += main === x || main === sx ? 6 : 0;
  if (sx?.kind === "seed") score -= 4;
  if (sy?.kind === "seed") score -= 4;
  if (x?.kind === "seed" && !sx) score -= 3;
  if (y && !y.numeric && y.kind !== "seed") score += 2;
  if (sy && !sy.numeric && sy.kind !== "seed") score += 2;
  return score;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
