// Reads a document with AsyncAPI's own parser: `node asyncapi.mjs FILE`. Prints what is wrong with it; exit code 1 then.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
const wrong = diagnostics.filter(({ severity }) => severity <= 1);
for (const { code, message, path } of wrong) console.log(`${path.join("/")}: ${code}: ${message}`);
if (!document || wrong.length) process.exit(1);
console.log(`${document.info().title()} ${document.version()}: ${document.allMessages().length} messages`);
