import assert from "node:assert/strict";
import { test } from "node:test";
import { pairsOf, winsOf } from "../src/choosing";
import type { Axis } from "../src/table";
import { table } from "./results";

Object.assign(globalThis, { document: {}, innerWidth: 1280 });
const results = table();
const prompt = results.axes[1] as Axis;
const all = new Uint8Array(results.rows).fill(1);

test("a pair differs in the chosen axis alone", () => {
  for (const [a, b] of pairsOf(results, prompt, all, Math.random)) {
    assert.notEqual(prompt.at[a], prompt.at[b]);
    for (const axis of results.axes) if (axis !== prompt) assert.equal(axis.at[a], axis.at[b]);
  }
});

test("wins count a tie half for both", () => {
  assert.deepEqual(winsOf(prompt, [[0, 2], [0, 2]], ["left", "tie"]), [{ level: 0, won: 1.5, of: 2 }, { level: 1, won: 0.5, of: 2 }]);
});
