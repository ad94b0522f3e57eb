// Means, intervals and variance shares of the rows in sight: seeds are the unit of replication, as in the study.

import type { Axis, Column, Table } from "./table";

export interface Line {
  group: number;
  seeds: number;
  at: { x: number; mean: number; low: number | null; high: number | null }[];
}

export interface Shares {
  entries: { metric: string; term: string; share: number }[];
  note: string;
}

// 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom; beyond, Cornish and Fisher's expansion is exact enough.
const quantiles = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11, 2.101, 2.093, 2.086, 2.08,
  2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042,
];

export function tQuantile(freedom: number): number {
  const z = 1.959964;
  return quantiles[freedom - 1] ?? z + (z ** 3 + z) / (4 * freedom);
}

/** Mean curve of every level of `group` along an axis, with t intervals over the means of the seeds. */
export function curvesOf(table: Table, mask: Uint8Array, metric: Column, along: Axis, group: Axis | null): Line[] {
  const seed = table.axes.find((axis) => axis.kind === "seed" && axis !== along && axis !== group) ?? null;
  const sums = new Map<number, Map<number, Map<number, [number, number]>>>();
  for (let row = 0; row < table.rows; row += 1) {
    const value = metric.values[row];
    if (!mask[row] || typeof value !== "number") continue;
    const levels = getOrMake(sums, group?.at[row] ?? 0, () => new Map<number, Map<number, [number, number]>>());
    const seeds = getOrMake(levels, along.at[row] ?? 0, () => new Map<number, [number, number]>());
    const sum = getOrMake(seeds, seed?.at[row] ?? 0, (): [number, number] => [0, 0]);
    sum[0] += value;
    sum[1] += 1;
  }
  return [...sums].sort(([a], [b]) => a - b).map(([at, levels]) => ({
    group: at,
    seeds: Math.max(...[...levels.values()].map((seeds) => seeds.size)),
    at: [...levels]
      .sort(([a], [b]) => a - b)
      .map(([level, seeds]) => ({ x: along.numeric ? Number(along.levels[level]) : level, ...interval([...seeds.values()].map(([sum, n]) => sum / n)) })),
  }));
}

export function interval(values: number[]): { mean: number; low: number | null; high: number | null } {
  const n = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  if (n < 3) return { mean, low: null, high: null }; // of two seeds the interval would be as wide as the axis
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1);
  const half = tQuantile(n - 1) * Math.sqrt(variance / n);
  return { mean, low: mean - half, high: mean + half };
}

function getOrMake<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}

/** Mean of a metric at every pair of levels of two axes. */
export function meansOf(table: Table, mask: Uint8Array, metric: Column, across: Axis, along: Axis): { x: number; z: number; mean: number }[] {
  const sums = new Map<number, [number, number]>();
  const width = across.levels.length;
  for (let row = 0; row < table.rows; row += 1) {
    const value = metric.values[row];
    if (!mask[row] || typeof value !== "number") continue;
    const sum = getOrMake(sums, (along.at[row] ?? 0) * width + (across.at[row] ?? 0), (): [number, number] => [0, 0]);
    sum[0] += value;
    sum[1] += 1;
  }
  return [...sums].map(([at, [sum, n]]) => ({ x: at % width, z: Math.floor(at / width), mean: sum / n })).sort((a, b) => a.x - b.x || a.z - b.z);
}

/** The study's shares; without a study, the part of the variance between the levels of each axis alone. */
export function sharesOf(table: Table, mask: Uint8Array): Shares {
  const study = table.payload.study;
  const label = (name: string): string => table.axis(name)?.label ?? name;
  if (study?.effects.some((effects) => effects.shares.some((share) => share.share.value !== null))) {
    const entries = study.effects.flatMap((effects) => {
      const metric = table.column(effects.metric)?.label ?? effects.metric;
      const shares = effects.shares.map((share) => ({ metric, term: share.axes.map(label).join(" × "), share: Math.max(0, share.share.value ?? 0) }));
      const rest = Math.max(0, effects.rest ?? 0);
      return rest > 0 ? [...shares, { metric, term: "rest", share: rest }] : shares;
    });
    return { entries: gathered(entries), note: `Of all ${study.effects[0]?.n ?? 0} images; × is an interaction.` };
  }
  const axes = table.axes.filter((axis) => axis.levels.length > 1);
  const entries = table.metrics.flatMap((metric) => axes.map((axis) => ({ metric: metric.label, term: axis.label, share: between(table, mask, metric, axis) })));
  return { entries: gathered(withRest(entries)), note: "Main effects (η²) of the images shown; the rest is interactions and noise." };
}

/** Small terms gathered under "rest", so that a bar has few parts. */
function gathered(entries: Shares["entries"]): Shares["entries"] {
  const most = new Map<string, number>();
  for (const { term, share } of entries) most.set(term, Math.max(most.get(term) ?? 0, share));
  const kept = new Set([...most].filter(([term, share]) => term !== "rest" && share >= 0.01).sort((a, b) => b[1] - a[1]).slice(0, 7).map(([term]) => term));
  const sums = new Map<string, Shares["entries"][number]>();
  for (const entry of entries) {
    const term = kept.has(entry.term) ? entry.term : "rest";
    const sum = getOrMake(sums, `${entry.metric}\n${term}`, () => ({ metric: entry.metric, term, share: 0 }));
    sum.share += entry.share;
  }
  const order = [...kept, "rest"];
  return [...sums.values()].sort((a, b) => order.indexOf(a.term) - order.indexOf(b.term));
}

function withRest(entries: Shares["entries"]): Shares["entries"] {
  const used = new Map<string, number>();
  for (const { metric, share } of entries) used.set(metric, (used.get(metric) ?? 0) + share);
  return [...entries, ...[...used].map(([metric, sum]) => ({ metric, term: "rest", share: Math.max(0, 1 - sum) }))];
}

function between(table: Table, mask: Uint8Array, metric: Column, axis: Axis): number {
  const sums = axis.levels.map((): [number, number] => [0, 0]);
  let [total, squares, n] = [0, 0, 0];
  for (let row = 0; row < table.rows; row += 1) {
    const value = metric.values[row];
    const sum = sums[axis.at[row] ?? -1];
    if (!mask[row] || typeof value !== "number" || !sum) continue;
    sum[0] += value;
    sum[1] += 1;
    total += value;
    squares += value * value;
    n += 1;
  }
  const all = squares - (total * total) / n;
  const among = sums.reduce((found, [sum, count]) => found + (count > 0 ? (sum * sum) / count : 0), 0) - (total * total) / n;
  return n > 1 && all > 1e-12 ? Math.max(0, among / all) : 0;
}
