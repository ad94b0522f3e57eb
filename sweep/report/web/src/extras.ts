// What the page's second script holds besides charts: all that nobody sees before they ask for it.

import type { App } from "./app";

export interface Extras {
  showKeys: () => void;
  showMenu: (app: App) => void;
  showShare: (app: App) => void;
  chooseBlind: (app: App) => void;
  paperOf: (app: App) => HTMLElement[];
}

declare global {
  interface Window {
    sweepExtras?: Extras;
  }
}

/** Does what the second script can. It lies at the end of the page as text and runs when it is first wanted, at once. */
export function withExtras(act: (extras: Extras) => void): void {
  const text = document.getElementById("sweep-charts");
  if (text && !window.sweepExtras) {
    const script = document.createElement("script");
    script.textContent = text.textContent;
    document.body.append(script);
  }
  if (window.sweepExtras) act(window.sweepExtras);
  else if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", () => withExtras(act), { once: true });
}

/** Called once, by the second script. */
export function provideExtras(extras: Extras): void {
  window.sweepExtras = extras;
}
