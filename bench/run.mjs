// npm run -s bench -- NAME [--setting S] [--json]: runs one benchmark and ends with one JSON line.
// Names are listed by running it without one, and a benchmark's settings by giving it a wrong one. Ratios against peers are measured by bench/compare.mjs.
import { readdirSync } from "node:fs";
import { parseArgs } from "node:util";

const here = new URL(".", import.meta.url);
const names = readdirSync(here)
  .filter((f) => f.endsWith(".mjs") && !["run.mjs", "compare.mjs", "bench-text.mjs"].includes(f))
  .map((f) => f.slice(0, -4));
const { values, positionals } = flags();
const name = positionals[0];
if (positionals.length !== 1 || !names.includes(name)) {
  console.error(
    `bench: expected one of ${names.join(", ")}, got ${positionals.join(" ") || "nothing"}. Example: npm run -s bench -- gemm --setting 1024x1536x384 --json`,
  );
  process.exit(2);
}

function flags() {
  try {
    return parseArgs({ allowPositionals: true, options: { setting: { type: "string" }, json: { type: "boolean", default: false } } });
  } catch (error) {
    console.error(`bench: ${error.message}`);
    process.exit(2);
  }
}

const bench = await import(new URL(`${name}.mjs`, here));
const result = await bench.run({ setting: values.setting, json: values.json }).catch((error) => {
  // A wrong setting or a text that is not there; anything else is a defect, with its stack.
  if (!/^bench /.test(error.message) && error.syscall === undefined) throw error;
  console.error(error.message);
  process.exit(2);
});
if (!values.json) for (const [key, value] of Object.entries(result)) console.log(`${key}: ${typeof value === "object" ? JSON.stringify(value) : value}`);
console.log(JSON.stringify(result));
