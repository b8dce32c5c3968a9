import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: { conditions: ["groundup-source"] },
  ssr: { resolve: { conditions: ["groundup-source"], externalConditions: ["groundup-source"] } },
  test: {
    include: ["src/**/*.test.ts", "tests/**/*.test.ts"],
    testTimeout: 60_000,
    pool: "forks",
  },
});
