// What the parts of the page share: the results, the reader's choices, and what follows from the two.

import { type Filter, compileFilter, passing } from "./filter";
import { type Layout, list, matrix, partner, type Ranks, sorted } from "./layout";
import { Marks } from "./marks";
import { type Store, type View } from "./state";
import type { Table } from "./table";
import { judge, questionOf, type Verdict } from "./verdict";
import { Thumbs } from "./thumbs";

export interface Shown {
  thumb: string;
  full: string | null;
  label: string;
}

export class App {
  thumbs: Thumbs;
  readonly marks: Marks;
  filter: Filter;
  mask: Uint8Array;
  chartMask: Uint8Array; // without the brushes: a chart goes on showing what it was brushed in
  layout: Layout;
  hover = -1;
  perLine = 6;
  #verdict: { of: string; verdict: Verdict | null } = { of: "", verdict: null };
  readonly #hoverListeners: (() => void)[] = [];

  constructor(
    public table: Table,
    readonly store: Store,
    public first: View, // what the address leaves unsaid
  ) {
    this.thumbs = new Thumbs(table, () => store.touch());
    this.marks = new Marks(table, () => store.touch("cursor", "filter"));
    this.filter = compileFilter(this.view.filter, table, this.marks);
    this.mask = passing(this.filter, this.view, table);
    this.chartMask = passing(this.filter, { ...this.view, brush: {} }, table);
    this.layout = this.#arranged();
    store.listen((changed) => this.#follow(changed));
  }

  /** Takes other results in place of these, as a live page does when its run has ended; the view stays. */
  adopt(table: Table): void {
    const row = (name: "cursor" | "pin"): number => (this.view[name] < 0 ? -1 : table.rowOf(this.table.rowName(this.view[name])));
    const [cursor, pin] = [row("cursor"), row("pin")];
    this.table = table;
    this.thumbs = new Thumbs(table, () => this.store.touch());
    this.marks.table = table; // with what is still to be sent
    this.#verdict = { of: "", verdict: null };
    this.store.set({ cursor, pin });
    this.relayout();
    this.store.touch("filter", "panel", "cursor", "metric");
  }

  get view(): View {
    return this.store.view;
  }

  #follow(changed: Set<keyof View>): void {
    const narrowing = ["filter", "brush", "hidden"] as const;
    const placing = ["slide", "x", "y", "sx", "sy", "sort", "falling", "blind", "weakest", "threshold"] as const;
    if (narrowing.some((name) => changed.has(name))) this.relayout();
    else if (placing.some((name) => changed.has(name))) this.arrange();
    else return;
    if (this.layout.shown === 0 && !changed.has("slide")) this.#slideToFirst();
  }

  /** What passes a filter stands elsewhere: the sliders go there. */
  #slideToFirst(): void {
    const row = this.mask.indexOf(1);
    if (row < 0) return;
    const slide = { ...this.view.slide };
    for (const axis of this.layout.sliders) slide[axis.name] = axis.at[row] ?? 0;
    this.store.set({ slide });
  }

  relayout(): void {
    const { table, view } = this;
    this.filter = compileFilter(view.filter, table, this.marks);
    this.mask = passing(this.filter, view, table);
    this.chartMask = Object.keys(view.brush).length > 0 ? passing(this.filter, { ...view, brush: {} }, table) : this.mask;
    this.arrange();
  }

  arrange(): void {
    this.layout = this.#arranged();
  }

  #arranged(): Layout {
    const { table, view } = this;
    const asList = view.sort !== null || view.blind;
    return asList ? list(sorted(this), this.perLine) : matrix(view, table, this.mask, this.#ranks());
  }

  /** Which images held the threshold, null where the study recommends nothing. */
  get verdict(): Verdict | null {
    const of = `${this.view.threshold}|${this.table.version}`;
    if (of === this.#verdict.of) return this.#verdict.verdict;
    const question = questionOf(this.table, this.view.threshold);
    this.#verdict = { of, verdict: question && judge(question, this.table.rows) };
    return this.#verdict.verdict;
  }

  /** Weakest groups first. */
  #ranks(): Ranks {
    const { verdict } = this;
    if (!this.view.weakest || !verdict?.group) return new Map();
    const order = verdict.groups.map((own) => own.at);
    return new Map([[verdict.group.name, verdict.group.levels.map((_, at) => (order.includes(at) ? order.indexOf(at) : order.length + at))]]);
  }

  setHover(row: number): void {
    if (row === this.hover) return;
    this.hover = row;
    for (const listener of this.#hoverListeners) listener();
  }

  onHover(listener: () => void): void {
    this.#hoverListeners.push(listener);
  }

  /** The image of a row, null where it has none. */
  image(row: number): Shown | null {
    const thumb = this.thumbs.thumb(row);
    return thumb === null ? null : { thumb, full: this.thumbs.full(row), label: this.view.blind ? "" : this.table.describe(row) };
  }

  /** What a row is compared with, null where there is nothing. */
  reference(row: number): Shown | null {
    const { table, view, thumbs } = this;
    if (row < 0) return null;
    if (view.against === "source") return thumbs.source(row);
    if (view.against === "run" && table.others) {
      const thumb = thumbs.thumb(row, table.others);
      return thumb === null ? null : { thumb, full: thumbs.full(row, table.others), label: table.payload.runs?.other ?? "the other run" };
    }
    const other = partner(row, view, table);
    return other < 0 ? null : this.image(other);
  }

  /** Moves the cursor to a row; axes that are not on the grid follow it, so that it is in sight. */
  goTo(row: number): void {
    const slide = { ...this.view.slide };
    for (const axis of this.layout.sliders) slide[axis.name] = axis.at[row] ?? 0;
    const moved = this.layout.sliders.some((axis) => slide[axis.name] !== this.view.slide[axis.name]);
    this.store.set(moved ? { cursor: row, slide } : { cursor: row });
  }
}
