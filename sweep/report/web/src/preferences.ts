// The ranking of blind choices: ranks with what the intervals leave open, the raw wins, and how far to trust them.

import type { App } from "./app";
import { show } from "./cells";
import { chooseBlind } from "./choosing";
import { h, svg } from "./dom";
import { number, shortAll } from "./format";
import type { Choice, ChoiceRank, Choices } from "./payload";
import type { Axis, Table } from "./table";

const chart = { width: 540, height: 64 };
const mostImages = 3;

/** The panel under the finding; null where the study has no choices along this axis. */
export function drawChoices(app: App, name: string | null): HTMLElement | null {
  const choices = app.table.payload.study?.choices?.find((found) => found.axis === name);
  const axis = app.table.axis(name);
  if (!choices || !axis) return null;
  return h(
    "div",
    { class: "decides" },
    h(
      "table",
      { class: "pairs-table ranking" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "rank"), h("th", { scope: "col" }, axis.label), h("th", { scope: "col" }, drawScale()), h("th", { scope: "col" }, "its images"))),
      h("tbody", {}, ...choices.ranking.map((rank) => drawRank(app, axis, rank))),
    ),
    h("div", { class: "level-tables" }, drawWins(app, axis), drawTrust(app, choices)),
  );
}

function drawScale(): SVGElement {
  const picture = svg("svg", { viewBox: `0 0 ${chart.width} 30`, role: "img", "aria-label": "chosen in how many of 100 pairs against an average one" });
  const write = (x: number, y: number, anchor: string, text: string): void => {
    const element = svg("text", { x: String(x), y: String(y), "text-anchor": anchor });
    element.textContent = text;
    picture.append(element);
  };
  write(chart.width / 2, 11, "middle", "chosen in … of 100 pairs against an average one");
  for (const value of [0, 25, 50, 75, 100]) write((value / 100) * chart.width, 26, value === 0 ? "start" : value === 100 ? "end" : "middle", String(value));
  return picture;
}

function drawRank(app: App, axis: Axis, rank: ChoiceRank): HTMLElement {
  const at = axis.levels.indexOf(rank.level);
  const place = rank.rank_low === rank.rank_high ? String(rank.rank_low) : `${rank.rank_low}–${rank.rank_high}`;
  const chosen = `chosen ${number(rank.chosen, 4)} of ${rank.shown}`;
  return h("tr", {}, h("td", {}, h("b", {}, place)), h("th", { scope: "row" }, h("b", {}, axis.labels[at] ?? String(rank.level)), h("small", {}, chosen)), h("td", {}, drawInterval(rank)), h("td", {}, ...imagesOf(app, axis, at)));
}

function drawInterval({ strength, low, high }: ChoiceRank): SVGElement {
  const x = (value: number): string => String((value / 100) * chart.width);
  const [middle, end] = [String(chart.height / 2), String(chart.height)];
  const picture = svg("svg", { viewBox: `0 0 ${chart.width} ${chart.height}`, role: "img", "aria-label": `${Math.round(strength)} of 100, 95 % interval ${Math.round(low)} to ${Math.round(high)}` });
  picture.append(svg("line", { x1: x(50), x2: x(50), y1: "0", y2: end, class: "yard-mean" }), svg("line", { x1: x(low), x2: x(high), y1: middle, y2: middle, class: "interval" }), svg("circle", { cx: x(strength), cy: middle, r: "6", class: "pair" }));
  for (const [y, text] of [[20, String(Math.round(strength))], [52, `${Math.round(low)}–${Math.round(high)}`]] as const) {
    const element = svg("text", { x: x(strength), y: String(y), "text-anchor": "middle" });
    element.textContent = text;
    picture.append(element);
  }
  return picture;
}

/** Images of a level, spread over its rows. */
function imagesOf(app: App, axis: Axis, at: number): HTMLElement[] {
  const rows = axis.at.flatMap((level, row) => (level === at && app.table.status[row] === "completed" ? [row] : []));
  const every = Math.max(1, Math.ceil(rows.length / mostImages));
  return rows.filter((_, place) => place % every === 0).map((row) => {
    const image = h("img", { alt: app.table.describe(row), draggable: false });
    show(image, app.thumbs.thumb(row) ?? "", "");
    return h("button", { class: "example", title: app.table.describe(row), onclick: () => app.store.set({ panel: "grid", cursor: row }) }, image);
  });
}

/** How often each level was chosen over each other: [wins, choices] by level; a tie is half a win. */
export function countWins(table: Table, axis: Axis, choices: Choice[]): Map<string, [won: number, of: number]> {
  const rows = new Map<string, number>();
  for (let row = 0; row < table.rows; row += 1) rows.set(table.ratingName(row), row);
  const found = new Map<string, [number, number]>();
  const add = (winner: number, loser: number, won: number): void => {
    const sum = found.get(`${winner} ${loser}`) ?? [0, 0];
    found.set(`${winner} ${loser}`, [sum[0] + won, sum[1] + 1]);
  };
  for (const { left, right, winner } of choices) {
    const [a, b] = [rows.get(left) ?? -1, rows.get(right) ?? -1];
    if (a < 0 || b < 0 || table.axes.some((other) => (other === axis) !== (other.at[a] !== other.at[b]))) continue;
    const won = winner === "tie" ? 0.5 : Number(winner === "left");
    add(axis.at[a] ?? 0, axis.at[b] ?? 0, won);
    add(axis.at[b] ?? 0, axis.at[a] ?? 0, 1 - won);
  }
  return found;
}

function drawWins(app: App, axis: Axis): HTMLElement {
  const wins = countWins(app.table, axis, app.marks.choices);
  const cell = (row: number, column: number): HTMLElement => {
    const sum = wins.get(`${row} ${column}`);
    const text = sum ? `${number(sum[0])} of ${sum[1]}` : "·";
    return h("td", {}, sum && sum[0] * 2 > sum[1] ? h("b", {}, text) : text);
  };
  return h(
    "table",
    { class: "levels-table" },
    h("caption", {}, "Row chosen over column; “cannot say” counts half"),
    h("thead", {}, h("tr", {}, h("td", {}), ...shortAll(axis.labels, 14).map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ...shortAll(axis.labels, 22).map((name, row) => h("tr", {}, h("th", { scope: "row" }, name), ...axis.labels.map((_, column) => cell(row, column))))),
  );
}

function drawTrust(app: App, choices: Choices): HTMLElement {
  const agreement = Object.entries(choices.agreement).sort(([, a], [, b]) => (b[0] ?? 0) / (b[1] || 1) - (a[0] ?? 0) / (a[1] || 1)).slice(0, 3);
  const agrees = agreement.map(([name, [same, of]]) => `${app.table.column(name)?.label ?? name} in ${same} of ${of}`);
  const more = pairsToSettle(choices);
  const first = choices.ranking.filter((rank) => rank.rank_low === 1).length > 1;
  return h(
    "div",
    { class: "trust" },
    h("p", { class: "dim" }, "How far to trust this"),
    h("p", {}, `${choices.repeated > 0 ? `You chose alike in ${choices.alike} of ${choices.repeated} pairs that came twice. ` : ""}Left ${choices.left} times, right ${choices.right}, ${choices.ties} undecided.`),
    agrees.length > 0 ? h("p", {}, `Your choices agree with ${agrees.join(", ")} pairs.`) : null,
    h("p", {}, first && more !== null ? `${more > 400 ? "More than 400" : `About ${more}`} more pairs would settle first place. ` : "", h("button", { class: "link", onclick: () => chooseBlind(app) }, "go on choosing"), " ", h("kbd", {}, "v")),
    h("p", { class: "dim" }, `Bradley–Terry model of ${choices.choices} choices; 95 % intervals by resampling them.`),
  );
}

/** How many more pairs would part the two best, if their strengths stay; null where they are equal. */
export function pairsToSettle({ ranking, choices }: Choices): number | null {
  const [best, next] = ranking;
  if (!best || !next || best.strength <= next.strength) return null;
  const half = Math.hypot((best.high - best.low) / 2, (next.high - next.low) / 2);
  return Math.max(0, Math.ceil((choices * ((half / (best.strength - next.strength)) ** 2 - 1)) / 10) * 10);
}
