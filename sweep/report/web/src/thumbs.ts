// Where an image is found: embedded thumbnails arrive in chunks while the page loads, the others are files.

import type { Images, Table } from "./table";

export class Thumbs {
  readonly #embedded = new Map<string, string>();
  readonly #missing = new Set<string>();
  readonly #mode: "embedded" | "files";
  readonly #prefix: string;

  constructor(
    private readonly table: Table,
    private readonly arrived: () => void,
  ) {
    this.#mode = table.payload.thumbs.mode;
    this.#prefix = table.payload.thumbs.prefix;
    if (this.#mode === "embedded") this.#collect();
  }

  /** Thumbnail of a row: null where there is no image, "" while it is still arriving. */
  thumb(row: number, images: Images = this.table.images): string | null {
    const id = images.thumb[row];
    return typeof id === "string" && id ? this.byId(id) : null;
  }

  byId(id: string): string {
    if (this.#mode === "files") return `${this.#prefix}${id.slice(0, 2)}/${id}.webp`;
    const data = this.#embedded.get(id);
    if (data === undefined) this.#missing.add(id);
    return data ? `data:image/webp;base64,${data}` : "";
  }

  /** The image itself, as a relative address; null where the page does not know where it lies. */
  full(row: number, images: Images = this.table.images): string | null {
    const inside = this.#original(images.thumb[row] ?? null);
    if (inside) return inside;
    const path = images.path[row];
    if (typeof path !== "string" || images.prefix === null) return null;
    return images.prefix + path.split("/").map(encodeURIComponent).join("/");
  }

  /** The original out of the page, where it is inside. */
  #original(id: unknown): string | null {
    return this.table.payload.originals === "inside" && typeof id === "string" ? (this.#embedded.get(`o:${id}`) ?? null) : null;
  }

  source(row: number): { thumb: string; full: string | null; label: string } | null {
    const source = this.table.sources[this.table.sourceAt[row] ?? -1];
    if (!source?.thumb) return null;
    const prefix = this.table.images.prefix;
    const inside = this.#original(source.thumb);
    if (inside) return { thumb: this.byId(source.thumb), full: inside, label: source.label };
    const full = source.path !== null && prefix !== null ? prefix + source.path.split("/").map(encodeURIComponent).join("/") : null;
    return { thumb: this.byId(source.thumb), full, label: source.label };
  }

  #collect(): void {
    const take = (): void => {
      let took = false;
      for (const element of document.querySelectorAll("script[data-thumbs]")) {
        if (!element.nextElementSibling && document.readyState === "loading") continue;
        const chunk = JSON.parse(element.textContent ?? "{}") as Record<string, string>;
        for (const [id, data] of Object.entries(chunk)) this.#embedded.set(id, data);
        element.remove();
        took = true;
      }
      if (took && this.#missing.size > 0) {
        this.#missing.clear();
        this.arrived();
      }
    };
    take();
    if (document.readyState !== "loading") return;
    const watcher = new MutationObserver(take);
    watcher.observe(document.body, { childList: true });
    document.addEventListener("DOMContentLoaded", () => {
      watcher.disconnect();
      take();
    });
  }
}
