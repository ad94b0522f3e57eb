// What Python writes into the page (sweep/report/page_json.py), and how it is read back.

export type Level = string | number | boolean | null;

/** A column: either plain values, or indices `i` into distinct values `d`. */
export interface Packed {
  v?: Level[];
  d?: Level[];
  i?: number[];
}

export interface AxisData {
  name: string;
  kind: string;
  levels: Level[];
  at: number[];
}

export interface ColumnData {
  name: string;
  label: string;
  kind: "metric" | "info";
  direction: "higher" | "lower" | "neutral";
  summary: string;
  values: Packed;
}

export interface ImageData {
  prefix: string | null;
  path: Packed;
  thumb: Packed;
  width: Packed;
  height: Packed;
}

export interface SourceData {
  path: string | null;
  thumb: string | null;
  label: string;
}

export interface Estimate {
  value: number | null;
  low: number | null;
  high: number | null;
  confidence: number;
  n: number;
  method: string;
}

export interface Curve {
  metric: string;
  axis: string;
  group: Record<string, Level>;
  half: Estimate;
}

export interface Effects {
  metric: string;
  method: string;
  shares: { axes: string[]; share: Estimate }[];
  rest: number | null;
  n: number;
}

export interface Recommendation {
  metric: string;
  axis: string;
  threshold: number;
  wanted: "above" | "below"; // side of the threshold that holds
  use?: Level; // the last level that holds, null where none does
  side: "up to" | "from"; // the end of the axis that the advice starts at: the lowest level, the highest
  weakest_group: Record<string, Level> | null;
}

/** What an adaptive design found: it chose its images by their values, so counts over them are no shares. */
export interface AdaptiveData {
  metric: string;
  axis: string;
  threshold: number;
  used: number; // images
  full: number; // images of the full grid
  groups: { group: Record<string, Level>; use: number | null; is_rising: boolean }[];
  weakest: Record<string, Level> | null;
  use: number | null; // the last level at which every image holds
}

export interface Word {
  kind: string;
  text: string;
  detail?: string;
  headline: boolean;
  metric: string | null;
  axis: string | null;
}

/** How far images lie apart that differ in one axis alone; `seed`: a new seed of the same point. A column entry a pair. */
export interface DistanceData {
  axis: string;
  seed: boolean;
  mean: number;
  pairs: number; // of all, also where the columns hold a part
  a: number[]; // rows
  b: number[];
  distance: number[];
}

export interface ChoiceRank {
  level: Level;
  chosen: number; // a tie counts half
  shown: number;
  strength: number; // in how many of 100 pairs it would be chosen over an average level
  low: number;
  high: number;
  rank_low: number;
  rank_high: number;
}

/** Blind choices along an axis, ranked. */
export interface Choices {
  axis: string;
  choices: number;
  ties: number;
  left: number;
  right: number;
  repeated: number; // pairs that came twice
  alike: number; // of these, chosen alike
  ranking: ChoiceRank[]; // the best first
  agreement: Record<string, number[]>; // by metric: choices that agree with it, of choices that could
}

export interface Study {
  holds?: { metric: string; axis: string; threshold: number; group: Record<string, Level>; held: number; images: number }[];
  distances?: DistanceData[];
  choices?: Choices[];
  recommendations: Recommendation[];
  adaptive?: AdaptiveData | null;
  curves: Curve[];
  effects: Effects[];
  words: Word[];
}

export interface Mark {
  stars: number | null; // 0 to 5
  rejected: boolean;
  note: string;
}

export interface Choice {
  left: string;
  right: string;
  winner: "left" | "right" | "tie";
  at: string;
}

export interface RatingsFile {
  schema: 1;
  ratings: Record<string, Partial<Mark>>; // by key and number of the image: "key.1"
  choices: Choice[];
  withdrawn?: string[]; // times of choices that were taken back, of ratings that are sent
}

export interface Progress {
  done: number;
  failed: number;
  points: number;
  running: boolean;
  rendering: number;
  retrying: number;
  seconds: number; // since the run began
  left: number | null; // seconds, null where nobody can know yet
  report: boolean; // the study is made: the page can become the report
}

export interface Live extends Progress {
  events: string;
  ratings: string; // address that keeps ratings
  generation: number;
  rows: LiveRow[]; // at a server now, or between two attempts
}

/** One row as a live server sends it: raw values by column. */
export interface LiveRow {
  key: string;
  image: number;
  status: string;
  share?: number | null; // of the image that is rendered, while a server is at it
  error: string | null;
  path: string | null;
  thumb: string | null;
  width: number | null;
  height: number | null;
  source: SourceData | null;
  axes: Record<string, Level>;
  columns: Record<string, Level>;
}

export interface Payload {
  version: 1;
  id: string;
  name: string;
  live: Live | null;
  ratings: RatingsFile;
  leftOut: number[][]; // levels by axis of combinations that the experiment's conditions leave out
  conditions: string[];
  inputs: Record<string, Level>; // what is fixed in the experiment
  retry: string; // the command that tries failures again, "" where there are none
  runs: { shown: string; other: string } | null;
  axes: AxisData[];
  columns: ColumnData[];
  key: Packed;
  status: Packed;
  error: Packed;
  images: ImageData;
  others: ImageData | null;
  sources: { list: SourceData[]; at: number[] };
  thumbs: { mode: "embedded" | "files"; prefix: string };
  originals: "beside" | "inside";
  study: Study | null;
  experiment: string;
}

export function unpack(packed: Packed): Level[] {
  if (packed.v) return packed.v;
  const { d = [], i = [] } = packed;
  return i.map((at) => (at < 0 ? null : (d[at] ?? null)));
}

/** The payload out of the page: plain JSON, or gzip in base64 where that is smaller. */
export async function readPayload(): Promise<Payload> {
  const element = document.getElementById("sweep-data");
  const text = element?.textContent ?? "";
  if (!element || text.trim() === "") throw new Error("the page holds no data.");
  return JSON.parse(element.getAttribute("type") === "application/json" ? text : await gunzip(text.trim())) as Payload;
}

async function gunzip(base64: string): Promise<string> {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

/** Newer browsers decode base64 themselves, several times as fast. */
function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  const own = Uint8Array as unknown as { fromBase64?: (text: string) => Uint8Array<ArrayBuffer> };
  if (own.fromBase64) return own.fromBase64(base64);
  const packed = atob(base64);
  const bytes = new Uint8Array(packed.length);
  for (let at = 0; at < packed.length; at += 1) bytes[at] = packed.charCodeAt(at);
  return bytes;
}
