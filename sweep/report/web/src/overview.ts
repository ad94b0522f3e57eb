// The overview of all runs of a results folder: rows to read down, to open, and to compare two of.

import { h, icon, select } from "./dom";
import { applyTheme, flipTheme } from "./theme";

interface Run {
  folder: string;
  name: string;
  description: string;
  images: string[];
  state: string;
  done: number;
  failed: number;
  points: number;
  counts: string;
  finding: string;
  changed: number;
  age: string;
}

const every = 2000; // ms between two looks at what changed

class Overview {
  readonly #list = h("ol", { class: "runs" });
  readonly #bar = h("footer", { class: "compare-bar", hidden: true, role: "status" });
  readonly #search = h("input", { type: "search", class: "filter", placeholder: "name, question or finding", "aria-label": "Filter the runs" });
  readonly #lost = h("b", { role: "status" });
  readonly #chosen: string[] = [];
  #state = "";
  #order = "newest";
  #at = 0;
  #shown: Run[] = [];

  constructor(private runs: Run[]) {}

  mount(main: HTMLElement): void {
    const states: [string, string][] = [["", "any"], ["running", "running"], ["finished", "finished"], ["stopped", "stopped"]];
    const orders: [string, string][] = [["newest", "newest first"], ["name", "by name"]];
    this.#search.addEventListener("input", () => this.paint());
    const tools = h(
      "div",
      { class: "runs-tools" },
      this.#search,
      h("label", {}, "state ", select("State", states, "", (state) => ((this.#state = state), this.paint()))),
      h("label", {}, "order ", select("Order", orders, "newest", (order) => ((this.#order = order), this.paint()))),
      this.#lost,
      h("span", { class: "finding-keys" }, ...["j k move", "x select", "c compare", "↵ open"].map((text) => h("span", {}, text))),
    );
    const heads = h("div", { class: "run heads-line", "aria-hidden": "true" }, h("span", {}), h("span", {}, "three of its images"), h("span", {}, "run and question"), h("span", {}, "state"), h("span", {}, "first finding"), h("span", { class: "age" }, "last change"));
    main.replaceChildren(tools, heads, this.#list, this.#bar);
    document.addEventListener("keydown", (event) => this.#press(event));
    this.paint();
    setInterval(() => void this.#refresh(), every);
  }

  async #refresh(): Promise<void> {
    if (document.hidden) return;
    const answer = await fetch("runs").catch(() => null);
    this.#lost.textContent = answer?.ok ? "" : "Connection lost, reconnecting…";
    if (!answer?.ok) return;
    this.runs = (await answer.json()) as Run[];
    this.paint();
  }

  paint(): void {
    const wanted = this.#search.value.toLowerCase();
    const state = (run: Run): string => (run.state === "running" ? "running" : run.state.startsWith("finished") ? "finished" : "stopped");
    this.#shown = this.runs
      .filter((run) => [run.name, run.folder, run.description, run.finding].some((text) => text.toLowerCase().includes(wanted)) && (this.#state === "" || state(run) === this.#state))
      .sort((a, b) => (this.#order === "name" ? a.name.localeCompare(b.name) : b.changed - a.changed));
    const focused = document.activeElement?.closest<HTMLElement>("li")?.dataset.folder;
    this.#list.replaceChildren(...this.#shown.map((run, at) => this.#row(run, at)));
    if (this.#shown.length === 0) this.#list.append(h("li", { class: "dim" }, this.runs.length === 0 ? "No run yet. sweep run FILE renders one." : "No run matches."));
    if (focused) this.#list.querySelector<HTMLElement>(`[data-folder="${CSS.escape(focused)}"] a`)?.focus();
  }

  #row(run: Run, at: number): HTMLElement {
    const chosen = this.#chosen.includes(run.folder);
    const address = `${encodeURIComponent(run.folder)}/`;
    const box = h("input", { type: "checkbox", checked: chosen, "aria-label": `Select ${run.name} to compare`, onchange: () => this.#choose(run.folder) });
    const images = h("span", { class: "run-images" }, ...run.images.map((id) => h("img", { src: `${address}thumbs/${id.slice(0, 2)}/${id}.webp`, alt: "", loading: "lazy" })));
    const row = h("li", { class: `run${chosen ? " chosen" : ""}` }, box, images, h("div", {}, h("a", { href: address }, run.name), run.folder === run.name ? "" : h("small", {}, ` in ${run.folder}/`), h("p", {}, run.description)), stateOf(run), h("p", { class: "run-finding" }, run.finding || (run.state === "running" ? "None yet: the run goes on." : "–")), h("span", { class: "age" }, run.age));
    row.dataset.folder = run.folder;
    row.toggleAttribute("data-current", at === this.#at);
    return row;
  }

  #choose(folder: string): void {
    const at = this.#chosen.indexOf(folder);
    if (at >= 0) this.#chosen.splice(at, 1);
    else this.#chosen.push(folder);
    this.paint();
    void this.#paintBar();
  }

  /** Says what two runs share before they are compared. */
  async #paintBar(): Promise<void> {
    const [a, b, more] = this.#chosen;
    this.#bar.hidden = a === undefined;
    const clear = h("button", { class: "link", onclick: () => (this.#chosen.splice(0), this.paint(), void this.#paintBar()) }, "clear");
    const text = h("span", {}, more ? "Compare takes two." : b ? "Looking at what the two share…" : "Select one more to compare.");
    const go = h("button", { class: "primary", disabled: !b || more !== undefined, onclick: () => this.#compare() }, "Compare ", h("kbd", {}, "c"));
    this.#bar.replaceChildren(h("b", {}, `${this.#chosen.length} selected`), text, clear, go);
    if (!a || !b || more) return;
    const answer = await fetch(`shared?${new URLSearchParams({ a, b })}`).catch(() => null);
    if (answer?.ok) text.textContent = ((await answer.json()) as { text: string }).text;
  }

  #compare(): void {
    const [a, b, more] = this.#chosen;
    if (a && b && !more) location.href = `compare?${new URLSearchParams({ a, b })}`;
  }

  #press(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target instanceof Element && event.target.closest("input[type=search], select");
    if (typing) {
      if (event.key === "Escape") (document.activeElement as HTMLElement).blur();
      return;
    }
    const run = this.#shown[this.#at];
    const acts: Record<string, () => void> = {
      j: () => this.#move(1),
      k: () => this.#move(-1),
      x: () => run && this.#choose(run.folder),
      c: () => this.#compare(),
      "/": () => this.#search.focus(),
      l: () => flipTheme(),
      Enter: () => run && (location.href = `${encodeURIComponent(run.folder)}/`),
    };
    const act = acts[event.key];
    if (!act || (event.key === "Enter" && event.target instanceof Element && event.target.closest("a, button"))) return;
    event.preventDefault();
    act();
  }

  #move(by: number): void {
    this.#at = Math.max(0, Math.min(this.#shown.length - 1, this.#at + by));
    this.paint();
    this.#list.querySelector("[data-current]")?.scrollIntoView({ block: "nearest" });
  }
}

function stateOf(run: Run): HTMLElement {
  const running = run.state === "running";
  const sign = running ? "◷" : run.state === "finished" ? "✓" : "!";
  const bar = h("span", { class: "progress-bar" }, h("i", { class: "rendered" }));
  (bar.firstElementChild as HTMLElement).style.width = `${(100 * run.done) / Math.max(1, run.points)}%`;
  return h("div", { class: `run-state ${running ? "running" : run.state === "finished" ? "finished" : "stopped"}` }, h("b", {}, `${sign} ${running ? `rendering ${run.done} of ${run.points}` : run.state}`), running ? bar : null, h("p", {}, [running ? "" : run.counts, run.failed > 0 ? `${run.failed} failed` : ""].filter(Boolean).join(" · ")));
}

applyTheme();
const data = JSON.parse(document.getElementById("sweep-data")?.textContent ?? "{}") as { runs?: Run[] };
const main = document.getElementById("runs");
document.getElementById("panels")?.append(h("button", { class: "tool", title: "light or dark (l)", "aria-label": "light or dark", onclick: flipTheme }, icon("theme")));
if (main) new Overview(data.runs ?? []).mount(main);
performance.mark("sweep-ready");
