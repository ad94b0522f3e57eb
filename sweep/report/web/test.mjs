// Runs the tests of src/: bundles test/*.test.ts, as the browser's scripts are bundled, and hands them to node --test.
import { build } from "esbuild";
import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const names = (await readdir(path.join(here, "test"))).filter((name) => name.endsWith(".test.ts"));
const outdir = await mkdtemp(path.join(tmpdir(), "sweep-web-"));
try {
  const entryPoints = names.map((name) => path.join(here, "test", name));
  await build({ absWorkingDir: here, entryPoints, outdir, bundle: true, platform: "node", format: "esm", outExtension: { ".js": ".mjs" } });
  const built = names.map((name) => path.join(outdir, name.replace(/\.ts$/, ".mjs")));
  process.exitCode = spawnSync(process.execPath, ["--test", "--test-reporter=dot", ...built], { stdio: "inherit" }).status ?? 1;
} finally {
  await rm(outdir, { recursive: true });
}
