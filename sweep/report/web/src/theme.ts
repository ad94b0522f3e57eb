// Light or dark: as the system says, until the reader says otherwise.

const name = "sweep:theme";

export function applyTheme(): void {
  let kept: string | null = null;
  try {
    kept = localStorage.getItem(name);
  } catch (error) {
    console.info("The theme cannot be kept in this browser.", error);
  }
  const given = new URLSearchParams(location.hash.slice(1)).get("theme");
  const theme = given ?? kept;
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}

export function flipTheme(): void {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = dark ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem(name, theme);
  } catch (error) {
    console.info("The theme cannot be kept in this browser.", error);
  }
}
