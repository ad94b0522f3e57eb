// Which of the study's sentences are findings of their own, and how the rest is folded.

import type { Word } from "./payload";

export const mostFindings = 5;
const ranks = ["recommendation", "share", "difference", "choice", "diversity", "seed"];

/** At most five sentences that change what a person would do: headlines first, then one for each kind and metric family. */
export function mainFindings(words: Word[]): Word[] {
  const headlines = words.filter((word) => word.headline && word.kind !== "limit");
  const main = headlines.find((word) => word.metric)?.metric ?? null;
  const rest = words
    .filter((word) => !word.headline && ranks.includes(word.kind) && !says(word, "cannot be said") && !says(word, "can be told apart"))
    .map((word, at) => ({ word, rank: ranks.indexOf(word.kind) - (word.kind === "choice" ? 20 : 0) + (word.metric === main && ["share", "difference"].includes(word.kind) ? -10 : 0) + at / 1000 }))
    .sort((a, b) => a.rank - b.rank);
  const chosen = [...headlines];
  for (const { word } of rest) {
    const repeats = chosen.filter((known) => known.kind === word.kind).length;
    if (chosen.length < mostFindings && (repeats === 0 || (repeats === 1 && word.metric !== main))) chosen.push(word);
  }
  return chosen.slice(0, mostFindings);
}

function says(word: Word, text: string): boolean {
  return word.text.includes(text);
}

const kinds: Record<string, string> = { recommendation: "the same in other metrics", share: "shares of variance", difference: "differences", seed: "seeds", noise: "noise", diversity: "diversity", limit: "cautions", assumption: "cautions", choice: "choices" };

/** The others, by kind, in the order in which they are told. */
export function foldedFindings(words: Word[]): [kind: string, words: Word[]][] {
  const main = new Set(mainFindings(words));
  const found = new Map<string, Word[]>();
  for (const word of words) {
    if (main.has(word)) continue;
    const kind = kinds[word.kind] ?? word.kind;
    found.set(kind, [...(found.get(kind) ?? []), word]);
  }
  return [...found];
}
