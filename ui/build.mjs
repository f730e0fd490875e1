// Builds the front end into a folder: index.html, and under assets/ the script and the style, with a hash of their bytes
// in their names. The same sources and lock give the same bytes everywhere.
import { createHash } from "node:crypto";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const target = process.argv[2] ?? join(here, "..", "src", "runops", "airflow", "plugin", "static");
const assets = join(target, "assets");

const made = await build({
  absWorkingDir: here,
  entryPoints: { app: "src/main.tsx", style: "src/app.css" },
  outdir: "out",
  bundle: true,
  write: false,
  metafile: true,
  minify: true,
  format: "esm",
  target: ["chrome116", "firefox124", "safari17.4"],
  jsx: "automatic",
  jsxImportSource: "preact",
  charset: "ascii",
  legalComments: "none",
  logLevel: "warning",
});

await rm(target, { recursive: true, force: true });
await mkdir(assets, { recursive: true });
const names = {};
for (const file of made.outputFiles) {
  const extension = file.path.endsWith(".css") ? "css" : "js";
  const hash = createHash("sha256").update(file.contents).digest("hex").slice(0, 10);
  names[extension] = `${extension === "css" ? "style" : "app"}-${hash}.${extension}`;
  await writeFile(join(assets, names[extension]), file.contents);
}
const page = await readFile(join(here, "src", "index.html"), "utf8");
await writeFile(join(target, "index.html"), page.replace("{{style}}", names.css).replace("{{script}}", names.js));
for (const icon of ["icon.svg", "icon-dark.svg"]) await cp(join(here, "src", icon), join(assets, icon));

// Whatever of others is in the script, its licence goes along.
const packages = new Set(
  Object.keys(made.metafile.inputs).flatMap((path) => path.match(/.*node_modules\/(@[^/]+\/)?[^/]+/)?.[0] ?? []),
);
const notices = [];
for (const path of [...packages].sort()) {
  const { name, homepage } = JSON.parse(await readFile(join(here, path, "package.json"), "utf8"));
  const licence = await readFile(join(here, path, "LICENSE"), "utf8");
  notices.push(`The script in assets/ contains ${name} (${homepage}):\n\n${licence.trim()}\n`);
}
await writeFile(join(target, "THIRD_PARTY.txt"), notices.join("\n"));
