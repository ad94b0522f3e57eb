import assert from "node:assert/strict";
import { test } from "node:test";
import { compileFilter, passing } from "../src/filter";
import { Marks } from "../src/marks";
import { firstView } from "../src/state";
import { table } from "./results";

Object.assign(globalThis, { innerWidth: 1280, innerHeight: 800, addEventListener: () => undefined, localStorage: { getItem: () => null, setItem: () => undefined } });

function rowsOf(text: string): { rows: number[]; problem: string | null } {
  const results = table();
  const marks = new Marks(results, () => undefined);
  marks.set(3, { stars: 2 });
  const filter = compileFilter(text, results, marks);
  const mask = passing(filter, firstView(results), results);
  return { rows: [...mask].flatMap((on, row) => (on ? [row] : [])), problem: filter.problem };
}

test("an empty filter keeps all rows", () => assert.equal(rowsOf("").rows.length, 8));

test("terms are joined by and, a minus turns one round", () => {
  assert.deepEqual(rowsOf("strength = 0.3 painterly").rows, [0, 1]);
  assert.deepEqual(rowsOf("strength = 0.3 -painterly").rows, [2, 3]);
  assert.deepEqual(rowsOf("ssim > 0.95").rows, [0, 1]);
  assert.deepEqual(rowsOf("rating >= 2").rows, [3]);
});

test("an unknown column is a problem with a suggestion", () => {
  assert.match(rowsOf("sism > 0.9").problem ?? "", /no column sism.*Did you mean ssim/);
});

test("a comparison needs a number", () => assert.match(rowsOf("ssim > high").problem ?? "", /needs a number/));
