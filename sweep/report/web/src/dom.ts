// Makes elements. Text only ever enters as text nodes: nothing in this program parses HTML.

type Child = Node | string | null | undefined | false;
type Props = Record<string, unknown>;

/** An element with attributes (`aria-…`, `role`), properties (`value`, `title`), listeners (`onclick`) and children. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, props: Props = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) setProp(element, name, value);
  append(element, children);
  return element;
}

function setProp(element: HTMLElement, name: string, value: unknown): void {
  if (value === null || value === undefined) return;
  if (name.startsWith("on") && typeof value === "function") element.addEventListener(name.slice(2), value as EventListener);
  else if (name === "class") element.className = String(value);
  else if (name in element && !name.includes("-") && name !== "list" && name !== "role") (element as unknown as Props)[name] = value;
  else if (value !== false) element.setAttribute(name, value === true ? "" : String(value));
}

export function append(element: Element, children: Child[]): void {
  for (const child of children) if (child) element.append(child);
}

export function replace(element: Element, ...children: Child[]): void {
  element.replaceChildren();
  append(element, children);
}

/** Replaces the children; the control that had the focus gets it again under its new guise, by its name. */
export function replaceKeepingFocus(element: Element, ...children: Child[]): void {
  const focused = element.contains(document.activeElement) ? nameOf(document.activeElement) : null;
  replace(element, ...children);
  if (focused) [...element.querySelectorAll<HTMLElement>("button, select, input")].find((control) => nameOf(control) === focused)?.focus({ preventScroll: true });
}

function nameOf(control: Element | null): string | null {
  return control && (control.getAttribute("aria-label") ?? control.getAttribute("title") ?? control.textContent);
}

/** A select whose options are [value, label]. */
export function select(label: string, options: [string, string][], value: string, change: (value: string) => void, props: Props = {}): HTMLSelectElement {
  const element = h("select", { "aria-label": label, ...props });
  for (const [key, text] of options) element.append(h("option", { value: key, selected: key === value }, text));
  element.value = value;
  element.addEventListener("change", () => change(element.value));
  return element;
}

const paths: Record<string, string> = {
  compare: "M2 3h12v10H2zM8 1.5v13",
  blink: "M8 2a6 6 0 1 0 0 12zM8 2a6 6 0 0 1 0 12",
  difference: "M8 3v6M5 6h6M5 12.5h6",
  full: "M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4",
  pin: "M5 2h6l-1 5 2 2H4l2-2zM8 9v5",
  close: "M4 4l8 8M12 4l-8 8",
  theme: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 2v12",
  keys: "M1.5 4h13v8h-13zM4 6.5h1M7 6.5h1M10 6.5h2M4 9.5h8",
  more: "M3 8h.5M8 8h.5M13 8h.5",
  reject: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM4 12L12 4",
  up: "M4 10l4-4 4 4",
  save: "M8 2v8M5 7l3 3 3-3M3 13h10",
  eye: "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8zM8 6.2a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6z",
  setup: "M2 5h6M12 5h2M2 11h2M8 11h6M10 3v4M6 9v4",
  play: "M5 3l8 5-8 5z",
  share: "M8 10V2M5 5l3-3 3 3M3 8v6h10V8",
  copy: "M6 5h8v9H6zM4 11H2V2h8v2",
  open: "M7 3H3v10h10V9M9 2h5v5M14 2L7 9",
  link: "M7 9a3 3 0 0 0 4 0l2-2a3 3 0 0 0-4-4L8 4M9 7a3 3 0 0 0-4 0L3 9a3 3 0 0 0 4 4l1-1",
};

export function icon(name: string): SVGSVGElement {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", paths[name] ?? "");
  svg.append(path);
  return svg;
}

/** An SVG element with attributes. */
export function svg(tag: string, attributes: Record<string, string>): SVGElement {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Copies a text; the control that was pressed says so for a moment. */
export function copyText(text: string, control: HTMLElement): void {
  const copied = navigator.clipboard ? navigator.clipboard.writeText(text).then(() => true) : Promise.resolve(copySelected(text, control));
  void copied.catch(() => false).then((done) => announce(control, done ? "copied" : "cannot copy here"));
}

/** The way that is left over plain http, where a page has no clipboard. */
function copySelected(text: string, control: HTMLElement): boolean {
  const field = h("textarea", { class: "sr-only", value: text });
  control.after(field); // beside it: outside an open dialog, nothing can be selected
  field.focus({ preventScroll: true });
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  control.focus({ preventScroll: true });
  return copied;
}

const contents = new WeakMap<HTMLElement, ChildNode[]>(); // what a control holds while it does not say anything

export function announce(control: HTMLElement, text: string): void {
  const before = contents.get(control) ?? [...control.childNodes];
  contents.set(control, before);
  control.replaceChildren(text);
  setTimeout(() => control.replaceChildren(...before), 1200);
}

/** Runs `work` once in the next frame, however often it is asked for. */
export function oncePerFrame(work: () => void): () => void {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
}

export function download(name: string, type: string, text: string): void {
  downloadBlob(name, new Blob([text], { type }));
}

export function downloadBlob(name: string, blob: Blob): void {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
