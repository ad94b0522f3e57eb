// Builds src/ into ../assets: explorer.js and charts.js (an IIFE each), explorer.css, licenses.txt. With --check: compares instead.
import { build } from "esbuild";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const assets = path.join(here, "..", "assets");

// Plot writes a <style> element into every figure, which the page's content security policy forbids; what those
// rules say stands in charts.css instead.
const plotWithoutStyleElements = {
  name: "plot-without-style-elements",
  setup(builder) {
    builder.onLoad({ filter: /@observablehq[\\/]plot[\\/]src[\\/](plot|legends[\\/](ramp|swatches))\.js$/ }, async ({ path: file }) => {
      const text = await readFile(file, "utf8");
      const contents = text.replace(/(svg\.append|div\.insert)\("style"(, "\*")?\)\.text\(\s*`[^`]*`\s*\)/g, "void 0");
      if (contents === text) throw new Error(`no <style> found in ${file}: look again at what Plot does`);
      return { contents, loader: "js" };
    });
  },
};

const result = await build({
  absWorkingDir: here,
  entryPoints: { explorer: "src/main.ts", charts: "src/charts.ts", overview: "src/overview.ts", style: "src/style/explorer.css" },
  outdir: "out",
  bundle: true,
  minify: true,
  format: "iife",
  target: ["es2022"],
  charset: "ascii",
  legalComments: "none",
  write: false,
  metafile: true,
  plugins: [plotWithoutStyleElements],
});

async function licences() {
  const folders = new Set();
  for (const input of Object.keys(result.metafile.inputs)) {
    const match = input.match(/^(node_modules\/(?:@[^/]+\/)?[^/]+)\//);
    if (match) folders.add(match[1]);
  }
  const texts = [];
  for (const folder of [...folders].sort()) {
    const about = JSON.parse(await readFile(path.join(here, folder, "package.json"), "utf8"));
    const text = await Promise.any(
      ["LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE"].map((name) => readFile(path.join(here, folder, name), "utf8")),
    );
    texts.push(`${about.name} ${about.version} (${about.license})\n\n${text.trim()}\n`);
  }
  return `charts.js contains these packages.\n\n${texts.join("\n----\n\n")}`;
}

const outputs = new Map();
for (const file of result.outputFiles) {
  const name = path.basename(file.path) === "style.css" ? "explorer.css" : path.basename(file.path);
  outputs.set(name, file.text);
}
outputs.set("licenses.txt", await licences());

let stale = 0;
for (const [name, text] of outputs) {
  const target = path.join(assets, name);
  if (process.argv.includes("--check")) {
    const committed = await readFile(target, "utf8").catch(() => "");
    if (committed !== text) {
      console.error(`sweep/report/assets/${name} is not what the sources build: run npm run build in sweep/report/web`);
      stale += 1;
    }
  } else {
    await writeFile(target, text);
    console.log(`${name}  ${(text.length / 1024).toFixed(1)} kB`);
  }
}
process.exitCode = stale ? 1 : 0;
