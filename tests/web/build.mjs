// Builds what the service serves: `node build.mjs DIRECTORY`.
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
