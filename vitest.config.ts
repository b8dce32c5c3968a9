import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: { conditions: ["groundup-source"] },
  ssr: { resolve: { conditions: ["groundup-source"], externalConditions: ["groundup-source"] } },
  test: {
    include: ["src/**/*.test.ts", "tests/**/*.test.ts"],
    // The long checks (kills, memory over 1,000 steps) run in `npm run test:full`.
    exclude: ["**/node_modules/**", ...(process.env.GROUNDUP_FULL === undefined ? ["tests/full/**"] : [])],
    testTimeout: 60_000,
    // Some compile what has changed first.
    hookTimeout: 120_000,
    pool: "forks",
    // Vitest leaves one core free, which is half of two; what many tests wait for are processes of their own.
    maxWorkers: Math.max(2, availableParallelism() - 1),
  },
});
