// Which images held a threshold: counted from the rows, so that another threshold gives another answer at once.

import { number, tellApart, words } from "./format";
import type { AdaptiveData, Level } from "./payload";
import { splitSentence } from "./ranking";
import type { Axis, Column, Table } from "./table";

export interface Question {
  metric: Column;
  along: Axis;
  group: Axis | null;
  threshold: number;
  below: boolean; // values below the threshold hold, else those above
  rising: boolean; // the safe end of the axis is its highest level
  found?: Found | null; // by an adaptive design, where the reader asks what it was asked
  doubt?: string; // of the study: whether the axis has any effect, a sentence with a space
}

/** What the study of an adaptive design says, in its words: the page counts nothing of its own there. */
export interface Found extends AdaptiveData {
  text: string;
  detail: string;
}

export interface Sum {
  held: number;
  images: number;
}

export interface Group extends Sum {
  at: number; // level of the group axis, -1 where there is none
  label: string;
  name: string; // the label, cut to what tells it apart
  marks: number[][]; // rows by level of the axis
  heldUpTo: number; // level of the axis up to which all its images held, -1: not even the first
}

export interface Verdict extends Question {
  levels: Sum[];
  groups: Group[]; // weakest first
  total: Sum;
  use: number; // level of the axis, -1 where none holds throughout
}

/** The question that the study answers on top, with the reader's threshold where there is one; null where none is. */
export function questionOf(table: Table, threshold: number | null): Question | null {
  const study = table.payload.study;
  if (study?.adaptive) return adaptiveQuestion(table, study.adaptive, threshold);
  const main = study?.words.find((word) => word.headline && word.kind === "recommendation")?.metric;
  const all = study?.recommendations ?? [];
  for (const found of [...all.filter((known) => known.metric === main), ...all]) {
    const [metric, along] = [table.column(found.metric), table.axis(found.axis)];
    if (!metric || !along) continue;
    const group = groupAxis(table, along, Object.keys(found.weakest_group ?? {}));
    const word = study?.words.find((known) => known.kind === "recommendation" && known.metric === found.metric && known.axis === found.axis);
    const doubt = /^.* may have no effect[.] /.exec(word?.text ?? "")?.[0];
    return { metric, along, group, threshold: threshold ?? found.threshold, below: found.wanted === "below", rising: found.side === "from", doubt };
  }
  return null;
}

function adaptiveQuestion(table: Table, found: AdaptiveData, threshold: number | null): Question | null {
  const [metric, along] = [table.column(found.metric), table.axis(found.axis)];
  if (!metric || !along) return null;
  const group = groupAxis(table, along, Object.keys(found.groups[0]?.group ?? {}));
  const word = table.payload.study?.words.find((known) => known.kind === "recommendation" && known.metric === found.metric);
  const asked = threshold === null || threshold === found.threshold;
  return {
    metric,
    along,
    group,
    threshold: threshold ?? found.threshold,
    below: metric.direction === "lower",
    rising: found.groups.some((own) => own.is_rising),
    found: asked && word ? { ...found, text: word.text, detail: word.detail ?? "" } : null,
  };
}

function groupAxis(table: Table, along: Axis, named: string[]): Axis | null {
  const varied = table.axes.filter((axis) => axis !== along && axis.kind !== "seed" && axis.name !== "image" && axis.levels.length > 1);
  return varied.find((axis) => named.includes(axis.name)) ?? varied.find((axis) => !axis.numeric) ?? varied[0] ?? null;
}

/** Whether a value holds the threshold; null: there is no value. */
export function holds({ metric, threshold, below }: Question, row: number): boolean | null {
  const value = metric.values[row];
  if (typeof value !== "number") return null;
  return below ? value <= threshold : value >= threshold;
}

export function judge(question: Question, rows: number): Verdict {
  const { along, group, rising } = question;
  const count = group?.levels.length ?? 1;
  const names = tellApart(group?.labels ?? []);
  const groups = Array.from({ length: count }, (_, at): Group => ({ at: group ? at : -1, label: group?.labels[at] ?? "", name: names[at] ?? "", held: 0, images: 0, marks: along.levels.map(() => []), heldUpTo: -1 }));
  const levels = along.levels.map((): Sum => ({ held: 0, images: 0 }));
  const total: Sum = { held: 0, images: 0 };
  for (let row = 0; row < rows; row += 1) {
    const held = holds(question, row);
    const [own, level] = [groups[group ? (group.at[row] ?? -1) : 0], levels[along.at[row] ?? -1]];
    if (held === null || !own || !level) continue;
    own.marks[along.at[row] ?? 0]?.push(row);
    for (const sum of [own, level, total]) {
      sum.images += 1;
      sum.held += Number(held);
    }
  }
  for (const own of groups) own.heldUpTo = lastHolding(own.marks.map((marks) => sumOf(question, marks)), rising);
  const kept = groups.filter((own) => own.images > 0).sort((a, b) => compareGroups(question, a, b) || a.held / a.images - b.held / b.images || a.at - b.at);
  const verdict = { ...question, levels, groups: kept, total, use: lastHolding(levels, rising) };
  return question.found ? agree(verdict, question.found) : verdict;
}

/** As the study does: weaker is what misses the threshold at an earlier level, or with more images there; negative: a. */
function compareGroups(question: Question, a: Group, b: Group): number {
  const [first, second] = [firstFailure(question, a), firstFailure(question, b)];
  return first.place - second.place || first.share - second.share;
}

function firstFailure(question: Question, own: Group): { place: number; share: number } {
  const order = tested(question.along, question.rising);
  const place = order.findIndex((at) => own.marks[at]?.some((row) => holds(question, row) === false));
  const { held, images } = sumOf(question, own.marks[order[place] ?? -1] ?? []);
  return place < 0 ? { place: order.length, share: 1 } : { place, share: held / images };
}

/** The verdict of the study in place of the page's own count. */
function agree(verdict: Verdict, { groups, weakest, use }: Found): Verdict {
  const { along, group } = verdict;
  const levelOf = (value: number | null): number => (value === null ? -1 : along.levels.indexOf(value));
  const isOf = (own: Group, of: Record<string, Level> | null): boolean => group !== null && of !== null && group.levels[own.at] === of[group.name];
  for (const own of verdict.groups) own.heldUpTo = levelOf(groups.find((known) => isOf(own, known.group))?.use ?? null);
  const first = verdict.groups.filter((own) => isOf(own, weakest));
  return { ...verdict, use: levelOf(use), groups: [...first, ...verdict.groups.filter((own) => !first.includes(own))] };
}

/** Counts over some rows. */
export function sumOf(question: Question, rows: Iterable<number>): Sum {
  const sum = { held: 0, images: 0 };
  for (const row of rows) {
    const held = holds(question, row);
    if (held === null) continue;
    sum.images += 1;
    sum.held += Number(held);
  }
  return sum;
}

/** The farthest level such that all images held there and at every level before it. */
function lastHolding(levels: Sum[], rising: boolean): number {
  const order = [...levels.keys()];
  if (rising) order.reverse();
  let found = -1;
  for (const at of order) {
    const level = levels[at];
    if (!level || level.images === 0) continue;
    if (level.held < level.images) break;
    found = at;
  }
  return found;
}

export interface Answer {
  title: string;
  counts: Part[]; // the counts behind it; bold where strong
  meaning: string; // of the metric, in brackets
  limits: string;
}

export interface Part {
  text: string;
  strong: boolean;
}

/** Whether the first group is weaker than the others. */
export function hasWeakest(verdict: Verdict): boolean {
  const [first, second] = verdict.groups;
  if (!first || !second) return false;
  return verdict.found ? verdict.found.weakest !== null : compareGroups(verdict, first, second) < 0;
}

const part = (text: string, strong = false): Part => ({ text, strong });

/** The verdict in words: what to do, the counts behind it, what it cannot say. */
export function answerOf(verdict: Verdict): Answer {
  if (verdict.found) return foundAnswer(verdict, verdict.found);
  return { title: titleOf(verdict), counts: [...countsOf(verdict), ...weakestOf(verdict)], meaning: meaningOf(verdict), limits: limitsOf(verdict) };
}

/** The first sentence about the metric, in brackets. */
function meaningOf({ metric }: Verdict): string {
  const first = /^(.*?)[.](?=\s|$)/s.exec(metric.summary)?.[1];
  return first ? ` (${first.charAt(0).toLowerCase()}${first.slice(1)})` : "";
}

function foundAnswer(verdict: Verdict, { text, detail, used, full }: Found): Answer {
  const [sentence, more] = splitSentence(text);
  const [title = "", counts = ""] = sentence.split(/: (.*)/s);
  return {
    title: counts ? `${title}.` : title,
    counts: [part(capital([counts, more, detail].filter(Boolean).join(" ")))],
    meaning: meaningOf(verdict),
    limits: `The design chose these ${used} of ${full} images by their values, to find the limit: the counts are of these images, not of all.`,
  };
}

/** Levels at which all images held where the one at the safe end is none of them. */
function innerOf({ levels, use }: Pick<Verdict, "levels" | "use">): number[] {
  return use >= 0 ? [] : [...levels.keys()].filter((at) => (levels[at]?.images ?? 0) > 1 && levels[at]?.held === levels[at]?.images);
}

function titleOf({ along, use, rising, metric, threshold, total, levels, doubt = "" }: Verdict): string {
  const inner = innerOf({ levels, use });
  if (inner.length > 0) return `${doubt}Every image holds only at ${along.label} ${inner.map((at) => along.labels[at]).slice(0, 4).join(", ")}${inner.length > 4 ? " …" : ""}.`;
  if (use < 0) return `No ${along.label} keeps ${metric.label} at ${number(threshold)} in all images.`;
  const last = tested(along, rising).at(-1);
  if (total.held === total.images && use === last) return `Any ${along.label} ${rising ? "from" : "up to"} ${along.labels[use]} holds.`;
  return `${doubt}Use ${along.label} ${along.labels[use]} or ${rising ? "more" : "less"}.`;
}

function tested(along: Axis, rising: boolean): number[] {
  const order = [...along.levels.keys()];
  return rising ? order.reverse() : order;
}

export function sign({ below }: Question): string {
  return below ? "≤" : "≥";
}

function countsOf({ along, levels, use, rising, metric, threshold, below }: Verdict): Part[] {
  const order = tested(along, rising).filter((at) => (levels[at]?.images ?? 0) > 0);
  const start = use < 0 ? 0 : order.indexOf(use);
  const rest = order.slice(start + (use < 0 ? 0 : 1));
  const lost = rest.findIndex((_, place) => rest.slice(place).every((at) => levels[at]?.held === 0));
  const told = (lost >= 0 && rest.length - lost > 1 ? rest.slice(0, lost) : rest).slice(0, 3);
  const of = (at: number): Part => part(`${levels[at]?.held} of ${levels[at]?.images}`, true);
  const side = below ? "or less" : "or more";
  const parts = [part(`${capital(metric.label)} stayed at ${number(threshold)} ${side} in `)];
  if (use >= 0) parts.push(of(use), part(rest.length > 0 ? ` images at ${along.labels[use]}` : " images."));
  told.forEach((at, place) => {
    const last = place === told.length - 1 && !(lost >= 0 && rest.length - lost > 1);
    const lead = use < 0 && place === 0 ? "" : last && (place > 0 || use >= 0) ? " and in " : ", in ";
    parts.push(part(lead), of(at), part(`${use < 0 && place === 0 ? " images" : ""} at ${along.labels[at]}`));
  });
  if (lost >= 0 && rest.length - lost > 1) parts.push(part(told.length > 0 || use >= 0 ? `, and in none from ${along.labels[rest[lost] ?? 0]} on` : "no image"));
  if (rest.length > 0) parts.push(part("."));
  return parts;
}

function weakestOf(verdict: Verdict): Part[] {
  const { group, groups, along, rising } = verdict;
  const weakest = groups[0];
  if (!group || !weakest || !hasWeakest(verdict) || innerOf(verdict).length > 0) return [];
  const upTo = weakest.heldUpTo;
  const only = upTo === tested(along, rising)[0];
  const range = upTo < 0 ? "at no level" : only ? `at ${along.labels[upTo]} only` : `${rising ? "from" : "up to"} ${along.labels[upTo]}${rising ? " on" : ""}`;
  return [part(` Weakest ${group.label}: `), part(weakest.name, true), part(`, which held ${range}.`)];
}

function limitsOf(verdict: Verdict): string {
  const { groups, total } = verdict;
  const sizes = groups.flatMap((own) => own.marks.map((marks) => marks.length).filter((size) => size > 0));
  const [least, most] = [Math.min(...sizes), Math.max(...sizes)];
  if (total.images === 0) return "No image has this metric yet.";
  const each = least === most ? `${least}` : `${least} to ${most}`;
  return `${each} ${most === 1 ? "image" : "images"} per cell: too few for a margin of error, so images are counted.`;
}

/** Levels next to the recommended one that nothing was rendered between: [use, next], null where there are none. */
export function untestedGap({ along, use, rising, found }: Verdict): [number, number] | null {
  if (!along.numeric || use < 0 || found) return null;
  const order = tested(along, rising);
  const next = order[order.indexOf(use) + 1];
  return next === undefined ? null : [Number(along.levels[use]), Number(along.levels[next])];
}

/** The experiment with the axis narrowed to the untested gap; null where its line is not of a form that is known. */
export function followUp(experiment: string, axis: Axis, [from, to]: [number, number]): string | null {
  const decimals = Math.max(...[from, to].map((value) => (String(value).split(".")[1] ?? "").length)) + 1;
  const values = [1, 2, 3].map((step) => Number((from + ((to - from) * step) / 4).toFixed(decimals))).sort((a, b) => a - b);
  const name = axis.name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const line = new RegExp(`^([ \\t]+${name}:[ \\t]*)(\\[.*\\]|\\{.*\\})[ \\t]*$`, "m");
  if (!line.test(experiment)) return null;
  return experiment.replace(line, (_, head: string) => `${head}[${values.join(", ")}]`).replace(/^name:[ \t]*(\S+)[ \t]*$/m, "name: $1-between");
}

export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + words(text).slice(1);
}
