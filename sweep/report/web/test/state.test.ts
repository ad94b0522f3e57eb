import assert from "node:assert/strict";
import { test } from "node:test";
import { firstView, fromHash, toHash } from "../src/state";
import { table } from "./results";

Object.assign(globalThis, { innerWidth: 1280, innerHeight: 800 });

test("a view survives its address", () => {
  const results = table();
  const first = firstView(results);
  const view = { ...first, x: "seed", filter: "ssim > 0.5", mode: "compare" as const, zoom: 2, panX: -10, panY: -20, cursor: 5, hidden: { prompt: [1] }, brush: { ssim: [0.5, 0.75] as [number, number] } };
  assert.deepEqual(fromHash(`#${toHash(view, first, results)}`, first, results), view);
});

test("the first view has an empty address", () => {
  const results = table();
  const first = firstView(results);
  assert.equal(toHash(first, first, results), "");
});

test("an address with unknown names is the first view", () => {
  const results = table();
  const first = firstView(results);
  assert.deepEqual(fromHash("#x=banana&colour=none&cursor=gone&mode=wild&size=big&against=axis:seed=9", first, results), first);
});

test("an address gives an axis one place", () => {
  const results = table();
  const first = { ...firstView(results), x: "strength", y: "prompt", sx: "seed", sy: null };
  const { x, y, sx, sy } = fromHash("#x=seed&sy=seed", first, results);
  assert.deepEqual([x, y, sx, sy], ["seed", "prompt", null, null]);
});
