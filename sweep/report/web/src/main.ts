// Puts the page together: reads the data, makes the parts, keeps the address in step with the view.

import { App } from "./app";
import { h, icon, oncePerFrame } from "./dom";
import { withExtras } from "./extras";
import { SweepGrid } from "./grid";
import { SweepInspector } from "./inspector";
import { Keys } from "./keys";
import { follow, SweepProgress } from "./live";
import { readPayload } from "./payload";
import { firstView, fromHash, type Panel, Store, toHash } from "./state";
import { SweepSummary } from "./summary";
import { Table } from "./table";
import { mainFindings } from "./ranking";
import { applyTheme, flipTheme } from "./theme";
import { SweepToolbar } from "./toolbar";
import { firstRow } from "./layout";
import { holds } from "./verdict";

customElements.define("sweep-grid", SweepGrid);
customElements.define("sweep-inspector", SweepInspector);
customElements.define("sweep-progress", SweepProgress);
customElements.define("sweep-summary", SweepSummary);
customElements.define("sweep-toolbar", SweepToolbar);

performance.mark("sweep-script");
applyTheme();
void start();

async function start(): Promise<void> {
  const mount = document.getElementById("explorer");
  if (!mount) return;
  try {
    const payload = await readPayload();
    performance.mark("sweep-data");
    build(mount, new Table(payload));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    mount.replaceChildren(h("p", { class: "error", role: "alert" }, `The images cannot be shown: ${message}`));
    console.error(error);
  }
}

function build(mount: HTMLElement, table: Table): void {
  const first = firstView(table);
  const store = new Store(fromHash(location.hash, first, table));
  const app = new App(table, store, first);
  const asked = app.view.cursor >= 0;
  if (!asked) store.view = { ...store.view, cursor: firstImage(app) };
  const grid = Object.assign(new SweepGrid(), { app });
  const inspector = Object.assign(new SweepInspector(), { app });
  const toolbar = Object.assign(new SweepToolbar(), { app, grid, menu: () => withExtras((extras) => extras.showMenu(app)) });
  const summary = Object.assign(new SweepSummary(), { app });
  const progress = Object.assign(new SweepProgress(), { app });
  const workspace = h("div", { class: "workspace" }, grid, inspector);
  const dress = (): void => dressUp(mount, app);
  dress();
  mount.replaceChildren(workspace);
  mount.prepend(toolbar);
  const top = document.getElementById("summary");
  if (table.payload.runs) top?.append(progress); // a comparison has its sentences from the start
  else top?.replaceChildren(summary, progress);
  mount.addEventListener("preview", sayPreviews);
  grid.addEventListener("wanted", () => inspector.classList.add("open"));
  store.listen(dress);
  navigation(app);
  whenWanted(app, inspector, ["table", "charts", "findings"]);
  new Keys(app, { grid, inspector, toolbar }).listen();
  keepAddress(app);
  follow(app, progress);
  printable(app);
  grid.focusGrid();
  if (asked) store.touch("cursor");
  performance.mark("sweep-ready");
}

/** The originals are not beside the page: said once, where everybody reads it. */
function sayPreviews(): void {
  const line = document.querySelector(".state-line");
  if (!line || line.querySelector(".previews")) return;
  line.append(h("span", { class: "previews" }, "This page holds previews of 256 px; the originals are not beside it."));
}

/** Table, charts and findings are a script of their own at the end of the page, behind the images; made when first looked at. */
function whenWanted(app: App, before: HTMLElement, panels: Panel[]): void {
  const asked = new Set<Panel>();
  const look = (): void => {
    const { panel } = app.view;
    if (asked.has(panel) || !panels.includes(panel)) return;
    asked.add(panel);
    withExtras(() => before.before(Object.assign(document.createElement(`sweep-${panel}`), { app })));
  };
  app.store.listen(look);
  look();
}

/** Something to look at from the start: the middle of the first line that has an image. */
function firstImage(app: App): number {
  const { layout, thumbs } = app;
  const { others } = app.table; // of a comparison: what is in one run alone compares with nothing
  const weakest = app.verdict?.groups[0]?.marks.flat().find((row) => app.verdict && holds(app.verdict, row) === false && app.layout.find(row));
  if (weakest !== undefined) return weakest;
  const middle = layout.cols.length >> 1;
  for (let r = 0; r < Math.min(layout.rows.length, 50); r += 1) {
    const cols = [...layout.cols.keys()].slice(0, 400).sort((a, b) => Math.abs(a - middle) - Math.abs(b - middle));
    const col = cols.find((c) => layout.at(r, c) >= 0 && thumbs.thumb(layout.at(r, c)) !== null && (!others || typeof others.thumb[layout.at(r, c)] === "string"));
    if (col !== undefined) return layout.at(r, col);
  }
  return firstRow(layout);
}

/** What the stylesheet needs to know of the view. */
function dressUp(mount: HTMLElement, { view, table }: App): void {
  mount.toggleAttribute("data-none", table.rows === 0 && !table.payload.live?.running);
  mount.dataset.panel = view.panel;
  mount.dataset.mode = view.mode;
  mount.toggleAttribute("data-blink", view.blink);
  mount.toggleAttribute("data-zoomed", view.zoom > 1);
  mount.toggleAttribute("data-blind", view.blind);
  document.documentElement.toggleAttribute("data-blind", view.blind);
  mount.style.setProperty("--zoom", String(view.zoom));
  mount.style.setProperty("--pan-x", String(view.panX));
  mount.style.setProperty("--pan-y", String(view.panY));
  mount.toggleAttribute("data-gain", view.gain > 1);
  mount.style.setProperty("--gain", String(100 - 100 / view.gain)); // as a colour dodge: what is below, divided by 1 / gain
  mount.style.setProperty("--split", String(view.split));
}

function navigation(app: App): void {
  const nav = document.getElementById("panels");
  if (!nav) return;
  const panels: Panel[] = ["grid", "findings", "charts", "table"];
  const buttons = panels.map((panel) => h("button", { class: "panel", onclick: () => app.store.set({ panel }) }, panel));
  const mark = (): void => {
    const findings = mainFindings(app.table).length;
    buttons.forEach((button, at) => {
      button.setAttribute("aria-pressed", String(panels[at] === app.view.panel));
      if (panels[at] !== "findings") return;
      button.replaceChildren("findings", findings > 0 ? h("sup", {}, String(findings)) : "");
      button.hidden = app.view.blind || (findings === 0 && app.table.payload.runs !== null); // a comparison has sentences on top
    });
  };
  nav.replaceChildren(
    ...buttons,
    h("button", { class: "tool", title: "share, export, print (s)", onclick: () => withExtras((extras) => extras.showShare(app)) }, icon("share"), h("span", { class: "share-name" }, "share")),
    h("button", { class: "tool", title: "light or dark (l)", "aria-label": "light or dark", onclick: flipTheme }, icon("theme")),
    h("button", { class: "tool", title: "keys (?)", "aria-label": "list of keys", onclick: () => withExtras((extras) => extras.showKeys()) }, icon("keys")),
  );
  app.store.listen(mark);
  mark();
}

function keepAddress(app: App): void {
  let written = location.hash.slice(1);
  const write = oncePerFrame(() => {
    const hash = toHash(app.view, app.first, app.table);
    if (hash === written) return;
    written = hash;
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  });
  app.store.listen(write);
  addEventListener("hashchange", () => {
    if (location.hash.slice(1) === written) return;
    written = location.hash.slice(1);
    app.store.set(fromHash(location.hash, app.first, app.table));
  });
}

/** Before the page is printed, puts the images onto it; there is no hovering and no scrolling on paper. */
function printable(app: App): void {
  const sheet = h("section", { class: "paper", "aria-hidden": "true" });
  document.querySelector(".screen")?.after(sheet);
  addEventListener("beforeprint", () => withExtras((extras) => sheet.replaceChildren(...extras.paperOf(app))));
  addEventListener("afterprint", () => sheet.replaceChildren());
}
