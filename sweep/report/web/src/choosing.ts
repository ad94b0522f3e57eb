// Choosing blind between two images: everything is equal but one axis, sides are drawn by lot, every press is saved.

import type { App } from "./app";
import { h } from "./dom";
import { words } from "./format";
import type { Axis, Table } from "./table";

const mostPairs = 40;
const repeated = 0.1; // of the pairs come twice, with their sides changed: they show how sure the chooser is

export type Pair = [left: number, right: number];

/** Pairs of images that differ in one axis alone, in random order; some come twice, with their sides changed. */
export function pairsOf(table: Table, axis: Axis, mask: Uint8Array, random: () => number): Pair[] {
  const byOthers = new Map<string, number[]>();
  for (let row = 0; row < table.rows; row += 1) {
    if (!mask[row] || table.status[row] !== "completed") continue;
    const others = table.axes.filter((other) => other !== axis).map((other) => other.at[row]).join();
    byOthers.set(others, [...(byOthers.get(others) ?? []), row]);
  }
  const all = [...byOthers.values()].flatMap((rows) => rows.flatMap((a, at) => rows.slice(at + 1).map((b): Pair => (random() < 0.5 ? [a, b] : [b, a]))));
  const fresh = shuffle(all, random).slice(0, Math.round(mostPairs * (1 - repeated)));
  const again = fresh.slice(0, Math.floor(fresh.length * repeated)).map(([a, b]): Pair => [b, a]);
  return [...fresh, ...again];
}

function shuffle<T>(values: T[], random: () => number): T[] {
  for (let at = values.length - 1; at > 0; at -= 1) {
    const other = Math.floor(random() * (at + 1));
    [values[at], values[other]] = [values[other] as T, values[at] as T];
  }
  return values;
}

/** The axis to choose along: the groups of the verdict, else the first that is no seed. */
function axisOf(app: App): Axis | null {
  const varied = app.table.axes.filter((axis) => axis.levels.length > 1 && axis.kind !== "seed");
  return app.verdict?.group ?? varied.find((axis) => !axis.numeric) ?? varied[0] ?? null;
}

export function chooseBlind(app: App): void {
  const axis = axisOf(app);
  const pairs = axis ? pairsOf(app.table, axis, app.mask, Math.random) : [];
  if (!axis || pairs.length === 0) return;
  new Choosing(app, axis, pairs).open();
}

class Choosing {
  readonly #dialog = h("dialog", { class: "choosing", "aria-label": "Blind choice" });
  readonly #steps = h("div", { class: "steps", "aria-hidden": "true" });
  readonly #count = h("b", { "aria-live": "polite" });
  readonly #images = [h("img", { alt: "left image" }), h("img", { alt: "right image" })] as const;
  readonly #chosen: string[] = [];
  #at = 0;

  constructor(
    private readonly app: App,
    private readonly axis: Axis,
    private readonly pairs: Pair[],
  ) {}

  open(): void {
    const button = (key: string, text: string, act: () => void): HTMLElement => h("button", { class: "choice", onclick: act }, h("kbd", {}, key), ` ${text}`);
    this.#dialog.append(
      h("header", {}, this.#count, this.#steps),
      h("h2", {}, "Which one is better?"),
      h("p", { class: "dim" }, "Names, settings and numbers are hidden. Sides are drawn by lot. There is no wrong answer."),
      h("div", { class: "pair" }, ...this.#images),
      h("div", { class: "answers" }, button("←", "this one", () => this.#choose("left")), button("space", "cannot say", () => this.#choose("tie")), button("→", "this one", () => this.#choose("right"))),
      h("footer", {}, h("span", {}, h("kbd", {}, "z"), " one back"), h("span", {}, h("kbd", {}, "Esc"), " stop; your choices are kept"), h("span", {}, "Some pairs come twice with their sides changed: they show how sure you are.")),
    );
    this.#dialog.addEventListener("keydown", (event) => this.#press(event));
    this.#dialog.addEventListener("close", () => this.#dialog.remove());
    document.body.append(this.#dialog);
    this.#dialog.showModal();
    this.#show();
  }

  #press(event: KeyboardEvent): void {
    const acts: Record<string, () => void> = { ArrowLeft: () => this.#choose("left"), ArrowRight: () => this.#choose("right"), " ": () => this.#choose("tie"), z: () => this.#back() };
    const act = acts[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  #choose(winner: "left" | "right" | "tie"): void {
    const pair = this.pairs[this.#at];
    if (!pair) return;
    const [left, right] = pair.map((row) => this.app.table.ratingName(row)) as [string, string];
    this.app.marks.choose({ left, right, winner, at: new Date().toISOString() });
    this.#chosen.push(winner);
    this.#at += 1;
    this.#show();
  }

  #back(): void {
    if (this.#at === 0) return;
    this.app.marks.takeBack();
    this.#chosen.pop();
    this.#at -= 1;
    this.#show();
  }

  #show(): void {
    const pair = this.pairs[this.#at];
    if (!pair) return this.#finish();
    this.#count.textContent = `pair ${this.#at + 1} of ${this.pairs.length}`;
    this.#steps.replaceChildren(...this.pairs.map((_, at) => h("i", { class: at < this.#at ? "done" : at === this.#at ? "now" : "" })));
    pair.forEach((row, side) => {
      const image = this.app.image(row);
      const element = this.#images[side];
      if (!element || !image) return;
      element.onerror = () => (element.src = image.thumb);
      element.src = image.full ?? image.thumb;
    });
  }

  /** What was chosen, raw: how often each level won. Intervals and ranks are the study's. */
  #finish(): void {
    const wins = winsOf(this.axis, this.pairs, this.#chosen);
    const lines = wins.map(({ level, won, of }) => h("tr", {}, h("th", { scope: "row" }, this.axis.labels[level] ?? ""), h("td", {}, `chosen in ${won} of ${of}`)));
    this.#dialog.replaceChildren(
      h("h2", {}, `You chose between ${this.pairs.length} pairs.`),
      h("table", { class: "wins" }, h("caption", {}, `${words(this.axis.label)}; “cannot say” counts half`), ...lines),
      h("p", { class: "dim" }, this.app.table.payload.live ? "The choices are in ratings.json of the results folder. sweep study ranks them." : "Export the ratings (Share) and add them with sweep rate."),
      h("button", { onclick: () => this.#dialog.close(), autofocus: true }, "close"),
    );
  }
}

/** How often the images of each level won, the most first; a tie counts half. */
export function winsOf(axis: Axis, pairs: Pair[], chosen: string[]): { level: number; won: number; of: number }[] {
  const sums = new Map<number, { won: number; of: number }>();
  chosen.forEach((winner, at) => {
    (pairs[at] ?? []).forEach((row, side) => {
      const level = axis.at[row] ?? 0;
      const sum = sums.get(level) ?? { won: 0, of: 0 };
      sum.of += 1;
      sum.won += winner === "tie" ? 0.5 : Number((winner === "left") === (side === 0));
      sums.set(level, sum);
    });
  });
  return [...sums].map(([level, sum]) => ({ level, ...sum })).sort((a, b) => b.won / b.of - a.won / a.of);
}
