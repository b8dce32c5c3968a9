/** `groundup doctor`: what this machine offers, and what groundup makes of it. */
import { existsSync, readFileSync } from "node:fs";
import os from "node:os";
import * as z from "zod";
import { byteSize } from "../quantities.ts";
import { backend, backendReason } from "../tensor/backend.ts";
import { platformName } from "../tensor/native-binding.ts";
import { defineCommand } from "./command.ts";
import { packageVersion } from "./package-version.ts";

/** Features that decide which kernels run, as Linux names them. */
const CPU_FEATURES = ["avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm"];

export const command = defineCommand({
  about: "Shows which backend runs here and why, the CPU's features, threads, memory, and which optional parts are present.",
  options: z.object({}),
  examples: ["groundup doctor", "groundup doctor --json", "GROUNDUP_BACKEND=reference groundup doctor"],
  run(_args, _options, io) {
    const report = examine();
    if (!io.json) for (const [label, value] of linesOf(report)) io.print(`${label.padEnd(12)}${value}`);
    return report;
  },
});

function examine() {
  const chosen = backend();
  const limits = cgroupLimit();
  return {
    version: packageVersion(),
    backend: chosen.name,
    reason: backendReason(),
    platform: platformName(),
    isa: chosen.isa(),
    isas: chosen.isas(),
    threads: chosen.threads(),
    cpu: {
      model: os.cpus()[0]?.model.trim() ?? "unknown",
      logicalCores: os.cpus().length,
      availableCores: os.availableParallelism(),
      features: cpuFeatures(),
    },
    memory: { totalBytes: os.totalmem(), freeBytes: os.freemem(), limitBytes: limits },
    node: process.versions.node,
    optional: optionalParts(),
  };
}

/** What more can be had on this machine, and what it is for. */
function optionalParts(): Record<string, { present: boolean; purpose: string }> {
  return {
    "native library": { present: backend().name === "native", purpose: "speed: training, tokenizing and generation at the machine's own pace" },
    "zstd in Node": { present: process.versions.zstd !== undefined, purpose: "fast reading of .zst files (otherwise JavaScript reads them)" },
  };
}

/** The memory limit of a container, which is lower than the machine's memory; null where there is none. */
function cgroupLimit(): number | null {
  const limit = process.constrainedMemory();
  return limit > 0 && limit < os.totalmem() ? limit : null;
}

/** Null where the operating system has no such list. */
function cpuFeatures(): string[] | null {
  if (!existsSync("/proc/cpuinfo")) return null;
  const line = readFileSync("/proc/cpuinfo", "utf8").match(/^(?:flags|Features)\s*:(.*)$/m)?.[1] ?? "";
  const present = new Set(line.trim().split(/\s+/));
  return CPU_FEATURES.filter((name) => present.has(name));
}

function linesOf(report: ReturnType<typeof examine>): [string, string][] {
  const { cpu, memory } = report;
  return [
    ["groundup", `${report.version} on Node ${report.node}, ${report.platform}`],
    ["backend", `${report.backend} (${report.reason})`],
    ["kernels", `${report.isa}; this machine can run ${report.isas.join(", ")}`],
    ["threads", `${report.threads} of ${cpu.availableCores} cores (GROUNDUP_THREADS sets another number)`],
    ["CPU", cpu.model + (cpu.features === null ? "" : ` (${cpu.features.join(", ")})`)],
    [
      "memory",
      `${byteSize(memory.totalBytes)}, ${byteSize(memory.freeBytes)} free${memory.limitBytes === null ? "" : `, limited to ${byteSize(memory.limitBytes)}`}`,
    ],
    ...Object.entries(report.optional).map(([name, part]): [string, string] => [
      "optional",
      `${name}: ${part.present ? "present" : "absent"}, ${part.purpose}`,
    ]),
  ];
}
