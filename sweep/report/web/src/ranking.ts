// Which of the study's sentences are findings of their own, and how the rest is folded.

import { level, number } from "./format";
import type { Recommendation, Word } from "./payload";
import type { Table } from "./table";

export const mostFindings = 5;
const ranks = ["recommendation", "share", "difference", "choice", "diversity", "seed"];

/** At most five sentences that change what a person would do: headlines first, then one for each kind and metric family. */
export function mainFindings(table: Table): Word[] {
  const words = table.payload.study?.words ?? [];
  const headlines = words.filter((word) => word.headline && word.kind !== "limit");
  const main = headlines.find((word) => word.metric)?.metric ?? null;
  const advised = headlines.some((word) => word.kind === "recommendation");
  const rest = words
    .filter((word) => !word.headline && ranks.includes(word.kind) && !(advised && word.kind === "recommendation") && !says(word, "cannot be said") && !says(word, "can be told apart"))
    .map((word, at) => ({ word, rank: ranks.indexOf(word.kind) - (word.kind === "choice" ? 20 : 0) + (word.metric === main && ["share", "difference"].includes(word.kind) ? -10 : 0) + at / 1000 }))
    .sort((a, b) => a.rank - b.rank);
  const chosen = [...headlines];
  for (const { word } of rest) {
    const repeats = chosen.filter((known) => known.kind === word.kind).length;
    if (chosen.length < mostFindings - 1 && (repeats === 0 || (repeats === 1 && word.metric !== main))) chosen.push(word);
  }
  const others = advised ? otherLimits(table, main) : null;
  return [...chosen, ...(others ? [others] : [])].slice(0, mostFindings);
}

/** Other metrics put the limit elsewhere: one sentence of all of them, which is no second advice. */
function otherLimits(table: Table, main: string | null): Word | null {
  const all = table.payload.study?.recommendations ?? [];
  const own = all.find((known) => known.metric === main);
  const axis = own?.axis;
  const others = all.filter((known) => known.metric !== main && known.axis === axis && known.use !== undefined && known.use !== own?.use && !holdsWithin(table, known));
  const first = others[0];
  if (!axis || !first) return null;
  const limits = others.slice(0, 4).map((known) => {
    const most = known.use === null ? "no level tested" : level(known.use ?? null);
    return `${most} keeps ${table.column(known.metric)?.label ?? known.metric} at ${number(known.threshold)} or ${known.wanted === "below" ? "less" : "more"}`;
  });
  const name = table.axis(axis)?.label ?? axis;
  return { kind: "recommendation", text: `By other metrics the limit of ${name} is different: ${limits.join("; ")}.`, detail: "", headline: false, metric: first.metric, axis };
}

/** Whether all images held at some levels although they did not at the safe end of the axis. */
function holdsWithin(table: Table, { metric, axis, threshold, use }: Recommendation): boolean {
  const counts = table.payload.study?.holds ?? [];
  return use === null && counts.some((known) => known.metric === metric && known.axis === axis && known.threshold === threshold && Object.keys(known.group).length === 0 && known.held === known.images);
}

function says(word: Word, text: string): boolean {
  return word.text.includes(text);
}

const kinds: Record<string, string> = { recommendation: "limits by other metrics, which ask another question", share: "shares of variance", curve: "curves", outlier: "outliers", word: "what decides the image", equal: "what changes nothing", difference: "differences", seed: "seeds", noise: "noise", diversity: "diversity", limit: "cautions", assumption: "cautions", choice: "choices" };

/** The others, by kind, in the order in which they are told. */
export function foldedFindings(table: Table): [kind: string, words: Word[]][] {
  const words = table.payload.study?.words ?? [];
  const main = new Set(mainFindings(table));
  const found = new Map<string, Word[]>();
  for (const word of words) {
    if (main.has(word)) continue;
    const kind = kinds[word.kind] ?? word.kind;
    found.set(kind, [...(found.get(kind) ?? []), word]);
  }
  return [...found];
}

/** The first sentence without what stands in brackets; then what stood in them, and the sentences that follow. */
export function splitSentence(text: string): [title: string, detail: string] {
  const first = /^.*?[.!?](?=\s+[A-Z“]|$)/s.exec(text)?.[0] ?? text;
  const asides = [...first.matchAll(/\(([^()]*)\)/g)].map(([, aside = ""]) => aside.trim()).filter(Boolean);
  const title = first.replace(/\s*\([^()]*\)/g, "");
  const noted = asides.length > 0 ? `${asides.join("; ").replace(/^./, (letter) => letter.toUpperCase())}.` : "";
  return [title, [noted, text.slice(first.length).trim()].filter(Boolean).join(" ")];
}
