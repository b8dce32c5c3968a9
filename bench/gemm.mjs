// Matrix products x (M, K) · weightᵀ (N, K): a linear layer's forward. Setting MxNxK, default 1024x1536x384. GFLOP/s.
import { backend, linear, noGrad, randn, scope } from "groundup";

export async function run({ setting = "1024x1536x384" }) {
  const shape = /^(\d+)x(\d+)x(\d+)$/.exec(setting);
  if (shape === null) throw new Error(`bench gemm: expected a setting MxNxK, got ${setting}`);
  const [m, n, k] = shape.slice(1).map(Number);
  const rates = [];
  noGrad(() =>
    scope(() => {
      const x = randn([m, k]);
      const w = randn([n, k]);
      const repeat = Math.max(1, Math.min(400, Math.floor(2e9 / (2 * m * n * k))));
      for (let round = 0; round < 11; round++) {
        const start = performance.now();
        for (let i = 0; i < repeat; i++) scope(() => void linear(x, w));
        if (round >= 2) rates.push((2 * m * n * k * repeat) / (performance.now() - start) / 1e6);
      }
    }),
  );
  rates.sort((a, b) => a - b);
  const b = backend();
  return {
    name: "gemm",
    setting,
    median: rates[rates.length >> 1],
    best: rates.at(-1),
    unit: "GFLOP/s",
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    backend: b.name,
    isa: b.isa(),
    threads: b.threads(),
  };
}
