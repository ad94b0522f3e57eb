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

/** Does what the second script can, as soon as it is there: it stands at the end of the page, behind the images. */
export function withExtras(act: (extras: Extras) => void): void {
  if (window.sweepExtras) act(window.sweepExtras);
  else document.addEventListener("sweep-extras", () => window.sweepExtras && act(window.sweepExtras), { once: true });
}

/** Called once, by the second script. */
export function provideExtras(extras: Extras): void {
  window.sweepExtras = extras;
  document.dispatchEvent(new Event("sweep-extras"));
}
