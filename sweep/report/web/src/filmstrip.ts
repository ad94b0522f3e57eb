// What an axis does, as images: under each of its levels the one whose metric is the median of those in sight.

import type { App } from "./app";
import { show } from "./cells";
import { h } from "./dom";
import { placeOf } from "./points";
import type { Axis, Column } from "./table";

const least = 34; // px an image
const gap = 2;

export interface Span {
  place: (level: number) => number; // px from the left of the chart
  width: number; // of the chart, px
}

/** A line of images under a chart; null where they would be too small or there is none. */
export function filmstrip(app: App, metric: Column, along: Axis, { place, width }: Span): HTMLElement | null {
  const rows = medians(app, metric, along);
  const apart = rows.length > 1 ? (place(placeOf(along, rows.at(-1) ?? 0)) - place(placeOf(along, rows[0] ?? 0))) / (rows.length - 1) : 0;
  const every = Math.max(1, Math.ceil((least + gap) / Math.max(1, apart)));
  const side = Math.min(84, apart * every - gap);
  if (rows.length < 2 || side < least) return null;
  const strip = h("div", { class: "strip", title: "At each level, the image whose metric is the median of those in sight" });
  strip.style.height = `${side}px`;
  rows.forEach((row, at) => {
    const thumb = at % every === 0 ? app.thumbs.thumb(row) : null;
    if (thumb === null) return;
    const image = h("img", { alt: app.table.describe(row), draggable: false });
    image.style.width = image.style.height = `${side}px`;
    image.style.left = `${Math.min(width - side, Math.max(0, place(placeOf(along, row)) - side / 2))}px`;
    show(image, thumb, "");
    image.addEventListener("click", () => app.goTo(row));
    image.addEventListener("pointerenter", () => app.setHover(row));
    image.addEventListener("pointerleave", () => app.setHover(-1));
    strip.append(image);
  });
  return strip;
}

/** At every level the row in the middle of those in sight that have an image, in the order of the levels. */
function medians({ table, chartMask, thumbs }: App, metric: Column, along: Axis): number[] {
  const byLevel: number[][] = along.levels.map(() => []);
  for (let row = 0; row < table.rows; row += 1) {
    if (chartMask[row] && typeof metric.values[row] === "number" && thumbs.thumb(row) !== null) byLevel[along.at[row] ?? -1]?.push(row);
  }
  const worth = (row: number): number => Number(metric.values[row]);
  return byLevel.filter((rows) => rows.length > 0).map((rows) => rows.sort((a, b) => worth(a) - worth(b) || a - b)[(rows.length - 1) >> 1] as number);
}
