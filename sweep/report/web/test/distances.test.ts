import assert from "node:assert/strict";
import { test } from "node:test";
import { cutPrompt, distancesOf, levelPairsOf, roundUp, stackMarks, typicalPair } from "../src/distances";
import { countWins, pairsToSettle } from "../src/preferences";
import type { Axis } from "../src/table";
import { table } from "./results";

const distances = [
  { axis: "seed", seed: true, mean: 3, pairs: 2, a: [0, 2], b: [1, 3], distance: [2, 4] },
  { axis: "prompt", seed: false, mean: 7, pairs: 2, a: [0, 3], b: [2, 1], distance: [6, 8] },
];
const results = table({ study: { distances, recommendations: [], curves: [], effects: [], words: [] } });
const [prompt, seed] = distancesOf(results);

test("the axis that moves images most comes first, the seed in its place", () => {
  assert.deepEqual([prompt?.axis.name, seed?.seed], ["prompt", true]);
});

test("the typical pair is the one nearest to the mean", () => {
  assert.ok(prompt);
  assert.equal(typicalPair({ ...prompt, mean: 7.5 })?.value, 8);
});

test("pairs of levels are averaged whichever image comes first", () => {
  assert.ok(prompt);
  assert.deepEqual(levelPairsOf(prompt), [{ low: 0, high: 1, mean: 7 }]);
});

test("a prompt is cut at the words of its axes; what it does not contain follows", () => {
  assert.ok(prompt && seed);
  const parts = (text: string): string[] => cutPrompt(text, 0, [prompt, seed]).map((part) => (part.distance ? `[${part.text}]` : part.text));
  assert.deepEqual(parts("a cup, painterly, warm"), ["a cup, ", "[painterly]", ", warm"]);
  assert.deepEqual(parts("a cup"), ["a cup", " · ", "[prompt painterly]"]);
  assert.deepEqual(parts("unpainterly painterly"), ["unpainterly ", "[painterly]"]);
});

test("marks of one value stand above each other around the middle", () => {
  assert.deepEqual(stackMarks([5, 5, 10], 10, 10), [[5, -0.5], [5, 0.5], [10, 0]]);
});

test("a scale ends at a round number that holds all values", () => {
  assert.deepEqual([19.04, 0.7, 10, 23].map(roundUp), [20, 1, 10, 25]);
});

test("wins count choices that differ in the axis alone, a tie half", () => {
  const name = (row: number): string => results.ratingName(row);
  const choice = (left: number, right: number, winner: "left" | "right" | "tie") => ({ left: name(left), right: name(right), winner, at: "" });
  const wins = countWins(results, results.axes[1] as Axis, [choice(0, 2, "left"), choice(3, 1, "tie"), choice(0, 3, "left")]);
  assert.deepEqual(wins.get("0 1"), [1.5, 2]);
  assert.deepEqual(wins.get("1 0"), [0.5, 2]);
});

test("more pairs are needed the nearer the two best are", () => {
  const rank = (strength: number, half: number) => ({ level: strength, chosen: 1, shown: 2, strength, low: strength - half, high: strength + half, rank_low: 1, rank_high: 2 });
  const choices = { axis: "prompt", choices: 36, ties: 0, left: 1, right: 1, repeated: 0, alike: 0, agreement: {} };
  assert.equal(pairsToSettle({ ...choices, ranking: [rank(76, 10), rank(64, 10)] }), 20);
  assert.equal(pairsToSettle({ ...choices, ranking: [rank(76, 2), rank(64, 2)] }), 0);
  assert.equal(pairsToSettle({ ...choices, ranking: [rank(70, 2), rank(70, 2)] }), null);
});
