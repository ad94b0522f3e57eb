import assert from "node:assert/strict";
import { test } from "node:test";
import { count, level, nearest, number, percent, short, shortAll, tellApart, words } from "../src/format";
import { tickNames } from "../src/plots";

test("number keeps significant digits and uses a true minus sign", () => {
  assert.equal(number(0.123456), "0.123");
  assert.equal(number(-2.5), "−2.5");
  assert.equal(number(1234567), "1234567");
  assert.equal(number(Number.NaN), "–");
  assert.equal(number(0.1 + 0.2, 6), "0.3");
  assert.deepEqual([1e-7, 2.5e-7, 1.234e-10].map((value) => number(value, 6)), ["1e−7", "2.5e−7", "1.23e−10"]);
});

test("level writes missing values, booleans, seeds and file names for people", () => {
  assert.equal(level(null), "none");
  assert.equal(level(true), "yes");
  assert.equal(level(42, "seed"), "42");
  assert.equal(level("inputs/cup.png", "image"), "cup.png");
});

test("long labels that begin alike are told apart", () => {
  const long = "A very long prompt about a cup of coffee on a wooden table";
  assert.deepEqual(tellApart([`${long}, red`, `${long}, blue`, "short", long.slice(2)]), ["…wooden table, red", "…wooden table, blue", "short", long.slice(2)]);
});

test("percent keeps a digit below one percent only", () => {
  assert.equal(percent(0.004), "0.4 %");
  assert.equal(percent(0.54), "54 %");
});

test("count has a plural and words have spaces", () => {
  assert.equal(count(1, "image"), "1 image");
  assert.equal(count(2000, "image"), "2,000 images");
  assert.equal(words("denoise_strength"), "denoise strength");
});

test("nearest suggests a near name and no far one", () => {
  assert.equal(nearest("sism", ["ssim", "seed"]), "ssim");
  assert.equal(nearest("banana", ["ssim", "seed"]), null);
});

test("names under a chart fit their place, and of many every second is left out", () => {
  const long = (count: number): string[] => Array.from({ length: count }, (_, at) => `${at} a long name of a level`);
  assert.deepEqual(tickNames(long(2), 900), ["0 a long name of a level", "1 a long name of a level"].map((name) => name.slice(0, 24)));
  for (const [count, width] of [[7, 560], [7, 355], [40, 700]] as const) {
    const names = tickNames(long(count), width);
    const shown = names.filter(Boolean).length;
    assert.ok(Math.max(...names.map((name) => name.length)) * 7 <= (width - 44) / (shown - 0.4), `${count} in ${width}`);
  }
});

test("a name is not cut through an emoji", () => {
  assert.equal(short("cat 🐱 on a table", 6), "cat …");
  const apart = shortAll(["a", "b"].map((end) => `${"🐱".repeat(40)} ${end}`), 13);
  assert.ok(apart.every((name) => name.isWellFormed()), apart.join());
});
