// Results for the tests: two strengths, two prompts and two seeds, with one metric.

import type { Payload } from "../src/payload";
import { Table } from "../src/table";

export const strengths = [0.3, 0.5];
export const prompts = ["painterly", "dramatic"];
export const seeds = [42, 43];

export function payload(patch: Partial<Payload> = {}): Payload {
  const rows = strengths.flatMap((_, s) => prompts.flatMap((_p, p) => seeds.map((_s, seed) => [s, p, seed] as const)));
  const v = rows.map(([s, p, seed]) => 1 - 0.2 * s - 0.1 * p - 0.01 * seed);
  return {
    version: 1,
    id: "cups",
    name: "cups",
    live: null,
    ratings: { schema: 1, ratings: {}, choices: [] },
    leftOut: [],
    conditions: [],
    inputs: {},
    retry: "",
    originals: "beside",
    runs: null,
    axes: [
      { name: "strength", kind: "number", levels: strengths, at: rows.map(([s]) => s) },
      { name: "prompt", kind: "text", levels: prompts, at: rows.map(([, p]) => p) },
      { name: "seed", kind: "seed", levels: seeds, at: rows.map(([, , seed]) => seed) },
    ],
    columns: [{ name: "ssim", label: "SSIM", kind: "metric", direction: "higher", summary: "", values: { v } }],
    key: { v: rows.map((_, row) => `key${row}`) },
    status: { v: rows.map(() => "completed") },
    error: { v: rows.map(() => null) },
    images: { prefix: "", path: { v: [] }, thumb: { v: [] }, width: { v: [] }, height: { v: [] } },
    others: null,
    sources: { list: [], at: [] },
    thumbs: { mode: "files", prefix: "" },
    study: null,
    experiment: "name: cups\naxes:\n  strength: [0.3, 0.5]\n",
    ...patch,
  };
}

export function table(patch: Partial<Payload> = {}): Table {
  return new Table(payload(patch));
}
