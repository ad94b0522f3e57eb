import assert from "node:assert/strict";
import { test } from "node:test";
import { curvesOf, interval, meansOf, sharesOf, tQuantile } from "../src/means";
import type { Axis, Column } from "../src/table";
import { table } from "./results";

const results = table();
const all = new Uint8Array(results.rows).fill(1);
const [strength, prompt] = results.axes as [Axis, Axis];
const metric = results.column("ssim") as Column;

test("a curve is the mean over seeds; two of them have no interval", () => {
  const [line] = curvesOf(results, all, metric, strength, prompt);
  assert.equal(line?.seeds, 2);
  assert.ok(Math.abs((line?.at[0]?.mean ?? 0) - 0.995) < 1e-9);
  assert.equal(line?.at[0]?.high, null);
});

test("an interval is Student's over the means of seeds", () => {
  const { mean, high } = interval([1, 2, 3]);
  assert.equal(mean, 2);
  assert.ok(Math.abs((high ?? 0) - 2 - 4.303 / Math.sqrt(3)) < 1e-4);
});

test("the quantile of many degrees of freedom is near the normal one", () => {
  assert.ok(Math.abs(tQuantile(1000) - 1.9623) < 1e-3);
});

test("means are taken over the rows that pass", () => {
  const mask = new Uint8Array(results.rows);
  mask[0] = 1;
  assert.deepEqual(meansOf(results, mask, metric, prompt, strength), [{ x: 0, z: 0, mean: 1 }]);
});

test("shares of variance add up to one", () => {
  const sum = sharesOf(results, all).entries.reduce((total, entry) => total + entry.share, 0);
  assert.ok(Math.abs(sum - 1) < 1e-9);
});
