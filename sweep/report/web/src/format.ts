// How values are written for people: true minus signs, no noise digits, no surprise on missing ones.

import type { Level } from "./payload";

export function level(value: Level, kind = ""): string {
  if (value === null) return "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return number(value, kind === "seed" || kind === "integer" ? 0 : 6);
  return kind === "image" ? (value.split("/").pop() ?? value) : value;
}

/** `digits` significant digits; 0: an integer as it is. */
export function number(value: number, digits = 3): string {
  if (!Number.isFinite(value)) return "–";
  const text = digits === 0 || Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(digits)));
  const short = value !== 0 && (Math.abs(value) < 1e-4 || (digits > 0 && Math.abs(value) >= 1e9)) ? value.toExponential(Math.min(2, Math.max(0, digits - 1))).replace(/\.?0+e/, "e") : text;
  return short.replaceAll("-", "−");
}

export function percent(value: number): string {
  const points = value * 100;
  return `${points > 0 && points < 1 ? points.toFixed(1) : points.toFixed(0)} %`;
}

export function count(n: number, one: string, many = `${one}s`): string {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}

/** Axis and metric names as words: denoise_strength → denoise strength. */
export function words(name: string): string {
  return name.replace(/_/g, " ");
}

/** The nearest of `candidates` by edit distance, where it is near enough to suggest. */
export function nearest(word: string, candidates: string[]): string | null {
  let best: string | null = null;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i += 1) {
    const current = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const change = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(change, (previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}

/** Labels in which long ones that begin alike, for `most` characters, are cut to the part that tells them apart: "…window,
 * red", "…window, blue". */
export function tellApart(labels: readonly string[], most = 24): string[] {
  const long = [...new Set(labels)].filter((label) => label.length > most).sort();
  const shared = new Map<string, number>(); // characters in common with the most similar other label: one beside it
  for (const [at, label] of long.entries()) {
    const common = Math.max(...[long[at - 1], long[at + 1]].map((other) => commonLength(label, other ?? "")));
    if (common >= most - 1) shared.set(label, common);
  }
  return labels.map((label) => {
    const common = shared.get(label);
    if (common === undefined) return label;
    const from = Math.max(0, common - most / 2);
    const word = label.lastIndexOf(" ", from) + 1;
    return `…${label.slice(from - word > most / 2 ? from : word).replace(halfAtStart, "")}`;
  });
}

function commonLength(a: string, b: string): number {
  let at = 0;
  while (at < a.length && a[at] === b[at]) at += 1;
  return at;
}

const [halfAtStart, halfAtEnd] = [/^[\udc00-\udfff]/, /[\ud800-\udbff]$/]; // of an emoji, which is two units of a string

export function short(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, Math.max(1, most - 1)).replace(halfAtEnd, "")}…` : text;
}

/** Labels in at most `most` characters, still told apart. */
export function shortAll(labels: readonly string[], most: number): string[] {
  return tellApart(labels, most).map((label) => short(label, most));
}
