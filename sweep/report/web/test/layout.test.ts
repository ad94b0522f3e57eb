import assert from "node:assert/strict";
import { test } from "node:test";
import { firstRow, jump, list, matrix, partner, slidersFor, step } from "../src/layout";
import { firstView } from "../src/state";
import { table } from "./results";

Object.assign(globalThis, { innerWidth: 1280, innerHeight: 800 });

test("matrix puts every row where its levels say, and find undoes it", () => {
  const results = table();
  const view = { ...firstView(results), x: "strength", y: "prompt", sx: null, sy: "seed" };
  const layout = matrix(view, results, new Uint8Array(results.rows).fill(1));
  assert.equal(layout.cols.length, 2);
  assert.equal(layout.rows.length, 4);
  for (let row = 0; row < results.rows; row += 1) {
    const [r, c] = layout.find(row) ?? [-1, -1];
    assert.equal(layout.at(r, c), row);
  }
});

test("matrix marks hidden rows and leaves out lines without a passing row", () => {
  const results = table();
  const mask = new Uint8Array(results.rows);
  mask[0] = 1;
  const layout = matrix({ ...firstView(results), x: "strength", y: "prompt", sx: null, sy: "seed" }, results, mask);
  assert.deepEqual([layout.rows.length, layout.cols.length, layout.shown], [1, 1, 1]);
});

test("an axis off the grid becomes a slider, a zipped one does not", () => {
  const results = table();
  assert.deepEqual(slidersFor({ ...firstView(results), x: "strength", y: null, sx: null, sy: null }, results).map((axis) => axis.name), ["prompt", "seed"]);
  const zipped = table({ axes: [0, 1].map((copy) => ({ name: `axis${copy}`, kind: "number", levels: [1, 2], at: [0, 1, 0, 1, 0, 1, 0, 1] })) });
  assert.deepEqual(slidersFor({ ...firstView(zipped), x: "axis0", y: null, sx: null, sy: null }, zipped), []);
});

test("an axis of which a run has rendered one level so far is no zipped one", () => {
  const begun = table({ axes: [["strength", [0, 1, 0, 1, 0, 1, 0, 1]], ["prompt", [0, 0, 0, 0, 0, 0, 0, 0]]].map(([name, at]) => ({ name: String(name), kind: "text", levels: ["a", "b"], at: at as number[] })) });
  assert.deepEqual(slidersFor({ ...firstView(begun), x: "strength", y: null, sx: null, sy: null }, begun).map((axis) => axis.name), ["prompt"]);
  assert.equal(firstView(begun).y, "prompt");
});

test("zipped axes are known as soon as a run has rendered two of their levels", () => {
  const axes = ["prompt", "negative", "seed"].map((name) => ({ name, kind: "text", levels: ["a", "b", "c"], at: name === "seed" ? [0, 1, 0, 1] : [0, 0, 1, 1] }));
  const begun = table({ axes, key: { v: ["a", "b", "c", "d"] } });
  assert.deepEqual(slidersFor({ ...firstView(begun), x: "prompt", y: null, sx: null, sy: null }, begun).map((axis) => axis.name), ["seed"]);
});

test("step passes over empty cells and stops at the edge", () => {
  const layout = list([3, 1, 2, 0, 4], 2);
  assert.equal(step({ layout, cursor: 3 }, 0, 1), 1);
  assert.equal(step({ layout, cursor: 1 }, 0, 1), 2);
  assert.equal(step({ layout, cursor: 3 }, -1, 0), -1);
  assert.equal(step({ layout, cursor: 1 }, 1, 0), 0);
  assert.equal(firstRow(layout), 3);
  assert.equal(jump({ layout, cursor: 1 }, "first", 1), 3);
});

test("partner finds the row with another level of one axis", () => {
  const results = table();
  const view = { ...firstView(results), against: "axis:strength=1" };
  const other = partner(0, view, results);
  assert.deepEqual(results.axes.map((axis) => axis.at[other]), [1, 0, 0]);
});
