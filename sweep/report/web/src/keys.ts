// The keyboard: everything the pointer can do.

import type { App } from "./app";
import { clamp } from "./dom";
import { withExtras } from "./extras";
import { within, zoomTo } from "./gestures";
import type { SweepFindings } from "./findings";
import type { SweepGrid } from "./grid";
import type { SweepInspector } from "./inspector";
import { gains, type Mode, type Panel } from "./state";
import type { SweepTable } from "./tableview";
import { flipTheme } from "./theme";
import type { SweepToolbar } from "./toolbar";

export interface Parts {
  grid: SweepGrid;
  inspector: SweepInspector;
  toolbar: SweepToolbar;
}

const arrows: Record<string, [number, number]> = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

export class Keys {
  readonly #actions: Record<string, () => void>;
  #blinkSince = 0;

  constructor(
    private readonly app: App,
    private readonly parts: Parts,
  ) {
    const { store } = app;
    const { grid, inspector, toolbar } = parts;
    const mode = (wanted: Mode) => (): void => store.set({ mode: app.view.mode === wanted ? "plain" : wanted });
    const stars = (n: number) => (): void => app.marks.set(app.view.cursor, { stars: app.marks.of(app.view.cursor).stars === n ? 0 : n });
    this.#actions = {
      c: mode("compare"),
      d: mode("difference"),
      f: () => store.set({ full: !app.view.full }),
      z: () => inspector.zoomReal(),
      "+": () => zoomTo(app, app.view.zoom * 1.5),
      "=": () => zoomTo(app, app.view.zoom * 1.5),
      "-": () => zoomTo(app, app.view.zoom / 1.5),
      "0": () => store.set({ zoom: 1, panX: 0, panY: 0 }),
      "[": () => this.#turn(-1),
      "]": () => this.#turn(1),
      "{": () => grid.resize(1 / 1.25),
      "}": () => grid.resize(1.25),
      ",": () => this.#slide(0, -1),
      ".": () => this.#slide(0, 1),
      "<": () => this.#slide(1, -1),
      ">": () => this.#slide(1, 1),
      "1": stars(1),
      "2": stars(2),
      "3": stars(3),
      "4": stars(4),
      "5": stars(5),
      x: () => app.marks.set(app.view.cursor, { rejected: !app.marks.of(app.view.cursor).rejected }),
      n: () => inspector.focusNote(),
      p: () => store.set(app.view.pin === app.view.cursor ? { pin: -1 } : { pin: app.view.cursor, against: "pin" }),
      b: () => store.set({ blind: !app.view.blind }),
      "/": () => toolbar.focusFilter(),
      g: () => this.#panel("grid"),
      i: () => this.#panel("findings"),
      v: () => withExtras((extras) => extras.chooseBlind(app)),
      s: () => withExtras((extras) => extras.showShare(app)),
      y: () => inspector.copyFacts(),
      h: () => this.#panel("charts"),
      t: () => this.#panel("table"),
      m: () => withExtras((extras) => extras.showMenu(app)),
      l: () => flipTheme(),
      "?": () => withExtras((extras) => extras.showKeys()),
      Home: () => grid.jump("first"),
      End: () => grid.jump("last"),
      PageUp: () => grid.jump("up"),
      PageDown: () => grid.jump("down"),
      Enter: () => store.set({ full: !app.view.full }),
    };
  }

  listen(): void {
    document.addEventListener("keydown", (event) => this.#down(event));
    document.addEventListener("keyup", (event) => this.#up(event));
  }

  #down(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") return this.#escape();
    const target = event.target as Element | null;
    if (target?.closest("input:not([type=checkbox]):not([type=range]), select, textarea, [contenteditable]")) return;
    const arrow = arrows[event.key];
    const onControl = target?.closest("input, button, a, summary") !== null && target?.closest("input, button, a, summary") !== undefined;
    if (onControl && (arrow || event.key === " " || event.key === "Enter" || /^(Home|End|Page)/.test(event.key))) return;
    if (this.app.view.panel === "findings" && document.querySelector<SweepFindings>("sweep-findings")?.press(event.key)) return event.preventDefault();
    if (arrow) this.#move(arrow, event.shiftKey);
    else if (event.key === " ") this.#blink(event);
    else {
      const action = this.#actions[event.key];
      if (!action || (/^(Home|End|Page)/.test(event.key) && !this.#inWorkspace(target))) return;
      action();
    }
    event.preventDefault();
  }

  #inWorkspace(target: Element | null): boolean {
    return target?.closest("sweep-grid, sweep-table, sweep-inspector") !== null;
  }

  #move([down, right]: [number, number], shift: boolean): void {
    const { app, parts } = this;
    const { view, store } = app;
    if (shift && view.zoom > 1) store.set(within(view.zoom, view.panX - right * 20, view.panY - down * 20));
    else if (view.panel === "table" && right === 0) tableOf()?.move(down);
    else parts.grid.move(down, right);
  }

  #blink(event: KeyboardEvent): void {
    if (event.repeat) return;
    this.#blinkSince = event.timeStamp;
    this.app.store.set({ blink: !this.app.view.blink });
  }

  /** A tap leaves it switched, letting go after holding switches back. */
  #up(event: KeyboardEvent): void {
    if (event.key !== " " || this.#blinkSince === 0) return;
    if (event.timeStamp - this.#blinkSince > 350) this.app.store.set({ blink: false });
    this.#blinkSince = 0;
  }

  /** The compare slider; in a difference, how bright it is. */
  #turn(by: number): void {
    const { view, store } = this.app;
    if (view.mode === "difference") store.set({ gain: gains[clamp(gains.indexOf(view.gain) + by, 0, gains.length - 1)] ?? 1 });
    else store.set({ split: clamp(view.split + 5 * by, 0, 100) });
  }

  #slide(which: number, by: number): void {
    const axis = this.app.layout.sliders[which];
    const { store } = this.app;
    if (axis) store.set({ slide: { ...store.view.slide, [axis.name]: clamp((store.view.slide[axis.name] ?? 0) + by, 0, axis.levels.length - 1) } });
  }

  #panel(panel: Panel): void {
    this.app.store.set({ panel });
    if (panel !== "table") this.parts.grid.focusGrid();
    else requestAnimationFrame(() => tableOf()?.focusGrid()); // made when first looked at
  }

  #escape(): void {
    const { view, store } = this.app;
    if (view.full) store.set({ full: false });
    else if (view.blink) store.set({ blink: false });
    else if (view.mode !== "plain") store.set({ mode: "plain" });
    else if (view.zoom !== 1) store.set({ zoom: 1, panX: 0, panY: 0 });
    this.parts.inspector.classList.remove("open");
    this.parts.grid.focusGrid();
  }
}

function tableOf(): SweepTable | null {
  return document.querySelector<SweepTable>("sweep-table");
}
