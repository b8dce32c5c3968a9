// Ours and a peer in turn: node bench/compare.mjs [--rounds 5] -- OUR COMMAND ... -- PEER COMMAND ... [-- ANOTHER PEER ...]
// Each command must end with one JSON line that holds `median`, `best` and `unit` (all benchmarks here and bench/peers/*.py do). Between the
// runs a 20 ms calibration (a cache-resident product) tells a disturbed round from a quiet one: rounds below 85 % of the best are dropped.
// Prints medians, bests, and the median of the per-round ratios (ours over the peer in speed: above 1 we are faster).
import { spawnSync } from "node:child_process";
import { cpus } from "node:os";
import { linear, noGrad, randn, scope } from "groundup";

const argv = process.argv.slice(2);
const first = argv.indexOf("--");
if (first < 0) {
  console.error("compare: expected -- OUR COMMAND -- PEER COMMAND, got no --");
  process.exit(2);
}
const options = argv.slice(0, first);
const rounds = Number(options[options.indexOf("--rounds") + 1] ?? 5) || 5;
const commands = argv
  .slice(first + 1)
  .join("\u0000")
  .split("\u0000--\u0000")
  .map((c) => c.split("\u0000"));

const [x, w] = [randn([192, 256]), randn([192, 256])];
function calibrate() {
  let calls = 0;
  const start = performance.now();
  while (performance.now() - start < 20) {
    noGrad(() => scope(() => void linear(x, w)));
    calls++;
  }
  return calls / (performance.now() - start);
}

function run(command) {
  const before = calibrate();
  const { stdout, stderr, status } = spawnSync(command[0], command.slice(1), { encoding: "utf8", maxBuffer: 1 << 26 });
  if (status !== 0) throw new Error(`compare: ${command.join(" ")} ended with ${status}: ${stderr.slice(-800)}`);
  const line = stdout.trim().split("\n").at(-1);
  return { ...JSON.parse(line), quiet: Math.min(before, calibrate()) };
}

const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
calibrate();
const results = commands.map(() => []);
for (let r = 0; r < rounds; r++) for (const [i, c] of commands.entries()) results[i].push(run(c));
const best = Math.max(...results.flat().map((r) => r.quiet));
const kept = [...Array(rounds).keys()].filter((r) => results.every((list) => list[r].quiet >= 0.85 * best));
const used = kept.length >= 3 ? kept : [...Array(rounds).keys()];
const faster = (unit) => !/(ms|s|ns|\/step)$/.test(unit) || /\/s$/.test(unit);
const [ours] = results;
console.log(`${cpus()[0].model}, ${cpus().length} cores; ${used.length} of ${rounds} rounds${kept.length >= 3 ? "" : " (all kept: too few were quiet)"}`);
const summary = commands.map((command, i) => {
  const list = used.map((r) => results[i][r]);
  const ratios = used.map((r) => (faster(list[0].unit) ? ours[r].median / results[i][r].median : results[i][r].median / ours[r].median));
  return {
    command: command.join(" "),
    median: median(list.map((l) => l.median)),
    best: faster(list[0].unit) ? Math.max(...list.map((l) => l.best)) : Math.min(...list.map((l) => l.best)),
    unit: list[0].unit,
    peakRssBytes: median(list.map((l) => l.peakRssBytes ?? 0)),
    speedOfOurs: median(ratios),
  };
});
for (const s of summary)
  console.log(
    `${s.median.toFixed(2)} (best ${s.best.toFixed(2)}) ${s.unit}, ${(s.peakRssBytes / 1e6).toFixed(0)} MB, ours is ${s.speedOfOurs.toFixed(2)} x: ${s.command}`,
  );
console.log(JSON.stringify({ name: "compare", rounds: used.length, cpu: cpus()[0].model, results: summary }));
