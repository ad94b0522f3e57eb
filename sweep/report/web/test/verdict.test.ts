import assert from "node:assert/strict";
import { test } from "node:test";
import type { Study } from "../src/payload";
import { foldedFindings, mainFindings } from "../src/ranking";
import { answerOf, followUp, hasWeakest, judge, questionOf, untestedGap } from "../src/verdict";
import { table } from "./results";

const study: Study = {
  recommendations: [{ metric: "ssim", axis: "strength", threshold: 0.85, wanted: "above", side: "up to", weakest_group: { prompt: "dramatic" } }],
  curves: [],
  effects: [],
  words: [],
};
const results = table({ study });

function verdictAt(threshold: number | null): ReturnType<typeof judge> {
  const question = questionOf(results, threshold);
  assert.ok(question);
  return judge(question, results.rows);
}

test("judge counts what held at each level and in each group, the weakest first", () => {
  const verdict = verdictAt(null);
  assert.deepEqual(verdict.levels, [{ held: 4, images: 4 }, { held: 0, images: 4 }]);
  assert.deepEqual(verdict.groups.map((group) => group.held), [2, 2]);
  assert.equal(verdict.use, 0);
  assert.deepEqual(verdict.total, { held: 4, images: 8 });
});

test("another threshold gives another answer", () => {
  assert.equal(verdictAt(0.1).use, 1);
  assert.equal(verdictAt(2).use, -1);
  assert.deepEqual(verdictAt(0.75).groups.map((group) => [group.label, group.held]), [["dramatic", 2], ["painterly", 4]]);
});

test("the sum over groups is the sum over levels at every threshold", () => {
  for (let threshold = 0; threshold <= 1.2; threshold += 0.05) {
    const { groups, levels, total } = verdictAt(threshold);
    assert.equal(groups.reduce((sum, group) => sum + group.held, 0), total.held);
    assert.equal(levels.reduce((sum, level) => sum + level.held, 0), total.held);
  }
});

test("the answer names the level, the counts and the weakest group", () => {
  assert.equal(answerOf(verdictAt(0.75)).title, "Use strength 0.3 or less.");
  const text = answerOf(verdictAt(0.75)).counts.map((part) => part.text).join("");
  assert.equal(text, "SSIM stayed at 0.75 or more in 4 of 4 images at 0.3 and in 2 of 4 at 0.5. Weakest prompt: dramatic, which held at 0.3 only.");
  assert.equal(answerOf(verdictAt(0.1)).title, "Any strength up to 0.5 holds.");
  assert.equal(answerOf(verdictAt(2)).title, "No strength keeps SSIM at 2 in all images.");
});

test("the answer doubts an axis that the study doubts", () => {
  const text = "Strength may have no effect. If it has, use 0.3 or less: SSIM stayed at 0.75 or more in 4 of 4 images at 0.3.";
  const doubted = table({ study: { ...study, words: [{ kind: "recommendation", text, headline: true, metric: "ssim", axis: "strength" }] } });
  const question = questionOf(doubted, 0.75);
  assert.ok(question);
  assert.equal(answerOf(judge(question, doubted.rows)).title, "Strength may have no effect. Use strength 0.3 or less.");
});

test("a follow-up experiment renders the levels between", () => {
  const gap = untestedGap(verdictAt(0.85));
  assert.deepEqual(gap, [0.3, 0.5]);
  const axis = results.axes[0];
  assert.ok(axis && gap);
  assert.match(followUp(results.payload.experiment, axis, gap) ?? "", /strength: \[0.35, 0.4, 0.45\]/);
  assert.equal(followUp("name: a\naxes:\n  strength:\n    - 0.3\n", axis, gap), null);
});

const found = {
  metric: "ssim",
  axis: "strength",
  threshold: 0.75,
  used: 8,
  full: 40,
  groups: [
    { group: { prompt: "painterly" }, use: 0.3, is_rising: false },
    { group: { prompt: "dramatic" }, use: 0.5, is_rising: false },
  ],
  weakest: { prompt: "painterly" },
  use: 0.5,
};
const words = [{ kind: "recommendation", text: "Use strength 0.5 or less: SSIM stayed at 0.75 or more with every seed rendered.", detail: "Weakest prompt: “painterly”.", headline: true, metric: "ssim", axis: "strength" }];
const searched = table({ study: { ...study, recommendations: [], adaptive: found, words } });

test("of an adaptive design the page says what the study says, though its own count is another", () => {
  const question = questionOf(searched, null);
  assert.ok(question);
  const verdict = judge(question, searched.rows);
  const counted = judge({ ...question, found: null }, searched.rows);
  assert.notEqual(counted.use, verdict.use);
  assert.equal(verdict.along.levels[verdict.use], found.use);
  assert.deepEqual(verdict.groups.map((group) => [group.label, group.heldUpTo]), [["painterly", 0], ["dramatic", 1]]);
  assert.ok(hasWeakest(verdict));
  const { title, counts, limits } = answerOf(verdict);
  assert.equal(title, "Use strength 0.5 or less.");
  assert.equal(counts.map((part) => part.text).join(""), "SSIM stayed at 0.75 or more with every seed rendered. Weakest prompt: “painterly”.");
  assert.match(limits, /8 of 40 images/);
});

test("with a threshold of the reader's own the images of an adaptive design are counted", () => {
  const question = questionOf(searched, 0.1);
  assert.ok(question);
  assert.equal(question.found, null);
  assert.equal(answerOf(judge(question, searched.rows)).title, "Any strength up to 0.5 holds.");
});

test("limits by other metrics are one sentence, which is no second advice", () => {
  const advice = { kind: "recommendation", headline: false, axis: "strength" };
  const other = { metric: "ms_ssim", axis: "strength", threshold: 0.5, wanted: "above", side: "up to", weakest_group: null, use: 0.5 } as const;
  const findings = mainFindings(table({ study: { ...study, recommendations: [...study.recommendations, other], words: [...words, { ...advice, metric: "ms_ssim", text: "Use strength 0.5 or less: MS-SSIM." }] } }));
  assert.equal(findings.filter((word) => word.text.startsWith("Use ")).length, 1);
  assert.equal(findings[1]?.text, "By other metrics the limit of strength is different: 0.5 keeps ms_ssim at 0.5 or more.");
  const same = { ...study, recommendations: [{ ...other, metric: "ssim" }, other], words };
  assert.equal(mainFindings(table({ study: same })).some((word) => word.text.startsWith("By other metrics")), false);
});

test("weakest is what misses the threshold first, not what has fewer images", () => {
  const some = table({ study, columns: [{ name: "ssim", label: "SSIM", kind: "metric", direction: "higher", summary: "", values: { v: [0.9, null, 0.9, 0.9, 0.5, 0.5, 0.5, 0.5] } }] });
  const question = questionOf(some, 0.85);
  assert.ok(question);
  const verdict = judge(question, some.rows);
  assert.ok(verdict.groups.length === 2);
  assert.equal(hasWeakest(verdict), false);
});

test("levels in the middle that hold are told, also where the end does not", () => {
  const some = table({ study, columns: [{ name: "ssim", label: "SSIM", kind: "metric", direction: "higher", summary: "", values: { v: [0.5, 0.5, 0.5, 0.5, 0.9, 0.9, 0.9, 0.9] } }] });
  const question = questionOf(some, 0.85);
  assert.ok(question);
  assert.equal(answerOf(judge(question, some.rows)).title, "Every image holds only at strength 0.5.");
});

test("folded findings are named as people would", () => {
  const kinds = ["limit", "assumption", "curve", "outlier", "equal", "word", "share", "difference"];
  const words = kinds.flatMap((kind) => Array.from({ length: 9 }, (_, at) => ({ kind, text: `${kind} ${at}.`, headline: false, metric: null, axis: null })));
  const names = foldedFindings(table({ study: { ...study, words } })).map(([name]) => name);
  assert.ok(names.length >= 5);
  assert.deepEqual(names.filter((name) => kinds.includes(name)), []);
});
