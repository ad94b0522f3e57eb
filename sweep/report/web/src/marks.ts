// The reader's own judgement: stars, rejections, notes and choices between two images. A served page keeps them in the
// results folder, a page from a file in this browser, from which they can be exported.

import type { Choice, Mark, RatingsFile } from "./payload";
import type { Table } from "./table";

export type { Mark } from "./payload";

const none: Mark & { stars: number } = { stars: 0, rejected: false, note: "" };
const patience = 400; // ms in which several changes are sent as one

export class Marks {
  readonly #name: string;
  readonly #marks = new Map<string, typeof none>();
  readonly choices: Choice[] = [];
  #timer = 0;
  failure = ""; // why the last change could not be kept

  constructor(
    private readonly table: Table,
    private readonly changed: () => void,
  ) {
    this.#name = `sweep:ratings:${table.payload.id}`;
    this.#read(table.payload.ratings);
    if (table.payload.live) return;
    try {
      this.#read(JSON.parse(localStorage.getItem(this.#name) ?? "{}") as Partial<RatingsFile>);
    } catch (error) {
      console.info("Ratings cannot be kept in this browser.", error);
    }
  }

  #read(file: Partial<RatingsFile>): void {
    for (const [name, mark] of Object.entries(file.ratings ?? {})) this.#marks.set(name, { stars: mark.stars ?? 0, rejected: mark.rejected ?? false, note: mark.note ?? "" });
    const known = new Set(this.choices.map((choice) => choice.at));
    this.choices.push(...(file.choices ?? []).filter((choice) => !known.has(choice.at)));
  }

  of(row: number): typeof none {
    return (this.#marks.size > 0 && row >= 0 ? this.#marks.get(this.table.ratingName(row)) : undefined) ?? none;
  }

  get size(): number {
    return this.#marks.size + this.choices.length;
  }

  set(row: number, patch: Partial<typeof none>): void {
    if (row < 0) return;
    const mark = { ...this.of(row), ...patch };
    const name = this.table.ratingName(row);
    if (mark.stars === 0 && !mark.rejected && mark.note === "") this.#marks.delete(name);
    else this.#marks.set(name, mark);
    this.#keep();
    this.changed();
  }

  choose(choice: Choice): void {
    this.choices.push(choice);
    this.#keep();
    this.changed();
  }

  takeBack(): void {
    this.choices.pop();
    this.#keep();
    this.changed();
  }

  /** What `sweep rate` reads. */
  file(): RatingsFile {
    const ratings = Object.fromEntries([...this.#marks].map(([name, mark]) => [name, { ...mark, stars: mark.stars || null }]));
    return { schema: 1, ratings, choices: this.choices };
  }

  #keep(): void {
    const { live } = this.table.payload;
    if (live) {
      clearTimeout(this.#timer);
      this.#timer = window.setTimeout(() => void this.#send(live.ratings), patience);
      return;
    }
    try {
      localStorage.setItem(this.#name, JSON.stringify(this.file()));
    } catch (error) {
      console.info("Ratings cannot be kept in this browser.", error);
    }
  }

  async #send(address: string): Promise<void> {
    const answer = await fetch(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(this.file()), keepalive: true }).catch(() => null);
    this.failure = answer?.ok ? "" : "Not saved: the server of this page does not answer. Export your ratings (s) and add them with sweep rate.";
    this.changed();
  }
}
