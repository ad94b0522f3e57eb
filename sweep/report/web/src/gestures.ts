// Zoom, pan and the compare slider by pointer; every picture in sight follows the one under the pointer.

import type { App } from "./app";
import { clamp } from "./dom";

export const farthest = 32;

export class Gestures {
  #from: { x: number; y: number; panX: number; panY: number; split: boolean; box: DOMRect; moved: boolean } | null = null;

  constructor(
    private readonly app: App,
    private readonly element: HTMLElement,
    private readonly picture: string,
  ) {}

  listen(): void {
    const { element } = this;
    element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    element.addEventListener("pointerdown", (event) => this.#down(event));
    element.addEventListener("pointermove", (event) => this.#move(event));
    element.addEventListener("pointerup", () => this.#up());
    element.addEventListener("pointercancel", () => this.#up());
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
    const found = target instanceof Element ? target.closest(this.picture) : null;
    return found ? (found.querySelector("img") ? pictureBox(found) : found.getBoundingClientRect()) : null;
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
    const split = view.mode === "compare" && !event.shiftKey;
    if (!split && view.zoom <= 1) return;
    if (event.pointerType === "touch" && !split && view.zoom <= 1) return;
    this.#from = { x: event.clientX, y: event.clientY, panX: view.panX, panY: view.panY, split, box, moved: false };
  }

  #move(event: PointerEvent): void {
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

  #up(): void {
    if (this.#from && !this.#from.moved) delete this.element.dataset.dragged;
    this.#from = null;
  }
}

function pictureBox(cell: Element): DOMRect {
  const box = cell.getBoundingClientRect();
  const height = Number.parseFloat(getComputedStyle(cell).getPropertyValue("--pic-h")) || box.height;
  return new DOMRect(box.left, box.top, box.width, cell.classList.contains("stage") ? box.height : height);
}

/** Zooms all pictures so that the point (in percent of the picture's frame) stays where it is. */
export function zoomTo(app: App, wanted: number, [x, y]: readonly [number, number] = [50, 50]): void {
  const { zoom, panX, panY } = app.view;
  const next = clamp(wanted, 1, farthest);
  const factor = next / zoom;
  app.store.set({ zoom: next, ...within(next, x - (x - panX) * factor, y - (y - panY) * factor) });
}

/** Pan limited so that the picture covers its frame. */
export function within(zoom: number, panX: number, panY: number): { panX: number; panY: number } {
  const least = 100 - 100 * zoom;
  return { panX: clamp(panX, least, 0), panY: clamp(panY, least, 0) };
}
