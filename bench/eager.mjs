// One eager call: nanoseconds of an addition of two tensors of 8 floats. Settings: add8 (default), or add8-grad (with the graph, and backward from a given gradient).
import { backend, keep, ones, randn, scope } from "groundup";

const CALLS = 20_000;

export async function run({ setting = "add8" }) {
  if (setting !== "add8" && setting !== "add8-grad") throw new Error(`bench eager: expected a setting add8 or add8-grad, got ${setting}`);
  const withGraph = setting === "add8-grad";
  const a = keep(randn([8], { requiresGrad: withGraph }));
  const b = keep(randn([8]));
  const g = keep(ones([8]));
  // One scope around many calls, as around a training step.
  const plain = () => {
    for (let i = 0; i < 100; i++) a.add(b);
  };
  const graph = () => {
    for (let i = 0; i < 100; i++) {
      a.add(b).backward({ gradient: g });
      a.grad.dispose();
      a.grad = null;
    }
  };
  const step = withGraph ? graph : plain;
  const times = [];
  for (let round = 0; round < 30; round++) {
    const start = performance.now();
    for (let i = 0; i < CALLS / 100; i++) scope(step);
    if (round >= 5) times.push(((performance.now() - start) * 1e6) / CALLS);
  }
  times.sort((x, y) => x - y);
  return {
    name: "eager",
    setting,
    median: times[times.length >> 1],
    best: times[0],
    unit: "ns",
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    backend: backend().name,
  };
}
