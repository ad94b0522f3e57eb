// A rectangle drawn over a chart with the pointer, and what it is told: hovering, choosing, brushing.

import { setRect, svg } from "./plots";

export type Spot = [x: number, y: number];

export interface Heard {
  hovered: (spot: Spot, event: PointerEvent) => void;
  left: () => void;
  brushed: (from: Spot, to: Spot) => void;
  clicked: () => void;
}

/** Listens on a chart; `kept` are the corners of the brush in force. Spots are in the chart's own coordinates. */
export function brushOver(plot: SVGSVGElement, kept: [Spot, Spot] | null, heard: Heard): void {
  const brush = svg("rect", { class: "brush" }) as SVGRectElement;
  plot.append(brush);
  if (kept) setRect(brush, ...kept);
  let from: Spot | null = null;
  const spot = (event: PointerEvent): Spot => {
    const box = plot.getBoundingClientRect();
    const { width, height } = plot.viewBox.baseVal;
    return [((event.clientX - box.left) * width) / box.width, ((event.clientY - box.top) * height) / box.height];
  };
  plot.addEventListener("pointerdown", (event) => {
    from = spot(event);
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointermove", (event) => {
    if (from) setRect(brush, from, spot(event));
    else heard.hovered(spot(event), event);
  });
  plot.addEventListener("pointerup", (event) => {
    const to = spot(event);
    if (from && Math.hypot(to[0] - from[0], to[1] - from[1]) > 6) heard.brushed(from, to);
    else heard.clicked();
    from = null;
  });
  plot.addEventListener("pointerleave", heard.left);
}
