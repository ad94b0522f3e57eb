// What the reader takes along: the rows in sight as CSV, or as an experiment file that asks for just those.

import type { App } from "./app";
import { download, downloadBlob } from "./dom";
import type { Level } from "./payload";
import type { Axis } from "./table";

function selection(app: App): number[] {
  const rows: number[] = [];
  for (let row = 0; row < app.table.rows; row += 1) if (app.mask[row]) rows.push(row);
  return rows;
}

export function exportCsv(app: App): void {
  const { table, marks } = app;
  const names = [...table.axes.map((axis) => axis.name), ...table.columns.map((column) => column.name)];
  const lines = [["key", ...names, "status", "error", "image_path", "rating", "rejected", "note"].map(csv).join(",")];
  for (const row of selection(app)) {
    const mark = marks.of(row);
    const values = names.map((name) => table.value(row, name));
    const rest = [table.status[row], table.error[row], table.images.path[row], mark.stars || null, mark.rejected || null, mark.note || null];
    lines.push([table.key[row], ...values, ...rest].map((value) => csv(value ?? null)).join(","));
  }
  download(`${fileName(app)}-selection.csv`, "text/csv", `${lines.join("\r\n")}\r\n`);
}

/** Quoted where needed; text that a spreadsheet would run as a formula gets a leading apostrophe. */
function csv(value: Level): string {
  if (value === null) return "";
  const text = String(value);
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function exportExperiment(app: App): void {
  download(`${fileName(app)}-selection.yaml`, "application/yaml", experimentOf(app));
}

/** The experiment as it was run, narrowed by `where:` and `exclude:` clauses that leave just the rows in sight. */
export function experimentOf(app: App): string {
  const { table } = app;
  const rows = selection(app).filter((row) => !app.marks.of(row).rejected);
  const axes = table.axes.filter((axis) => axis.name !== "image" && axis.levels.length > 1);
  const text = (table.payload.experiment || "name: selection\n").replace(/\s*$/, "\n");
  const renamed = text.replace(/^name:[ \t]*(["']?)([^"'\n#]+?)\1[ \t]*(#.*)?$/m, (_, quote: string, name: string) => `name: ${quote}${name}-selection${quote}`);
  const drawn = axes.filter((axis) => axis.kind === "seed" && countOnly(axis).test(renamed));
  const settled = drawn.reduce((told, axis) => told.replace(countOnly(axis), (_, head: string) => `${head}${seedsOf(axis, rows)}`), renamed);
  const whole = settled.replace(design, "");
  if (whole !== settled) return withClauses(withClauses(whole, "where", axes.map((axis) => memberOf(axis, usedOf(axis, rows)))), "exclude", othersOf(rows, axes));
  const where = whereOf(rows, axes.filter((axis) => !drawn.includes(axis)));
  return withClauses(withClauses(settled, "where", where), "exclude", excludeOf(rows, axes, table.rows));
}

/** A design draws points of its own from what the conditions leave: the selection is written out instead. */
const design = /^design:[ \t]*(?!full\b).*\n(?:[ \t]+.*\n)*/m;

/** Clauses for every point of the grid that is not among the rows: what may follow each beginning that they have. */
function othersOf(rows: number[], axes: Axis[], begun: string[] = []): string[] {
  const [axis, ...rest] = axes;
  if (!axis) return [];
  const used = usedOf(axis, rows);
  const others = begun.length > 0 ? [[...begun, `not (${memberOf(axis, used)})`].join(" and ")] : [];
  const deeper = used.flatMap((level) => othersOf(rows.filter((row) => axis.at[row] === level), rest, [...begun, memberOf(axis, [level])]));
  return [...others, ...deeper];
}

function usedOf(axis: Axis, rows: number[]): number[] {
  return [...new Set(rows.map((row) => axis.at[row] ?? -1))].sort((a, b) => a - b);
}

/** An axis of seeds that a new folder would draw anew: `seed: {count: 4}`. */
function countOnly(axis: Axis): RegExp {
  const name = axis.name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`^([ \\t]+${name}:[ \\t]*)\\{[ \\t]*count:[ \\t]*\\d+[ \\t]*\\}`, "m");
}

function seedsOf(axis: Axis, rows: number[]): string {
  return `[${usedOf(axis, rows).map((level) => axis.levels[level]).join(", ")}]`;
}

function withClauses(text: string, key: "where" | "exclude", clauses: string[]): string {
  if (clauses.length === 0) return text;
  const lines = clauses.map((clause) => `  - ${JSON.stringify(clause)}\n`).join("");
  const block = new RegExp(`^${key}:[ \\t]*\\n((?:[ \\t]*-.*\\n|[ \\t]+.*\\n|[ \\t]*\\n)*)`, "m").exec(text);
  if (block) return text.replace(block[0], () => `${key}:\n${lines}${block[1]}`);
  const single = new RegExp(`^${key}:[ \\t]*(\\S.*)\\n`, "m").exec(text);
  if (single) return text.replace(single[0], () => `${key}:\n${lines}  - ${single[1]}\n`);
  return `${text}${key}:\n${lines}`;
}

/** The smallest box of levels around the rows: one clause for every axis that it narrows. */
function whereOf(rows: number[], axes: Axis[]): string[] {
  return axes.flatMap((axis) => {
    const used = usedOf(axis, rows);
    return used.length === axis.levels.length ? [] : [memberOf(axis, used)];
  });
}

/** Points within that box which are on record and were not chosen, gathered along the last axis. */
function excludeOf(rows: number[], axes: Axis[], all: number): string[] {
  const last = axes.at(-1);
  if (!last) return [];
  const box = axes.map((axis) => new Set(rows.map((row) => axis.at[row] ?? -1)));
  const pointOf = (row: number): string => axes.map((axis) => axis.at[row]).join(",");
  const chosen = new Set(rows.map(pointOf));
  const dropped = new Map<string, Set<number>>();
  for (let row = 0; row < all; row += 1) {
    if (chosen.has(pointOf(row)) || !axes.every((axis, at) => box[at]?.has(axis.at[row] ?? -1))) continue;
    const group = axes.slice(0, -1).map((axis) => axis.at[row] ?? -1).join(",");
    dropped.set(group, (dropped.get(group) ?? new Set()).add(last.at[row] ?? -1));
  }
  return [...dropped].map(([group, levels]) => {
    const places = group === "" ? [] : group.split(",").map(Number);
    return [...places.map((level, at) => memberOf(axes[at] as Axis, [level])), memberOf(last, [...levels])].join(" and ");
  });
}

function memberOf(axis: Axis, levels: number[]): string {
  const name = /^[A-Za-z_]\w*(\.\w+)*$/.test(axis.name) ? axis.name : `\`${axis.name}\``;
  const values = levels.map((level) => literal(axis.levels[level] ?? null));
  return values.length === 1 ? `${name} == ${values[0]}` : `${name} in [${values.join(", ")}]`;
}

function literal(value: Level): string {
  return value === null ? "null" : typeof value === "string" ? JSON.stringify(value) : String(value);
}

export function exportMarks(app: App): void {
  download("ratings.json", "application/json", `${JSON.stringify(app.marks.file(), null, 2)}\n`);
}

const picture = { width: 2400, gap: 8, head: 64, margin: 24 };

/** The visible cells with their names, drawn on a canvas and saved as PNG. */
export async function saveView(app: App): Promise<void> {
  const { layout } = app;
  const [rows, cols] = [Math.min(layout.rows.length, 60), Math.min(layout.cols.length, 60)];
  const names = layout.kind === "matrix" ? 260 : 0;
  const cell = Math.max(24, Math.min(320, Math.floor((picture.width - names - 2 * picture.margin) / Math.max(1, cols)) - picture.gap));
  const canvas = document.createElement("canvas");
  canvas.width = names + cols * (cell + picture.gap) + 2 * picture.margin;
  canvas.height = picture.head + 60 + rows * (cell + picture.gap) + picture.margin;
  const context = canvas.getContext("2d");
  if (!context) return;
  const theme = getComputedStyle(document.documentElement);
  context.fillStyle = theme.getPropertyValue("--bg");
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = theme.getPropertyValue("--ink");
  context.font = "600 26px sans-serif";
  context.fillText(document.querySelector(".answer h2")?.textContent ?? app.table.payload.name, picture.margin, 44);
  context.font = "18px sans-serif";
  for (let c = 0; c < cols; c += 1) {
    const head = layout.cols[c];
    context.fillText([head?.over, head?.label].filter(Boolean).join(" · "), picture.margin + names + c * (cell + picture.gap), picture.head + 40, cell);
  }
  for (let r = 0; r < rows; r += 1) {
    const top = picture.head + 52 + r * (cell + picture.gap);
    const head = layout.rows[r];
    if (names) context.fillText([head?.over, head?.label].filter(Boolean).join(" · "), picture.margin, top + cell / 2, names - 12);
    for (let c = 0; c < cols; c += 1) await drawCell(app, context, layout.at(r, c), [picture.margin + names + c * (cell + picture.gap), top, cell]);
  }
  canvas.toBlob((blob) => blob && downloadBlob(`${fileName(app)}.png`, blob));
}

async function drawCell(app: App, context: CanvasRenderingContext2D, row: number, [x, y, side]: [number, number, number]): Promise<void> {
  const address = row >= 0 ? app.thumbs.thumb(row) : null;
  if (!address) return;
  const image = new Image();
  image.src = address;
  await image.decode().catch(() => undefined);
  const scale = Math.min(side / (image.naturalWidth || 1), side / (image.naturalHeight || 1), 1);
  context.drawImage(image, x, y, image.naturalWidth * scale, image.naturalHeight * scale);
}

export function fileName(app: App): string {
  return app.table.payload.name.replace(/[^\p{L}\p{N}_-]+/gu, "-").slice(0, 60) || "sweep";
}
