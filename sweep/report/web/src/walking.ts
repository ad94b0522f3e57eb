// Where the keys lead in a layout: from one image to another, over cells that hold none.

import type { Layout } from "./layout";

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
