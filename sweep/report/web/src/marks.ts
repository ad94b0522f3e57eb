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
  #unsent: Required<RatingsFile> = { schema: 1, ratings: {}, choices: [], withdrawn: [] };
  #timer = 0;
  #sending = Promise.resolve(); // one after the other: what was sent first is not what stays
  failure = ""; // why the last change could not be kept

  constructor(
    public table: Table,
    private readonly changed: () => void,
  ) {
    this.#name = `sweep:ratings:${table.payload.id}`;
    this.#read(table.payload.ratings);
    const { live } = table.payload;
    if (live) {
      addEventListener("pagehide", () => this.#timer > 0 && void this.#send(live.ratings));
      return;
    }
    addEventListener("storage", ({ key, newValue }) => {
      if (key !== this.#name) return; // another page of this file was rated: each keeps all
      this.#marks.clear();
      this.choices.length = 0;
      this.#read(JSON.parse(newValue ?? "{}") as Partial<RatingsFile>);
      this.changed();
    });
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
    this.#unsent.ratings[name] = { ...this.#unsent.ratings[name], ...patch, ...("stars" in patch ? { stars: patch.stars || null } : {}) };
    this.#keep();
    this.changed();
  }

  choose(choice: Choice): void {
    this.choices.push(choice);
    this.#unsent.choices.push(choice);
    this.#keep();
    this.changed();
  }

  takeBack(): void {
    this.#unsent.withdrawn.push(this.choices.pop()?.at ?? "");
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
      this.#timer = window.setTimeout(() => (this.#sending = this.#sending.then(() => this.#send(live.ratings))), patience);
      return;
    }
    try {
      localStorage.setItem(this.#name, JSON.stringify(this.file()));
    } catch (error) {
      console.info("Ratings cannot be kept in this browser.", error);
    }
  }

  /** Sends what was changed: another page of this run may have changed other marks. */
  async #send(address: string): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const sent = this.#unsent;
    this.#unsent = { schema: 1, ratings: {}, choices: [], withdrawn: [] };
    const body = JSON.stringify(sent);
    const keepalive = body.length < 20_000; // of more, browsers send nothing
    const answer = await fetch(address, { method: "POST", headers: { "Content-Type": "application/json" }, body, keepalive }).catch(() => null);
    if (!answer?.ok) {
      const { ratings, choices, withdrawn } = this.#unsent;
      for (const [name, patch] of Object.entries(sent.ratings)) ratings[name] = { ...patch, ...ratings[name] };
      this.#unsent = { schema: 1, ratings, choices: [...sent.choices, ...choices], withdrawn: [...sent.withdrawn, ...withdrawn] };
    }
    this.failure = answer?.ok ? "" : "Not saved: the server of this page does not answer. Export your ratings (s) and add them with sweep rate.";
    this.changed();
  }
}
