#!/usr/bin/env node
/**
 * Runs a program of examples/: npm run example -- nanogpt [its arguments]
 * Node 22.18 and later reads TypeScript itself; for older ones swc takes the types out as the file is loaded.
 */
import { existsSync, readdirSync } from "node:fs";
import { register } from "node:module";
import { fileURLToPath } from "node:url";

const folder = new URL("../examples/", import.meta.url);
const [name = "", ...rest] = process.argv.slice(2);
const names = readdirSync(folder)
  .filter((file) => file.endsWith(".ts"))
  .map((file) => file.slice(0, -3));
const file = new URL(`${name}.ts`, folder);
if (!names.includes(name) || !existsSync(file)) {
  console.error(`run-example: no such example, expected one of ${names.join(", ")}, got ${JSON.stringify(name)}. Usage: npm run example -- ${names[0]}`);
  process.exit(2);
}
if (!process.features.typescript) register("./strip-types.mjs", import.meta.url);
process.argv = [process.argv[0], fileURLToPath(file), ...rest];
try {
  await import(file.href);
} catch (error) {
  // Wrong arguments and missing files are told in their own words; anything else is a defect, with its stack.
  const { GroundupError } = await import("groundup");
  if (!(error instanceof GroundupError) && error?.syscall === undefined) throw error;
  console.error(`${name}: ${error.message}`);
  process.exit(1);
}
