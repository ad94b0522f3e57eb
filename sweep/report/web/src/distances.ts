// How far images lie apart that differ in one axis alone, with a new seed as the yardstick.

import type { DistanceData } from "./payload";
import type { Axis, Table } from "./table";

export interface Pair {
  a: number; // rows
  b: number;
  value: number;
}

export interface Distance {
  axis: Axis;
  seed: boolean;
  mean: number;
  count: number; // of all pairs, of which `pairs` may be a part
  pairs: Pair[];
}

/** The distances of a table's axes, the largest first. */
export function distancesOf(table: Table): Distance[] {
  const found: Distance[] = [];
  for (const data of table.payload.study?.distances ?? []) {
    const axis = table.axis(data.axis);
    if (axis && data.distance.length > 0) found.push({ axis, seed: data.seed, mean: data.mean, count: data.pairs, pairs: pairsOf(data) });
  }
  return found.sort((one, other) => other.mean - one.mean);
}

function pairsOf({ a, b, distance }: DistanceData): Pair[] {
  return distance.map((value, at) => ({ a: a[at] ?? -1, b: b[at] ?? -1, value }));
}

/** The pair whose distance is nearest to the mean. */
export function typicalPair({ pairs, mean }: Distance): Pair | null {
  return pairs.reduce<Pair | null>((best, pair) => (best && Math.abs(best.value - mean) <= Math.abs(pair.value - mean) ? best : pair), null);
}

export interface LevelPair {
  low: number; // levels
  high: number;
  mean: number;
}

/** The mean distance of each pair of levels. */
export function levelPairsOf({ axis, pairs }: Distance): LevelPair[] {
  const sums = new Map<string, LevelPair & { count: number }>();
  for (const { a, b, value } of pairs) {
    const [low, high] = [axis.at[a] ?? -1, axis.at[b] ?? -1].sort((one, other) => one - other) as [number, number];
    const sum = sums.get(`${low} ${high}`) ?? { low, high, mean: 0, count: 0 };
    sum.mean += value;
    sum.count += 1;
    sums.set(`${low} ${high}`, sum);
  }
  return [...sums.values()].map(({ low, high, mean, count }) => ({ low, high, mean: mean / count }));
}

export interface PromptPart {
  text: string;
  distance: Distance | null; // of the axis whose level these words are
}

/** Cuts a prompt at the words that axes put into it; axes whose level it does not contain follow at its end. */
export function cutPrompt(prompt: string, row: number, distances: Distance[]): PromptPart[] {
  const labels = distances.filter((distance) => !distance.seed).map((distance) => ({ distance, text: distance.axis.labels[distance.axis.at[row] ?? -1] ?? "" }));
  const places = labels.map((label) => ({ ...label, at: label.text && !label.distance.axis.numeric ? findWords(prompt, label.text) : -1 }));
  const parts: PromptPart[] = [];
  let from = 0;
  for (const { at, text, distance } of places.filter((place) => place.at >= 0).sort((a, b) => a.at - b.at)) {
    if (at < from) continue;
    if (at > from) parts.push({ text: prompt.slice(from, at), distance: null });
    parts.push({ text, distance });
    from = at + text.length;
  }
  if (from < prompt.length) parts.push({ text: prompt.slice(from), distance: null });
  const used = new Set(parts.map((part) => part.distance));
  const rest = labels.filter(({ distance }) => !used.has(distance)).map(({ distance, text }) => ({ text: `${distance.axis.label} ${text}`, distance }));
  return [...parts, ...rest.flatMap((part) => [{ text: " · ", distance: null }, part])];
}

/** Where the words stand in a prompt, as words of their own if they do ("red", not the end of "bored"); -1: nowhere. */
function findWords(prompt: string, words: string): number {
  const own = new RegExp(`(?<![\\p{L}\\p{N}])${words.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}(?![\\p{L}\\p{N}])`, "u");
  const at = prompt.search(own);
  return at >= 0 ? at : prompt.indexOf(words);
}

/** Places for a mark each, in columns one mark wide: [column, how high in it from the middle]. */
export function stackMarks(values: number[], most: number, columns: number): [column: number, lift: number][] {
  const taken = new Map<number, number>();
  const counts = new Map<number, number>();
  const column = (value: number): number => Math.round((value / most) * columns);
  for (const value of values) counts.set(column(value), (counts.get(column(value)) ?? 0) + 1);
  return values.map((value) => {
    const at = column(value);
    const before = taken.get(at) ?? 0;
    taken.set(at, before + 1);
    return [at, before - ((counts.get(at) ?? 1) - 1) / 2];
  });
}

/** The end of a scale from 0 that holds all values: a round number. */
export function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-9)));
  return ([1, 2, 2.5, 5, 10].find((step) => step * power >= value) ?? 10) * power;
}
