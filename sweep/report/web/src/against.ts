// What an image can be compared with, and how the comparison is read.

import type { App } from "./app";

/** [value of `view.against`, words] of everything there is to compare with. */
export function againstOptions({ table, view }: App): [string, string][] {
  const options: [string, string][] = [];
  if (table.others) options.push(["run", `the same point in ${table.payload.runs?.other ?? "the other run"}`]);
  if (table.sources.some((source) => source.thumb)) options.push(["source", "the source image"]);
  options.push(["pin", view.pin >= 0 && !view.blind ? `pinned: ${table.describe(view.pin)}` : "the pinned image (p)"]);
  if (view.blind) return options;
  for (const axis of table.axes) {
    if (axis.levels.length < 2 || axis.levels.length > 60) continue;
    axis.labels.forEach((label, at) => options.push([`axis:${axis.name}=${at}`, `${axis.label} ${label}`]));
  }
  return options;
}

/** A line under the compared image; `has`: there is something to compare with. */
export function captionOf(app: App, has: boolean): string {
  const { view } = app;
  const name = againstOptions(app).find(([value]) => value === view.against)?.[1] ?? view.against;
  if (!has) return view.against === "pin" ? "Nothing is pinned: press p on an image to compare others with it." : `There is no image to compare with (${name}).`;
  if (view.blink) return `Showing ${name}.`;
  if (view.mode === "compare") return `Left: ${name}. Right: this image.`;
  return `Difference to ${name}${view.gain > 1 ? `, ${view.gain} times brighter` : ""}: black is equal.`;
}
