import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseArrangement } from "../src/arrangement";
import type { Axis } from "../src/table";

function axis(name: string, kind: string, size: number): Axis {
  const levels = Array.from({ length: size }, (_, at) => (kind === "text" ? `level ${at}` : at));
  return { name, kind, label: name, levels, labels: levels.map(String), at: [], numeric: kind === "number" };
}

const strength = axis("strength", "number", 3);
const prompt = axis("prompt", "text", 3);
const seed = axis("seed", "seed", 2);

test("a small experiment is seen whole, the main axis across and prompts down", () => {
  const { x, y, sx, sy } = chooseArrangement([strength, prompt, seed], strength, { width: 900, height: 600 });
  assert.deepEqual([sx?.name, x?.name, y?.name, sy], ["strength", "seed", "prompt", null]);
});

test("a narrow window keeps few columns", () => {
  const { x, sx } = chooseArrangement([strength, prompt, seed], strength, { width: 390, height: 600 });
  assert.ok((x?.levels.length ?? 1) * (sx?.levels.length ?? 1) <= 3);
});

test("long names stand beside the lines, not cut off over the columns", () => {
  const words = { ...prompt, labels: ["dramatic lighting", "enhanced colors and lighting", "painterly effect"] };
  const [levels, seeds] = [axis("strength", "number", 11), axis("seed", "seed", 4)];
  const { x, sx } = chooseArrangement([levels, words, seeds], levels, { width: 896, height: 490 });
  assert.notEqual(x, words, `${sx?.name}`);
});

test("one axis stands across", () => {
  assert.equal(chooseArrangement([seed], seed, { width: 900, height: 600 }).x, seed);
});
