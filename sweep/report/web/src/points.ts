// The images in sight as points of a response chart.

import type { App } from "./app";
import type { Axis, Column } from "./table";

export const mostPoints = 600;

export interface Point {
  row: number;
  x: number;
  y: number;
  group: number;
  line: string;
}

/** Where a level stands along an axis: its number, or its place among words. */
export function placeOf(axis: Axis, row: number): number {
  const at = axis.at[row] ?? 0;
  return axis.numeric ? Number(axis.levels[at]) : at;
}

/** The rows in sight as points, an even sample of them where they are many. */
export function pointsOf(app: App, metric: Column, along: Axis, group: Axis | null): Point[] {
  const { table, chartMask: mask } = app;
  const others = table.axes.filter((axis) => axis !== along);
  const rows: number[] = [];
  for (let row = 0; row < table.rows; row += 1) if (mask[row] && typeof metric.values[row] === "number") rows.push(row);
  const count = Math.min(rows.length, mostPoints);
  const points: Point[] = [];
  for (let drawn = 0; drawn < count; drawn += 1) {
    const row = rows[Math.floor((drawn * rows.length) / count)] ?? 0;
    points.push({ row, x: placeOf(along, row), y: Number(metric.values[row]), group: group?.at[row] ?? 0, line: others.map((axis) => axis.at[row]).join(",") });
  }
  return points.sort((a, b) => a.x - b.x);
}
