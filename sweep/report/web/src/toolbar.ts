// What stands where: axes, sliders, hidden levels, colour, order, size and the filter line.

import type { App } from "./app";
import { scaleOf } from "./colour";
import { clamp, h, icon, replace, replaceKeepingFocus, select } from "./dom";
import { count, number } from "./format";
import type { SweepGrid } from "./grid";
import type { Place, View } from "./state";
import type { Axis } from "./table";

const placeNames: Record<Place, string> = { x: "across", sx: "group across", y: "down", sy: "group down" };
const sides: [name: string, places: [outer: Place, inner: Place]][] = [["across", ["sx", "x"]], ["down", ["sy", "y"]]];

export class SweepToolbar extends HTMLElement {
  app!: App;
  grid!: SweepGrid;
  menu!: (anchor: HTMLElement) => void;
  #controls!: HTMLElement;
  #places!: HTMLElement;
  #sliders!: HTMLElement;
  #filter!: HTMLInputElement;
  #problem!: HTMLElement;
  #chips!: HTMLElement;
  #count!: HTMLElement;
  #size!: HTMLInputElement;
  #legend!: HTMLElement;
  #order!: HTMLElement;
  #colour!: HTMLElement;
  #sliderState = "";

  connectedCallback(): void {
    const { store } = this.app;
    this.#places = h("div", { class: "places" });
    this.#order = h("div", { class: "order" });
    this.#colour = h("span", {});
    this.#sliders = h("div", { class: "sliders" });
    this.#filter = h("input", { type: "search", class: "filter", placeholder: "filter", "aria-label": "Filter, for example: ssim > 0.8 painterly", value: this.app.view.filter, spellcheck: false });
    this.#filter.addEventListener("input", () => store.set({ filter: this.#filter.value }));
    this.#filter.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === "Escape") this.grid.focusGrid();
    });
    this.#problem = h("span", { class: "problem", role: "status" });
    this.#count = h("span", { class: "count", "aria-live": "polite" });
    this.#chips = h("span", { class: "chips" });
    this.#legend = h("span", { class: "legend" });
    this.#size = h("input", { type: "range", min: "40", max: "480", step: "4", class: "size", "aria-label": "Cell size", title: "cell size" });
    this.#size.addEventListener("input", () => store.set({ size: Number(this.#size.value) }));
    const more = h("button", { class: "tool more", title: "values to hide, blind mode (m)", "aria-label": "More", onclick: (event: Event) => this.menu(event.currentTarget as HTMLElement) }, icon("more"));
    this.#controls = h("div", { class: "choices" }, this.#places, this.#order, h("div", { class: "dress" }, this.#colour, h("label", { class: "sized" }, h("span", {}, "size"), this.#size)));
    const setup = h("button", { class: "tool setup", "aria-expanded": "false", title: "axes, order and colour", "aria-label": "Axes, order and colour" }, icon("setup"));
    setup.addEventListener("click", () => setup.setAttribute("aria-expanded", String(this.#controls.classList.toggle("open"))));
    const first = h("div", { class: "bar" }, this.#controls, h("div", { class: "search" }, setup, this.#filter, more));
    const second = h("div", { class: "bar second" }, this.#sliders, this.#legend, this.#chips, this.#problem, this.#count);
    this.replaceChildren(first, second);
    store.listen((changed) => this.#paint(changed));
    this.#paint(new Set(["x"]));
  }

  #paint(changed: Set<keyof View>): void {
    const { app } = this;
    const { view } = app;
    if (["x", "y", "sx", "sy", "sort", "falling", "colour", "blind", "weakest", "mark", "filter", "metric"].some((name) => changed.has(name as keyof View))) {
      this.#paintPlaces();
      this.#paintOrder();
    }
    this.#paintSliders();
    if (this.#filter.value !== view.filter && document.activeElement !== this.#filter) this.#filter.value = view.filter;
    this.#problem.textContent = app.filter.problem ?? "";
    if (document.activeElement !== this.#size) this.#size.value = String(this.grid.cellSize);
    this.#paintChips();
    this.#paintLegend();
    const { layout, table } = app;
    const narrowed = layout.passing < table.rows;
    this.hidden = table.rows === 0 && table.axes.length === 0;
    const all = table.rows.toLocaleString("en");
    const matching = narrowed ? `${layout.passing.toLocaleString("en")} of ${all} match` : "";
    const showing = layout.shown < layout.passing ? `showing ${layout.shown.toLocaleString("en")}${narrowed ? "" : ` of ${all}`}` : "";
    this.#count.textContent = [matching, showing].filter(Boolean).join(", ");
  }

  #paintPlaces(): void {
    const { app } = this;
    const { view, store, table } = app;
    this.#places.hidden = view.sort !== null || view.blind || table.axes.length === 0;
    const axes = table.axes.filter((axis) => axis.levels.length > 1 || [view.x, view.y].includes(axis.name));
    const choose = (place: Place): HTMLElement => {
      const outer = place === "sx" || place === "sy";
      const options: [string, string][] = [["", outer ? "+" : "–"], ...axes.map((axis): [string, string] => [axis.name, axis.label])];
      const chosen = view[place] ?? "";
      return select(placeNames[place], options, chosen, (value) => store.set(this.#placed(place, value || null)), { class: chosen ? place : `${place} unset`, title: `${placeNames[place]}: the axis that stands there` });
    };
    const made = sides
      .filter(([side]) => axes.length > 1 || side === "across")
      .map(([side, [outer, inner]]) => {
        const places = axes.length < 3 ? [inner] : view[outer] ? [outer, inner] : [inner, outer]; // the slower first, as it reads
        return h("span", { class: "side", role: "group", "aria-label": side }, h("span", { "aria-hidden": "true" }, side), ...places.map(choose));
      });
    replaceKeepingFocus(this.#places, ...made);
  }

  /** An axis stands in one place: choosing it elsewhere swaps the two. */
  #placed(place: Place, name: string | null): Partial<View> {
    const { view } = this.app;
    const patch: Partial<View> = { [place]: name };
    for (const other of ["x", "y", "sx", "sy"] as Place[]) {
      if (other !== place && name !== null && view[other] === name) patch[other] = view[place];
    }
    return patch;
  }

  #paintOrder(): void {
    const { app } = this;
    const { view, store, table } = app;
    const numeric: [string, string][] = table.columns.filter((column) => column.numeric).map((column) => [column.name, column.label]);
    const weakest: [string, string][] = app.verdict?.group ? [["weakest", "weakest first"]] : [];
    const all: [string, string][] = [...weakest, ["", app.verdict?.group ? "as defined" : "by axes"], ["index", "as rendered"], ["rating", "rating"], ...table.axes.filter((axis) => axis.levels.length > 1).map((axis): [string, string] => [axis.name, axis.label]), ...numeric];
    const arrow = h("button", { class: "tool", title: view.falling ? "largest first" : "smallest first", "aria-label": "Reverse the order", onclick: () => store.set({ falling: !view.falling }) }, view.falling ? "↓" : "↑");
    replaceKeepingFocus(
      this.#order,
      view.blind ? h("span", { class: "blind" }, "Blind mode: shuffled") : h("label", {}, h("span", {}, "order"), select("Order", all, view.sort ?? (view.weakest && app.verdict?.group ? "weakest" : ""), (value) => store.set(value === "weakest" ? { sort: null, weakest: true } : { sort: value || null, weakest: false }))),
      view.sort && !view.blind ? arrow : null,
      app.verdict && !view.blind ? h("label", { class: "mark-choice" }, h("span", {}, "mark"), select("Mark", [["1", "what fell below"], ["", "–"]], view.mark ? "1" : "", (value) => store.set({ mark: value === "1" }))) : null,
    );
    replaceKeepingFocus(this.#colour, numeric.length > 0 && !view.blind ? h("label", {}, h("span", {}, "colour"), select("Colour by", [["", "–"], ...numeric], view.colour ?? "", (value) => store.set({ colour: value || null }))) : null);
  }

  #paintSliders(): void {
    const { app } = this;
    const { sliders } = app.layout;
    const state = sliders.map((axis) => `${axis.name}:${app.view.slide[axis.name]}:${axis.levels.length}`).join("|");
    if (state === this.#sliderState) return;
    const same = state.replace(/:\d+:/g, ":") === this.#sliderState.replace(/:\d+:/g, ":");
    this.#sliderState = state;
    if (!same) replace(this.#sliders, ...sliders.map((axis) => this.#slider(axis)));
    sliders.forEach((axis, at) => {
      const label = this.#sliders.children[at];
      const input = label?.querySelector("input");
      const output = label?.querySelector("output");
      const position = app.view.slide[axis.name] ?? 0;
      if (input && Number(input.value) !== position) input.value = String(position);
      if (input) input.setAttribute("aria-valuetext", axis.labels[position] ?? "none");
      if (output) output.textContent = output.title = axis.labels[position] ?? "none";
    });
  }

  #slider(axis: Axis): HTMLElement {
    const { store } = this.app;
    const input = h("input", { type: "range", min: "0", max: String(axis.levels.length - 1), step: "1", value: String(this.app.view.slide[axis.name] ?? 0) });
    input.style.setProperty("--steps", String(clamp(axis.levels.length, 2, 12)));
    input.addEventListener("input", () => store.set({ slide: { ...store.view.slide, [axis.name]: Number(input.value) } }));
    return h("label", { class: "slider" }, h("span", {}, axis.label), input, h("output", {}));
  }

  #paintChips(): void {
    const { view, store, table } = this.app;
    const chips: HTMLElement[] = [];
    for (const [name, [low, high]] of Object.entries(view.brush)) {
      const axis = table.axis(name);
      const text = axis && !axis.numeric ? `${axis.label}: ${count(Math.floor(high) - Math.ceil(low) + 1, "level")}` : `${axis?.label ?? table.column(name)?.label ?? name} ${number(low)}–${number(high)}`;
      const drop = (): void => store.set({ brush: Object.fromEntries(Object.entries(store.view.brush).filter(([other]) => other !== name)) });
      chips.push(chip(text, drop));
    }
    for (const [name, levels] of Object.entries(view.hidden)) {
      if (levels.length > 0) chips.push(chip(`${table.axis(name)?.label ?? name}: ${levels.length} hidden`, () => store.set({ hidden: { ...store.view.hidden, [name]: [] } })));
    }
    replaceKeepingFocus(this.#chips, ...chips);
  }

  #paintLegend(): void {
    const { view, table } = this.app;
    const scale = view.blind ? null : scaleOf(view.colour, table);
    if (!scale) replace(this.#legend);
    else if (scale.low === scale.high) replace(this.#legend, h("span", {}, `${scale.column.label} ${number(scale.low)} everywhere`));
    else replace(this.#legend, h("span", {}, scale.column.label), h("span", {}, number(scale.low)), h("i", { class: "ramp" }), h("span", {}, number(scale.high)));
  }

  focusFilter(): void {
    this.#filter.focus();
    this.#filter.select();
  }
}

function chip(text: string, drop: () => void): HTMLElement {
  return h("button", { class: "chip", title: "Remove", onclick: drop }, text, " ×");
}
