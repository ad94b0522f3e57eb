// Colours that carry meaning: a perceptual ramp for metrics, quiet series colours for charts.

import type { Column, Table } from "./table";

// After viridis (Smith and van der Walt, CC0): readable in print, in both themes and without red–green vision.
const stops = ["#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725"].map((hex) =>
  [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)),
);

export function ramp(t: number): string {
  const place = Math.min(1, Math.max(0, t)) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(place));
  const part = place - low;
  const mixed = [0, 1, 2].map((at) => Math.round((stops[low]?.[at] ?? 0) * (1 - part) + (stops[low + 1]?.[at] ?? 0) * part));
  return `rgb(${mixed.join(" ")})`;
}

export interface Scale {
  column: Column;
  low: number;
  high: number;
  colour: (row: number) => string | null;
}

const kept = new WeakMap<Column, { rows: number; scale: Scale }>();

/** The colours of a column over all its values. */
export function scaleOf(name: string | null, table: Table): Scale | null {
  const column = table.column(name);
  if (!column?.numeric) return null;
  const before = kept.get(column);
  if (before && before.rows === table.rows) return before.scale;
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of column.values) {
    if (typeof value !== "number") continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const colour = (row: number): string | null => {
    const value = column.values[row];
    return typeof value === "number" && high > low ? ramp((value - low) / (high - low)) : null; // one value has no colour
  };
  const scale = { column, low, high, colour };
  kept.set(column, { rows: table.rows, scale });
  return scale;
}

/** The series colours of the theme in use, from the stylesheet. */
export function series(at: number): string {
  return `var(--series-${(at % 8) + 1})`;
}
