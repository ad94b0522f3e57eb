// What is asked for now and then: the list of keys, values to hide, exports.

import type { App } from "./app";
import { copyText, h, replace } from "./dom";
import { exportCsv, exportExperiment, exportMarks, fileName, saveView } from "./exports";
import { count } from "./format";
import type { Axis } from "./table";

const keyList: [string, string][] = [
  ["← ↑ → ↓", "move; Home, End, Page Up and Page Down too"],
  ["space", "blink: show the reference image (hold or tap)"],
  ["c", "compare slider; [ and ] move it"],
  ["d", "difference; ] makes it brighter, [ darker"],
  ["f", "full screen"],
  ["+ − 0", "zoom all images; 0 fits them again; Shift+arrows pan"],
  ["z", "zoom 1:1"],
  [", .", "move the first slider; with Shift the second"],
  ["{ }", "smaller, larger cells"],
  ["1 … 5 x", "rate with stars, reject; press again to undo"],
  ["y", "copy what made the image"],
  ["v", "choose blind between two images"],
  ["n p", "write a note, pin as the reference"],
  ["b", "blind mode: hides settings and numbers"],
  ["/", "filter"],
  ["g i h t", "grid, findings, charts, table"],
  ["m s", "hide values, share and export"],
  ["l", "light or dark"],
  ["?", "this list; Esc closes it"],
];

function dialog(label: string, ...children: Node[]): HTMLDialogElement {
  const close = h("button", { class: "tool close", "aria-label": "Close" }, "×");
  const element = h("dialog", { "aria-label": label }, close, h("h2", {}, label), ...children);
  close.addEventListener("click", () => element.close());
  element.addEventListener("close", () => element.remove());
  element.addEventListener("click", (event) => event.target === element && element.close());
  document.body.append(element);
  element.showModal();
  return element;
}

export function showKeys(): void {
  const list = h("dl", { class: "keylist" });
  for (const [keys, text] of keyList) list.append(h("dt", {}, ...keys.split(" ").map((key) => h("kbd", {}, key))), h("dd", {}, text));
  dialog("Keys", list, h("p", { class: "dim" }, "Ctrl+wheel zooms all images; over the large one the wheel alone zooms."));
}

export function showMenu(app: App): void {
  const body = h("div", { class: "menu" });
  const fill = (): void => {
    const { store } = app;
    replace(
      body,
      ...app.table.axes.filter((axis) => axis.levels.length > 1).map((axis) => levelsOf(app, axis)),
      h("h3", {}, "Look"),
      h(
        "label",
        { class: "check" },
        h("input", { type: "checkbox", checked: app.view.blind, onchange: () => store.set({ blind: !app.view.blind }) }),
        "blind mode: shuffles the images, hides settings and numbers",
      ),
    );
  };
  app.store.listen(() => body.isConnected && !body.contains(document.activeElement) && fill());
  fill();
  dialog("Values and blind mode", body);
}

/** Everything that leaves the page: a link, an image of the view, a print, the data. */
export function showShare(app: App): void {
  const chosen = app.layout.passing;
  const blocked = chosen === 0 || app.filter.problem !== null;
  const experiment = app.table.payload.experiment !== "";
  const served = location.protocol.startsWith("http");
  const body = h(
    "div",
    { class: "menu" },
    h("h3", {}, "This view"),
    h(
      "div",
      { class: "row" },
      h("button", { onclick: (event: Event) => copyText(location.href, event.currentTarget as HTMLElement) }, "copy link"),
      h("button", { onclick: () => void saveView(app) }, "save as image"),
      h("button", { onclick: () => print() }, "print"),
    ),
    h("p", { class: "dim" }, served ? "The link works while sweep view is running." : "The link works on this computer."),
    h("h3", {}, `Export ${count(chosen, "image")}`),
    h("p", { class: "dim" }, app.filter.problem ? `${app.filter.problem} Correct the filter to export.` : "Exports what the filter shows. The experiment file skips rejected images."),
    h(
      "div",
      { class: "row" },
      h("button", { onclick: () => exportCsv(app), disabled: blocked }, "CSV with ratings"),
      h("button", { onclick: () => exportExperiment(app), disabled: !experiment || blocked }, "experiment file"),
      h("button", { onclick: () => exportMarks(app), disabled: app.marks.size === 0 }, "ratings"),
    ),
    h("p", { class: "dim" }, "sweep rate RUN ratings.json adds exported ratings to the results table."),
    h("h3", {}, "This page"),
    h("p", { class: "dim" }, originalsText(app)),
    h("pre", {}, `sweep report ${fileName(app)} --embed\nsweep report ${fileName(app)} --bundle ${fileName(app)}.zip`),
  );
  dialog("Share", body);
}

function originalsText({ table }: App): string {
  if (table.payload.originals === "inside") return "The originals are inside this page: it can be mailed as it is.";
  return "This page holds previews of 256 px; the originals are in the results folder. To send them along:";
}

function levelsOf(app: App, axis: Axis): HTMLElement {
  const { store } = app;
  const hidden = new Set(app.view.hidden[axis.name] ?? []);
  const box = h("div", { class: "levels" });
  const set = (): void => store.set({ hidden: { ...store.view.hidden, [axis.name]: [...hidden] } });
  axis.labels.slice(0, 300).forEach((label, at) => {
    const input = h("input", { type: "checkbox", checked: !hidden.has(at) });
    input.addEventListener("change", () => {
      if (input.checked) hidden.delete(at);
      else hidden.add(at);
      set();
    });
    box.append(h("label", { class: "check" }, input, label));
  });
  const all = h("button", { class: "link", type: "button" }, "all");
  all.addEventListener("click", () => {
    hidden.clear();
    set();
    for (const input of box.querySelectorAll("input")) input.checked = true;
  });
  return h("fieldset", {}, h("legend", {}, axis.label, " ", all), box);
}
