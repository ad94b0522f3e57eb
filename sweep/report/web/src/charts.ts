// The second script: what is made when it is first looked at. Here are the charts beside the grid. They and the grid are one instrument: a brush filters it, a point under the cursor is shown.

import * as Plot from "@observablehq/plot";
import type { App } from "./app";
import { chooseBlind } from "./choosing";
import { series } from "./colour";
import { showKeys, showMenu, showShare } from "./dialogs";
import { h, oncePerFrame, replace, replaceKeepingFocus, select } from "./dom";
import { provideExtras } from "./extras";
import { percent, shortAll } from "./format";
import { meansOf, sharesOf } from "./means";
import { SweepFindings } from "./findings";
import { Parallel } from "./parallel";
import { apart, frame, label, shade, swatch, tickNames, title } from "./plots";
import { paperOf } from "./printing";
import { Response } from "./response";
import type { View } from "./state";
import type { Axis, Column } from "./table";
import { SweepTable } from "./tableview";

class SweepCharts extends HTMLElement {
  app!: App;
  #controls!: HTMLElement;
  #response!: Response;
  #interaction!: HTMLElement;
  #shares!: HTMLElement;
  #parallel!: Parallel;
  #width = 0;
  readonly #later = oncePerFrame(() => this.#draw());

  connectedCallback(): void {
    this.#controls = h("div", { class: "controls" });
    this.#response = new Response(this.app);
    this.#interaction = h("figure", { class: "interaction" });
    this.#shares = h("figure", { class: "shares" });
    this.#parallel = new Parallel(this.app);
    this.replaceChildren(this.#controls, this.#response.element, this.#interaction, this.#shares, this.#parallel.element, this.#response.tip);
    new ResizeObserver(() => {
      if (Math.abs(this.#inside() - this.#width) > 4) this.#later();
    }).observe(this);
    this.app.store.listen((changed) => this.#follow(changed));
    this.app.onHover(() => this.#lightUp());
    this.#later();
  }

  #lightUp(): void {
    if (this.app.view.panel === "charts") this.#response.lightUp();
  }

  #follow(changed: Set<keyof View>): void {
    if (this.app.view.panel !== "charts") return;
    const shape = ["metric", "along", "group", "filter", "brush", "hidden", "panel", "blind"] as const;
    if (shape.some((name) => changed.has(name))) this.#later();
    else if (changed.has("cursor")) this.#lightUp();
  }

  #draw(): void {
    const { app } = this;
    if (app.view.panel !== "charts" || this.clientWidth === 0) return;
    this.#width = this.#inside();
    const metric = app.table.column(app.view.metric);
    this.#paintControls();
    if (!metric || app.view.blind) {
      for (const figure of [this.#interaction, this.#shares]) replace(figure);
      this.#response.say(app.view.blind ? "Blind mode hides charts. Press b to leave it." : "No metrics yet. sweep study measures the images; their curves then appear here.");
      this.#parallel.draw(app.view.blind ? 0 : this.#width);
      return;
    }
    const along = app.table.axis(app.view.along);
    const group = app.table.axis(app.view.group);
    const lines = group === along ? null : group;
    if (along) this.#response.draw(this.#width, { metric, along, group: lines });
    else this.#response.say("One level has no curve. Vary an axis to see one.");
    this.#drawInteraction(metric, along, lines);
    this.#drawShares();
    this.#parallel.draw(this.#width);
  }

  #inside(): number {
    const style = getComputedStyle(this);
    return Math.floor(this.clientWidth - Number.parseFloat(style.paddingLeft) - Number.parseFloat(style.paddingRight));
  }

  #paintControls(): void {
    const { view, store, table } = this.app;
    const axes: [string, string][] = table.axes.filter((axis) => axis.levels.length > 1).map((axis) => [axis.name, axis.label]);
    const metrics: [string, string][] = table.metrics.map((column) => [column.name, column.label]);
    this.#controls.hidden = metrics.length === 0;
    replaceKeepingFocus(
      this.#controls,
      h("label", {}, h("span", {}, "metric"), select("Metric", metrics, view.metric ?? "", (metric) => store.set({ metric }))),
      h("label", {}, h("span", {}, "along"), select("Along", axes, view.along ?? "", (along) => store.set({ along }))),
      h("label", {}, h("span", {}, "lines"), select("Lines", [["", "all together"], ...axes], view.group ?? "", (group) => store.set({ group: group || null }))),
    );
  }

  #drawInteraction(metric: Column, along: Axis | null, group: Axis | null): void {
    const { app } = this;
    const others = app.table.axes.filter((axis) => axis.levels.length > 1 && axis.levels.length <= 12 && axis !== along);
    const across = group && others.includes(group) ? group : others[0];
    if (!along || !across || along.levels.length > 24) return replace(this.#interaction);
    const means = meansOf(app.table, app.chartMask, metric, across, along);
    const ends = shortAll(along.labels, 18);
    const marginRight = 20 + 7 * Math.max(2, ...ends.map((name) => name.length));
    const names = tickNames(across.labels, this.#width - marginRight);
    const plot = Plot.plot({
      ...frame(this.#width, 210),
      marginBottom: 34,
      marginRight,
      x: { label: null, type: "point", domain: across.levels.map((_, at) => at), tickFormat: (at: number) => names[at] ?? "", padding: 0.3 },
      y: { label: null, grid: true, nice: true, ticks: 5 },
      color: { type: "linear", range: ["#365c8d", "#4ac16d"] },
      marks: [
        Plot.line(means, { x: "x", y: "mean", z: "z", stroke: (cell: { z: number }) => shade(cell.z, along.levels.length), strokeWidth: 1.6 }),
        Plot.dot(means, { x: "x", y: "mean", fill: (cell: { z: number }) => shade(cell.z, along.levels.length), r: 2.4 }),
        Plot.text(apart(means.filter((cell) => cell.x === across.levels.length - 1), means), { x: "x", y: "mean", text: (cell: { z: number }) => ends[cell.z] ?? "", dx: 8, textAnchor: "start", fill: "var(--dim)" }),
      ],
    });
    label(plot, `Mean ${metric.label} by ${across.label} and ${along.label}`);
    replace(this.#interaction, title(`Interaction of ${across.label} and ${along.label}`, `Mean of ${metric.label}. Parallel lines: the two axes act independently.`), plot);
  }

  #drawShares(): void {
    const { table, chartMask } = this.app;
    const shares = sharesOf(table, chartMask);
    if (shares.entries.length === 0) return replace(this.#shares);
    const terms = [...new Set(shares.entries.map((entry) => entry.term))];
    const metrics = [...new Set(shares.entries.map((entry) => entry.metric))];
    const plot = Plot.plot({
      ...frame(this.#width, metrics.length * 20 + 48),
      marginLeft: Math.min(150, this.#width * 0.36),
      marginRight: 14,
      x: { label: null, domain: [0, 1], tickFormat: (share: number) => `${Math.round(share * 100)} %`, ticks: 4, grid: true },
      y: { label: null, domain: metrics, tickSize: 0 },
      marks: [
        Plot.barX(shares.entries, { x: "share", y: "metric", fill: (entry: { term: string }) => (entry.term === "rest" ? "var(--line)" : series(terms.indexOf(entry.term))), insetTop: 3, insetBottom: 3, order: terms, title: (entry: { term: string; metric: string; share: number }) => `${entry.metric}: ${entry.term} ${percent(entry.share)}` }),
      ],
    });
    label(plot, "Shares of variance that each axis explains, by metric");
    const keys = h("div", { class: "keys" }, ...terms.map((term, at) => swatch(term, term === "rest" ? "var(--line)" : series(at))));
    replace(this.#shares, title("Which axis explains the variance", shares.note), keys, plot);
  }
}

customElements.define("sweep-table", SweepTable);
customElements.define("sweep-charts", SweepCharts);
customElements.define("sweep-findings", SweepFindings);
provideExtras({ showKeys, showMenu, showShare, chooseBlind, paperOf });
