// One cell of the grid: its image, what it is compared with, its caption or the reason why there is no image.

import type { App } from "./app";
import type { Scale } from "./colour";
import { h } from "./dom";
import { number } from "./format";
import { needsPartner } from "./layout";
import { holds } from "./verdict";

export interface CellView {
  element: HTMLElement;
  image: HTMLImageElement;
  other: HTMLImageElement | null;
  caption: HTMLElement | null;
  badge: HTMLElement | null;
  shows: string;
}

export class CellPainter {
  #width = 0;
  #captionHeight = 0;
  #scale: Scale | null = null;

  constructor(private readonly app: App) {}

  /** Sizes in px, and the colours of the captions. */
  set({ width, caption, scale }: { width: number; caption: number; scale: Scale | null }): void {
    this.#width = width;
    this.#captionHeight = caption;
    this.#scale = scale;
  }

  /** Shows a row of the results in a cell; -1: there is none, -2: the filter hides it. Cheap where nothing changed. */
  paint(cell: CellView, row: number): void {
    const { app } = this;
    const { view, table, thumbs } = app;
    const mark = app.marks.of(row);
    const thumb = row >= 0 ? thumbs.thumb(row) : null;
    const large = this.#width * view.zoom * devicePixelRatio > 320;
    const source = thumb === null ? "" : large ? (thumbs.full(row) ?? thumb) : thumb;
    const other = needsPartner(view.mode, view.blink) && thumb !== null ? app.reference(row) : null;
    const against = other ? (large ? (other.full ?? other.thumb) : other.thumb) : "";
    const status = row >= 0 ? String(table.status[row]) : "";
    const text = this.#captionHeight > 0 && row >= 0 ? this.#caption(row) : "";
    const colour = row >= 0 ? (this.#scale?.colour(row) ?? "") : "";
    const fell = row >= 0 ? this.#fallen(row) : "";
    const share = thumb === null && row >= 0 ? (table.share[row] ?? null) : null;
    const shows = [row, fell, share, source.length, source.slice(-24), against.slice(-24), status, text, colour, mark.stars, mark.rejected, view.cursor === row, view.pin === row].join("|");
    if (shows === cell.shows) return;
    cell.shows = shows;
    const { element } = cell;
    element.dataset.row = String(row);
    element.id = row >= 0 ? `cell-${row}` : "";
    element.className = cellClass(row, thumb, status, table.payload.live?.running === true) + (against ? " paired" : "");
    element.toggleAttribute("data-share", share !== null);
    if (share !== null) element.style.setProperty("--share", `${Math.round(share * 100)}%`);
    element.toggleAttribute("data-cursor", row >= 0 && view.cursor === row);
    element.toggleAttribute("data-pin", row >= 0 && view.pin === row);
    element.toggleAttribute("data-rejected", mark.rejected);
    if (mark.stars > 0) element.dataset.stars = "★".repeat(mark.stars);
    else delete element.dataset.stars;
    element.setAttribute("aria-selected", String(row >= 0 && view.cursor === row));
    element.setAttribute("aria-label", [this.#spoken(row, status), fell && `fell below: ${fell}`].filter(Boolean).join(", "));
    const title = row < 0 ? this.#spoken(row, status) : "";
    if (element.title !== title) element.title = title;
    show(cell.image, source, thumb ?? "");
    this.#paintOther(cell, against, other?.thumb ?? "");
    this.#paintCaption(cell, row, thumb, status, text, colour);
    this.#paintBadge(cell, fell);
  }

  /** The value of an image that fell below the threshold, "" for the others: only exceptions carry a number. */
  #fallen(row: number): string {
    const { verdict, view } = this.app;
    if (!verdict || !view.mark || view.blind || this.#width < 40 || holds(verdict, row) !== false) return "";
    const value = Number(verdict.metric.values[row]);
    const digits = [2, 3, 4].find((count) => Number(value.toPrecision(count)) !== verdict.threshold);
    return number(value, digits ?? 5); // 0.896 is not written as the 0.9 that it missed
  }

  #paintBadge(cell: CellView, text: string): void {
    if (!text) {
      cell.badge?.remove();
      cell.badge = null;
      return;
    }
    if (!cell.badge) {
      cell.badge = h("span", { class: "fell" });
      cell.element.append(cell.badge);
    }
    cell.badge.textContent = text;
  }

  #paintOther(cell: CellView, address: string, fallback: string): void {
    if (address && !cell.other) {
      cell.other = h("img", { class: "b", alt: "", draggable: false, decoding: "async" });
      cell.image.after(cell.other);
    }
    if (!cell.other) return;
    if (address) show(cell.other, address, fallback);
    else {
      cell.other.remove();
      cell.other = null;
    }
  }

  #paintCaption(cell: CellView, row: number, thumb: string | null, status: string, text: string, colour: string): void {
    const message = row === -3 && this.#width >= 56 ? "left out" : row >= 0 && thumb === null ? this.#message(row, status) : "";
    if (!text && !message && !colour) {
      cell.caption?.remove();
      cell.caption = null;
      return;
    }
    if (!cell.caption) {
      cell.caption = h("span", {});
      cell.element.append(cell.caption);
    }
    cell.caption.className = message ? "message" : this.app.layout.kind === "list" ? "cap list" : "cap";
    cell.caption.textContent = message || text;
    cell.caption.title = message || text;
    if (colour) cell.caption.style.setProperty("--colour", colour);
    else cell.caption.style.removeProperty("--colour");
  }

  #message(row: number, status: string): string {
    if (status === "failed") return `failed\n${this.#reason(row)}`;
    if (status === "cancelled") return "cancelled";
    if (status === "missing") return this.#width < 110 ? "only in the other run" : `only in ${this.app.table.payload.runs?.other ?? "the other run"}`;
    if (status === "completed") return this.#width < 90 ? "missing" : "image missing or unreadable";
    if (status === "queued") return "";
    const share = this.app.table.share[row] ?? null;
    return status === "pending" ? "tries again" : share === null ? "rendering" : `${Math.round(share * 100)} %`;
  }

  #caption(row: number): string {
    const { view, table } = this.app;
    const worth = (name: string | null): string => {
      const value = name ? table.value(row, name) : null;
      return typeof value === "number" ? number(value) : "";
    };
    if (this.app.layout.kind === "matrix") return this.#width >= 44 ? worth(view.colour) : "";
    const values = table.axes.filter((axis) => axis.levels.length > 1).map((axis) => axis.labels[axis.at[row] ?? -1] ?? "none");
    const names = [...new Set([table.axis(view.sort) ? null : view.sort, view.colour])].filter((name) => name !== null);
    const numbers = names.map(worth).filter(Boolean);
    return [numbers.join(" · "), values.join(" · ")].filter(Boolean).join("\n");
  }

  #spoken(row: number, status: string): string {
    if (row === -3) return "left out by the experiment's conditions";
    if (row === -2) return "hidden by the filter";
    if (row < 0) return this.app.table.payload.live?.running ? "queued" : "not rendered";
    if (this.app.view.blind) return "an image";
    return `${this.app.table.describe(row)}${status === "completed" ? "" : `, ${status}`}${status === "failed" ? ` ${this.#reason(row)}` : ""}`;
  }

  /** Without the kind of the error and its node, for which a cell has no room; the panel has them. */
  #reason(row: number): string {
    return String(this.app.table.error[row] ?? "the server gave no reason").replace(/^\w*(Error|Exception): (\w+: )?/, "");
  }
}

interface Address {
  is: string;
  fallback: string;
}

const addresses = new WeakMap<HTMLImageElement, Address>(); // beside the elements: an attribute would hold a data address twice

/** Puts an image into an element; the former one is not seen while the next is on its way. */
export function show(image: HTMLImageElement, address: string, fallback: string): void {
  const known = addresses.get(image);
  if (known?.is === address) return;
  addresses.set(image, { is: address, fallback });
  if (!known) [image.onload, image.onerror] = [arrive, fail];
  image.hidden = !address;
  if (!address) return image.removeAttribute("src");
  const parent = image.parentElement?.classList;
  if (parent?.contains("broken") || parent?.contains("preview")) parent.remove("broken", "preview");
  if (!image.classList.contains("coming")) image.classList.add("coming");
  image.src = address;
}

function arrive(this: GlobalEventHandlers): void {
  if (this instanceof HTMLImageElement) this.classList.remove("coming");
}

function fail(this: GlobalEventHandlers): void {
  if (!(this instanceof HTMLImageElement)) return;
  const { is, fallback } = addresses.get(this) ?? { is: "", fallback: "" };
  if (!fallback || is === fallback) return this.parentElement?.classList.add("broken");
  show(this, fallback, "");
  this.parentElement?.classList.add("preview");
  this.dispatchEvent(new Event("preview", { bubbles: true }));
}

export function newCell(): CellView {
  const image = h("img", { class: "a", alt: "", draggable: false, decoding: "async" });
  return { element: h("div", { role: "gridcell" }, image), image, other: null, caption: null, badge: null, shows: "" };
}

function cellClass(row: number, thumb: string | null, status: string, running: boolean): string {
  if (row === -3) return "cell left-out";
  if (row === -2) return "cell filtered";
  if (row < 0) return running ? "cell queued" : "cell absent";
  if (thumb !== null) return "cell has";
  if (status === "failed") return "cell failed";
  if (["completed", "cancelled", "missing"].includes(status)) return "cell lost";
  if (status === "queued") return "cell queued";
  return status === "pending" ? "cell retrying" : "cell rendering";
}

/** Row of the results that an element belongs to, -1 where it belongs to none. */
export function rowUnder(target: EventTarget | null): number {
  const cell = target instanceof Element ? target.closest<HTMLElement>("[data-row]") : null;
  return cell ? Number(cell.dataset.row) : -1;
}
