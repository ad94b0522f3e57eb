// The reader's own judgement: stars, rejections and notes, kept in this browser under the report's name.

import type { Table } from "./table";

export interface Mark {
  stars: number; // 0 to 3
  rejected: boolean;
  note: string;
}

const none: Mark = { stars: 0, rejected: false, note: "" };

export class Marks {
  readonly #name: string;
  readonly #marks = new Map<string, Mark>();

  constructor(
    private readonly table: Table,
    private readonly changed: () => void,
  ) {
    this.#name = `sweep:marks:${table.payload.id}`;
    try {
      const kept = JSON.parse(localStorage.getItem(this.#name) ?? "{}") as Record<string, Mark>;
      for (const [key, mark] of Object.entries(kept)) this.#marks.set(key, { ...none, ...mark });
    } catch (error) {
      console.info("Ratings cannot be kept in this browser.", error);
    }
  }

  of(row: number): Mark {
    return (this.#marks.size > 0 && row >= 0 ? this.#marks.get(this.table.rowName(row)) : undefined) ?? none;
  }

  get size(): number {
    return this.#marks.size;
  }

  set(row: number, patch: Partial<Mark>): void {
    if (row < 0) return;
    const mark = { ...this.of(row), ...patch };
    const name = this.table.rowName(row);
    if (mark.stars === 0 && !mark.rejected && mark.note === "") this.#marks.delete(name);
    else this.#marks.set(name, mark);
    try {
      localStorage.setItem(this.#name, JSON.stringify(Object.fromEntries(this.#marks)));
    } catch (error) {
      console.info("Ratings cannot be kept in this browser.", error);
    }
    this.changed();
  }
}
