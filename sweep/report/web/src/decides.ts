// Which word decides: the prompt as a chart, every pair of images as a mark, and the pair nearest to the mean.

import type { App } from "./app";
import { show } from "./cells";
import { h, svg } from "./dom";
import { number, short, shortAll } from "./format";
import { cutPrompt, type Distance, distancesOf, type LevelPair, levelPairsOf, type Pair, roundUp, stackMarks, typicalPair } from "./distances";

const chart = { width: 560, height: 72, mark: 6 };

/** The panel under the finding; null where the study measured no distances. */
export function drawDistances(app: App): HTMLElement | null {
  const distances = distancesOf(app.table);
  const seed = distances.find((distance) => distance.seed) ?? null;
  if (distances.length === 0) return null;
  const most = roundUp(Math.max(...distances.flatMap((distance) => distance.pairs.map((pair) => pair.value))));
  return h(
    "div",
    { class: "decides" },
    drawPrompt(app, distances, seed),
    h(
      "table",
      { class: "pairs-table" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "what differs"), h("th", { scope: "col" }, drawScale(most, seed)), h("th", { scope: "col", class: "num" }, "mean"), h("th", { scope: "col" }, "the pair nearest to the mean"))),
      h("tbody", {}, ...distances.map((distance) => drawLine(app, distance, seed, most))),
    ),
    h("div", { class: "level-tables" }, ...distances.filter((distance) => !distance.seed && distance.axis.levels.length <= 8).map((distance) => drawLevels(distance, seed))),
    h("p", { class: "dim" }, noteOf(distances, seed)),
  );
}

function noteOf(distances: Distance[], seed: Distance | null): string {
  const parts = distances.some((distance) => distance.count > distance.pairs.length);
  return `Colour difference (ΔE in OKLab × 100, 2 is about a just visible step). One mark is one pair of images that differ in this alone${parts ? "; of many pairs a part is shown" : ""}.${seed ? " Shaded: from the nearest to the farthest pair of two seeds. “Alike”: nearer than any two seeds of one prompt." : ""}`;
}

function drawPrompt(app: App, distances: Distance[], seed: Distance | null): HTMLElement {
  const row = Math.max(0, app.view.cursor);
  const most = Math.max(...distances.map((distance) => distance.mean));
  const word = (text: string, distance: Distance): HTMLElement => {
    const bar = h("i", { class: distance.seed ? "seed" : "" });
    bar.style.height = `${Math.max(2, (distance.mean / most) * 22)}px`;
    return h("span", { class: "word" }, distance.seed ? h("em", {}, text) : h("b", {}, text), bar, h("small", {}, h("b", {}, number(distance.mean)), distance.seed ? " the yardstick" : ` ${distance.axis.label}, ${distance.axis.levels.length}`));
  };
  const parts = cutPrompt(String(app.table.value(row, "prompt") ?? ""), row, distances);
  const long = parts.reduce((sum, part) => sum + part.text.length, 0) > 160;
  return h("div", { class: `prompt-chart${long ? " long" : ""}` }, ...parts.map((part) => (part.distance ? word(part.text, part.distance) : h("span", { class: "rest" }, part.text))), seed ? word("a new seed", seed) : null);
}

const place = (value: number, most: number): number => (value / most) * chart.width;

function drawScale(most: number, seed: Distance | null): SVGElement {
  const picture = svg("svg", { viewBox: `0 0 ${chart.width} 30`, role: "img", "aria-label": `colour difference, 0 to ${number(most)}` });
  for (const value of [0, 0.25, 0.5, 0.75, 1].map((part) => part * most)) {
    const anchor = value === 0 ? "start" : value === most ? "end" : "middle";
    const text = svg("text", { x: String(place(value, most)), y: "26", "text-anchor": anchor });
    text.textContent = value === 0 ? "0 colour difference" : number(value);
    picture.append(text);
  }
  if (seed) {
    const text = svg("text", { x: String(place(seed.mean, most)), y: "11", "text-anchor": "middle" });
    text.textContent = "a new seed";
    picture.append(text);
  }
  return picture;
}

function drawLine(app: App, distance: Distance, seed: Distance | null, most: number): HTMLElement {
  const { axis } = distance;
  const name = distance.seed ? h("em", {}, "a new seed") : h("b", {}, axis.label);
  const levels = distance.seed ? "the same prompt twice" : short(axis.labels.join(" · "), 90);
  const pair = typicalPair(distance);
  return h("tr", {}, h("th", { scope: "row" }, name, h("small", {}, levels)), h("td", {}, drawMarks(distance, seed, most)), h("td", { class: "num" }, h("b", {}, number(distance.mean))), h("td", {}, pair ? drawPair(app, distance, pair) : null));
}

function drawMarks(distance: Distance, seed: Distance | null, most: number): SVGElement {
  const { width, height, mark } = chart;
  const values = distance.pairs.map((pair) => pair.value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${values.length} pairs from ${number(low)} to ${number(high)}, mean ${number(distance.mean)}` });
  if (seed) drawYardstick(picture, seed, most);
  const marks = stackMarks(values, most, Math.floor(width / mark));
  const step = Math.min(mark, (height - mark) / (1 + 2 * Math.max(...marks.map(([, lift]) => Math.abs(lift)))));
  for (const [column, lift] of marks) picture.append(svg("circle", { cx: String(Math.min(width - 3, Math.max(3, column * mark))), cy: (height / 2 + lift * step).toFixed(1), r: "2.6", class: distance.seed ? "seed" : "pair" }));
  const at = String(place(distance.mean, most));
  picture.append(svg("line", { x1: at, x2: at, y1: "8", y2: String(height - 8), class: "mean" }));
  return picture;
}

function drawYardstick(picture: SVGElement, seed: Distance, most: number): void {
  const values = seed.pairs.map((pair) => pair.value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const at = String(place(seed.mean, most));
  picture.append(svg("rect", { x: String(place(low, most)), y: "0", width: String(Math.max(1, place(high - low, most))), height: String(chart.height), class: "yardstick" }), svg("line", { x1: at, x2: at, y1: "0", y2: String(chart.height), class: "yard-mean" }));
}

/** Two images beside each other; pressed, they are compared in the grid. */
function drawPair(app: App, { axis }: Distance, { a, b, value }: Pair): HTMLElement {
  const names = shortAll(axis.labels, 24);
  const label = (row: number): string => names[axis.at[row] ?? -1] ?? "";
  const others = app.table.axes.filter((other) => other !== axis && other.levels.length > 1).map((other) => other.labels[other.at[a] ?? -1]).join(" · ");
  const image = (row: number): HTMLElement => {
    const element = h("img", { alt: app.table.describe(row), draggable: false });
    show(element, app.thumbs.thumb(row) ?? "", "");
    return element;
  };
  return h("button", { class: "example-pair", title: "compare the two in the grid", onclick: () => app.store.set({ panel: "grid", cursor: a, pin: b, against: "pin", mode: "compare" }) }, image(a), image(b), h("span", {}, h("b", {}, `${label(a)} ↔ ${label(b)}`), `, ${number(value)}`, h("small", {}, others)));
}

function drawLevels(distance: Distance, seed: Distance | null): HTMLElement {
  const { axis } = distance;
  const least = seed ? Math.min(...seed.pairs.map((pair) => pair.value)) : 0;
  const means = new Map(levelPairsOf(distance).map((pair): [string, LevelPair] => [`${pair.low} ${pair.high}`, pair]));
  const last = axis.levels.length - 1;
  const cell = (low: number, high: number): HTMLElement => {
    const mean = means.get(`${low} ${high}`)?.mean;
    if (low >= high || mean === undefined) return h("td", {});
    return h("td", {}, mean < least ? h("b", { class: "alike" }, `${number(mean)} alike`) : number(mean));
  };
  const columns = shortAll(axis.labels, 16).slice(0, last);
  return h(
    "table",
    { class: "levels-table" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, h("b", {}, axis.label)), ...columns.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ...shortAll(axis.labels, 22).slice(1).map((name, at) => h("tr", {}, h("th", { scope: "row" }, name), ...columns.map((_, low) => cell(low, at + 1))))),
  );
}
