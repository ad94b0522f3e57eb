// The filter line: `ssim > 0.8 painterly -status:failed rating >= 2`. All terms must hold.

import { level, nearest } from "./format";
import type { Marks } from "./marks";
import type { Level } from "./payload";
import type { View } from "./state";
import type { Table } from "./table";

export interface Filter {
  test: (row: number) => boolean;
  problem: string | null;
  active: boolean;
}

type Test = (row: number) => boolean;
const term = /(-)?(?:([\p{L}_][\p{L}\p{N}_.]*)\s*(<=|>=|!=|[<>=:])\s*)?("[^"]*"|'[^']*'|\S+)/gu;

export function compileFilter(text: string, table: Table, marks: Marks): Filter {
  const tests: Test[] = [];
  let problem: string | null = null;
  for (const [, minus, name, operator, raw = ""] of text.matchAll(term)) {
    const wanted = raw.replace(/^(["'])(.*)\1$/, "$2");
    const test = name && operator ? columnTest(name, operator, wanted, table, marks) : wordTest(wanted, table, marks);
    if (typeof test === "string") problem = test;
    else tests.push(minus ? (row) => !test(row) : test);
  }
  return { test: (row) => tests.every((test) => test(row)), problem, active: tests.length > 0 };
}

/** Rows that the filter line, the brushes and the hidden levels leave; 1 where a row passes. */
export function passing(filter: Filter, view: View, table: Table): Uint8Array {
  const mask = new Uint8Array(table.rows).fill(1);
  for (const [name, levels] of Object.entries(view.hidden)) {
    const axis = table.axis(name);
    const hidden = new Set(levels);
    if (axis && hidden.size > 0) for (let row = 0; row < table.rows; row += 1) if (hidden.has(axis.at[row] ?? -1)) mask[row] = 0;
  }
  for (const [name, [low, high]] of Object.entries(view.brush)) {
    const axis = table.axis(name);
    const byPosition = axis !== null && !axis.numeric;
    for (let row = 0; row < table.rows; row += 1) {
      const value = byPosition ? (axis.at[row] ?? -1) : table.number(row, name);
      if (!(value >= low && value <= high)) mask[row] = 0;
    }
  }
  if (filter.active) for (let row = 0; row < table.rows; row += 1) if (mask[row] && !filter.test(row)) mask[row] = 0;
  return mask;
}

function columnTest(given: string, operator: string, wanted: string, table: Table, marks: Marks): Test | string {
  const name = resolve(given, table);
  if (name === null) {
    const near = nearest(given, names(table));
    return `There is no column ${given}.${near ? ` Did you mean ${near}?` : ""}`;
  }
  const read = reader(name, table, marks);
  const kind = table.axis(name)?.kind ?? "";
  const number = Number(wanted.replace("−", "-"));
  const numeric = wanted !== "" && Number.isFinite(number);
  const low = wanted.toLowerCase();
  const same = (value: Level): boolean =>
    typeof value === "number" && numeric ? value === number : level(value, kind).toLowerCase() === low;
  const within = (value: Level): boolean => same(value) || (typeof value !== "number" && level(value, kind).toLowerCase().includes(low));
  if (operator === "=") return (row) => same(read(row));
  if (operator === ":") return (row) => within(read(row));
  if (operator === "!=") return (row) => !same(read(row));
  if (!numeric) return `${given} ${operator} needs a number, not ${wanted}.`;
  return order(operator, number, read);
}

function order(operator: string, number: number, read: (row: number) => Level): Test {
  const compare: Record<string, (value: number) => boolean> = {
    "<": (value) => value < number,
    "<=": (value) => value <= number,
    ">": (value) => value > number,
    ">=": (value) => value >= number,
  };
  const test = compare[operator] ?? (() => false);
  return (row) => {
    const value = read(row);
    return typeof value === "number" && test(value);
  };
}

function wordTest(word: string, table: Table, marks: Marks): Test {
  const low = word.toLowerCase();
  const byAxis = table.axes.map((axis) => ({ axis, hit: axis.labels.map((text) => text.toLowerCase().includes(low)) }));
  const textual = table.columns.filter((column) => !column.numeric);
  const starred = low === "rated";
  const rejected = low === "rejected";
  return (row) =>
    byAxis.some(({ axis, hit }) => hit[axis.at[row] ?? -1]) ||
    String(table.status[row]).includes(low) ||
    textual.some((column) => String(column.values[row] ?? "").toLowerCase().includes(low)) ||
    (starred && marks.of(row).stars > 0) ||
    (rejected && marks.of(row).rejected) ||
    marks.of(row).note.toLowerCase().includes(low);
}

function names(table: Table): string[] {
  return [...table.axes.map((axis) => axis.name), ...table.columns.map((column) => column.name), "status", "error", "rating", "rejected", "note"];
}

/** A name, or the only one that begins with what was typed or contains it. */
function resolve(given: string, table: Table): string | null {
  const all = names(table);
  if (all.includes(given)) return given;
  const starts = all.filter((name) => name.startsWith(given));
  if (starts.length === 1) return starts[0] ?? null;
  const contains = all.filter((name) => name.includes(given));
  return contains.length === 1 ? (contains[0] ?? null) : null;
}

function reader(name: string, table: Table, marks: Marks): (row: number) => Level {
  if (name === "rating") return (row) => marks.of(row).stars;
  if (name === "rejected") return (row) => marks.of(row).rejected;
  if (name === "note") return (row) => marks.of(row).note;
  return (row) => table.value(row, name);
}
