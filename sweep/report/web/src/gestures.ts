// Zoom, pan and the compare slider by pointer; every image in sight follows the one under the pointer.

import type { App } from "./app";
import { clamp } from "./dom";

export const farthest = 32;

export class Gestures {
  #from: { x: number; y: number; panX: number; panY: number; split: boolean; box: DOMRect; moved: boolean } | null = null;

  readonly #fingers = new Map<number, [number, number]>();
  #pinch: { distance: number; zoom: number; box: DOMRect } | null = null;

  constructor(
    private readonly app: App,
    private readonly element: HTMLElement,
    private readonly image: string,
  ) {}

  listen(): void {
    const { element } = this;
    element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    element.addEventListener("pointerdown", (event) => this.#down(event));
    element.addEventListener("pointermove", (event) => this.#move(event));
    element.addEventListener("pointerup", (event) => this.#up(event));
    element.addEventListener("pointercancel", (event) => this.#up(event));
    element.addEventListener(
      "click",
      (event) => {
        if (element.dataset.dragged) event.stopPropagation();
        delete element.dataset.dragged;
      },
      true,
    );
  }

  #box(target: EventTarget | null): DOMRect | null {
    const found = target instanceof Element ? target.closest(this.image) : null;
    return found ? (found.querySelector("img") ? imageBox(found) : found.getBoundingClientRect()) : null;
  }

  #wheel(event: WheelEvent): void {
    const box = this.#box(event.target);
    if (!box || !(event.ctrlKey || event.metaKey || this.element.dataset.wheel)) return;
    event.preventDefault();
    const point = [((event.clientX - box.left) / box.width) * 100, ((event.clientY - box.top) / box.height) * 100] as const;
    zoomTo(this.app, this.app.view.zoom * Math.exp(-event.deltaY * 0.0025), point);
  }

  #down(event: PointerEvent): void {
    const box = this.#box(event.target);
    if (!box || event.button !== 0) return;
    const { view } = this.app;
    this.#fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.#fingers.size === 2) {
      this.#from = null;
      this.#pinch = { distance: this.#spread(), zoom: view.zoom, box };
      return;
    }
    const split = view.mode === "compare" && !event.shiftKey;
    if (!split && view.zoom <= 1) return;
    if (event.pointerType === "touch" && !split && view.zoom <= 1) return;
    this.#from = { x: event.clientX, y: event.clientY, panX: view.panX, panY: view.panY, split, box, moved: false };
  }

  #spread(): number {
    const [a = [0, 0], b = [0, 0]] = [...this.#fingers.values()];
    return Math.max(1, Math.hypot((a[0] ?? 0) - (b[0] ?? 0), (a[1] ?? 0) - (b[1] ?? 0)));
  }

  #move(event: PointerEvent): void {
    if (this.#fingers.has(event.pointerId)) this.#fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.#pinch && this.#fingers.size === 2) {
      const { distance, zoom, box } = this.#pinch;
      const [x, y] = [0, 1].map((side) => [...this.#fingers.values()].reduce((sum, place) => sum + (place[side] ?? 0), 0) / 2) as [number, number];
      zoomTo(this.app, (zoom * this.#spread()) / distance, [((x - box.left) / box.width) * 100, ((y - box.top) / box.height) * 100]);
      return;
    }
    const from = this.#from;
    if (!from || event.buttons === 0) return;
    const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
    if (!from.moved && Math.hypot(dx, dy) < 4) return;
    if (!from.moved) this.element.setPointerCapture(event.pointerId);
    from.moved = true;
    this.element.dataset.dragged = "1";
    if (from.split) this.app.store.set({ split: clamp(((event.clientX - from.box.left) / from.box.width) * 100, 0, 100) });
    else this.app.store.set(within(this.app.view.zoom, from.panX + (dx / from.box.width) * 100, from.panY + (dy / from.box.height) * 100));
  }

  #up(event: PointerEvent): void {
    this.#fingers.delete(event.pointerId);
    if (this.#fingers.size < 2) this.#pinch = null;
    if (this.#from && !this.#from.moved) delete this.element.dataset.dragged;
    this.#from = null;
  }
}

function imageBox(cell: Element): DOMRect {
  const box = cell.getBoundingClientRect();
  const height = Number.parseFloat(getComputedStyle(cell).getPropertyValue("--pic-h")) || box.height;
  return new DOMRect(box.left, box.top, box.width, cell.classList.contains("stage") ? box.height : height);
}

/** Zooms all images so that the point (in percent of the image's frame) stays where it is. */
export function zoomTo(app: App, wanted: number, [x, y]: readonly [number, number] = [50, 50]): void {
  const { zoom, panX, panY } = app.view;
  const next = clamp(wanted, 1, farthest);
  const factor = next / zoom;
  app.store.set({ zoom: next, ...within(next, x - (x - panX) * factor, y - (y - panY) * factor) });
}

/** Pan limited so that the image covers its frame. */
export function within(zoom: number, panX: number, panY: number): { panX: number; panY: number } {
  const least = 100 - 100 * zoom;
  return { panX: clamp(panX, least, 0), panY: clamp(panY, least, 0) };
}
