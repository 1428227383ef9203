// Builds what the service serves, and prints its sizes: `node build.mjs DIRECTORY`.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const client = new URL("../../notifier/clients/web/client/", import.meta.url).pathname;
await build({
  entryPoints: ["notifier.js", "bell.js"].map((name) => client + name),
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  external: ["./notifier.js"], // The bell imports it from beside itself, so that a page has it once.
  outdir: process.argv[2],
});
for (const name of ["notifier.js", "bell.js"]) {
  const { length } = gzipSync(readFileSync(`${process.argv[2]}/${name}`), { level: 9 });
  console.log(`${name}: ${length} bytes with gzip`);
}
