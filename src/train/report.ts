/** report.html: what a run did, on one page that needs nothing else. */
import type { TokenData } from "../data/index.ts";
import { writeFileAtomic } from "../formats/index.ts";
import { checkOptions } from "../options.ts";
import { duration, grouped } from "../quantities.ts";
import { visible } from "../shown-text.ts";
import type { Tokenizer } from "../tokenizers/index.ts";
import { bars, chart, escapeHtml, type Series } from "./chart.ts";
import type { Manifest } from "./pretrain.ts";
import type { Baseline, LoggedMetrics, RunFolder, RunSample } from "./run-folder.ts";

const STYLE = `
:root{color-scheme:light dark;--page:#fbfaf7;--card:#fff;--ink:#1d2129;--soft:#667085;--line:#e6e3dc;--c1:#2f6fde;--c2:#e0752d;--c3:#2a9d6f}
@media(prefers-color-scheme:dark){:root{--page:#14161a;--card:#1c1f25;--ink:#e8e6e1;--soft:#98a1b0;--line:#2e333c;--c1:#7aa9ff;--c2:#ffa463;--c3:#5fd3a3}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1180px;margin:0 auto;padding:36px 22px 60px}h1{font-size:26px;margin:0 0 4px;letter-spacing:-.01em}h2{font-size:17px;margin:38px 0 12px}.sub{color:var(--soft);margin:0 0 22px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px}.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 16px}
.tile b{display:block;font-size:22px;font-weight:650;font-variant-numeric:tabular-nums}.tile span{color:var(--soft);font-size:13px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:14px;margin-top:14px}figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px 8px;min-width:0}
figcaption{font-weight:600;margin-bottom:6px;display:flex;justify-content:space-between;gap:6px;flex-wrap:wrap}.legend{font-weight:400;color:var(--soft);font-size:12.5px}.legend i{display:inline-block;width:14px;height:3px;border-radius:2px;margin:0 5px 3px 11px}
.k1{background:var(--c1)}.k2{background:var(--c2)}.k3{background:var(--c3)}.legend .pale{height:1px;opacity:.5;vertical-align:middle}svg{overflow:visible;width:100%;height:auto;display:block}.grid{stroke:var(--line)}.tick{fill:var(--soft);font-size:12px;font-variant-numeric:tabular-nums}
.line{fill:none;stroke-width:2;stroke-linejoin:round}.line.c1{stroke:var(--c1)}.line.c2{stroke:var(--c2)}.line.c3{stroke:var(--c3)}.faint{stroke-width:1;opacity:.28}circle.c1{fill:var(--c1)}circle.c2{fill:var(--c2)}circle.c3{fill:var(--c3)}
table{border-collapse:collapse;width:100%}.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:6px 16px;overflow-x:auto}.card th,.card td{text-align:left;padding:7px 10px 7px 0;border-bottom:1px solid var(--line);vertical-align:top}.card tr:last-child>*{border-bottom:0}.card th{font-weight:500;color:var(--soft);width:210px;white-space:nowrap}
.bars th{font-weight:400;text-align:right;padding:2px 10px 2px 0;white-space:nowrap;font-family:ui-monospace,monospace;font-size:12.5px;width:1%}.bars td{padding:2px 0}.bars .bar{display:block;height:13px;border-radius:3px;background:var(--c1);opacity:.8}.number{width:1%;padding-left:10px!important;color:var(--soft);font-variant-numeric:tabular-nums;white-space:nowrap;font-size:13px}
.sample{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:10px 16px;margin:0 0 10px}.sample small{color:var(--soft)}.sample p{margin:3px 0 2px;white-space:pre-wrap;font-family:Charter,Georgia,serif;font-size:16px;overflow-wrap:anywhere}.sample mark{background:none;color:var(--c1);font-weight:600}
pre{margin:0;font:12.5px/1.5 ui-monospace,monospace;white-space:pre-wrap}details summary{cursor:pointer;padding:6px 0;color:var(--soft)}
/* A chart shrinks with the page, and its text with it. */
@media(max-width:600px){.tick{font-size:18px}.axis{transform:translateY(13px)}figure svg{margin-bottom:12px}}`;

/** Tokens of the training data by how often they come. */
export interface TokenCount {
  text: string;
  count: number;
}

/** What the report shows beside the run's own numbers. */
export interface ReportOptions {
  /** The most frequent tokens, most frequent first. */
  frequent?: readonly TokenCount[];
  /** What the model is compared with on the validation text. */
  baseline?: Baseline | null;
}

/** The most frequent tokens among the first `limit` of each source. */
export async function frequentTokens(sources: readonly TokenData[], tokenizer: Tokenizer, most = 24, limit = 1 << 22): Promise<TokenCount[]> {
  const counts = new Float64Array(tokenizer.vocabSize);
  for (const data of sources) for (const id of await data.read(0, Math.min(limit, data.tokens))) counts[id]++;
  const ids = [...counts.keys()].sort((a, b) => counts[b] - counts[a] || a - b);
  return ids.slice(0, most).map((id) => ({ text: tokenizer.decode([id]), count: counts[id] }));
}

const count = (n: number | null): string => (n === null ? "an unknown number of" : grouped(n));

/** How much text a token stands for, where the text is known. */
const bytesEach = ({ bytes, tokens }: Manifest): string => (bytes.train === null ? "" : `${(bytes.train / tokens.train).toFixed(2)} bytes each, `);

/** The mean of the last values, the newest weighing most: what the eye should follow. */
function smoothed(points: Series["points"], keep = 0.9): Series["points"] {
  let [mean, weight] = [0, 0];
  return points.map(([x, y]) => {
    mean = keep * mean + (1 - keep) * y;
    weight = keep * weight + (1 - keep);
    return [x, mean / weight] as const;
  });
}

/** Writes report.html into the run's folder and returns its path. */
export async function writeReport(run: RunFolder, manifest: Manifest, options: ReportOptions = {}): Promise<string> {
  const file = run.at("report.html");
  await writeFileAtomic(file, reportHtml(run.recipe.run.name, run.metrics(), run.samples(), manifest, run.recipe, { baseline: run.baseline(), ...options }));
  return file;
}

/** The baseline, and the model as it was measured last. */
function comparisonRows(baseline: Baseline | null, last: LoggedMetrics | undefined): Baseline[] {
  if (baseline === null || last?.val_loss === undefined || typeof last.val_bits_per_byte !== "number") return [];
  return [baseline, { name: "this model", perplexity: Math.exp(last.val_loss), bitsPerByte: last.val_bits_per_byte }];
}

/** The page as text. */
export function reportHtml(
  name: string,
  metrics: readonly LoggedMetrics[],
  samples: readonly RunSample[],
  manifest: Manifest,
  recipe: object,
  options: ReportOptions,
): string {
  checkOptions("reportHtml", options, { frequent: true, baseline: true });
  const of = (pick: (m: LoggedMetrics) => number | null | undefined): Series["points"] =>
    metrics.flatMap((m) => (typeof pick(m) === "number" ? [[m.step, pick(m) as number] as const] : []));
  const [loss, validation] = [of((m) => m.loss), of((m) => m.val_loss)];
  const last = metrics.at(-1);
  const evaluated = metrics.filter((m) => m.step > 0 && m.val_loss !== undefined);
  const best = evaluated.toSorted((a, b) => (a.val_loss as number) - (b.val_loss as number))[0];
  const tiles: [string, string][] = [
    ["parameters", grouped(manifest.parameters)],
    ["steps", grouped(last?.step ?? 0)],
    ["tokens seen", grouped(last?.tokens ?? 0)],
    ["best validation loss", best?.val_loss?.toFixed(4) ?? "–"],
    ["bits per byte", best?.val_bits_per_byte?.toFixed(3) ?? "–"],
    ["training time", last?.seconds === undefined ? "–" : duration(last.seconds)],
  ];
  const charts = [
    chart({
      title: "Loss (nats a token)",
      series: [
        { name: "each step", colour: 1, points: loss, faint: true },
        { name: "smoothed", colour: 1, points: smoothed(loss) },
        { name: "validation", colour: 2, points: validation, dots: true },
      ],
    }),
    chart({
      title: "Learning rate",
      series: [{ name: "learning rate", colour: 3, points: of((m) => m.learning_rate) }],
      format: (y) => (y === 0 ? "0" : y.toExponential(1).replace("e-", "e−").replace("e+", "e")),
    }),
    chart({
      title: "Gradient norm before clipping (logarithmic)",
      logarithmic: true,
      series: [
        { name: "each step", colour: 1, points: of((m) => m.grad_norm), faint: true },
        { name: "smoothed", colour: 1, points: smoothed(of((m) => m.grad_norm)) },
      ],
    }),
    chart({
      title: "Speed (tokens a second)",
      series: [
        { name: "each step", colour: 3, points: of((m) => m.tokens_per_second), faint: true },
        { name: "smoothed", colour: 3, points: smoothed(of((m) => m.tokens_per_second)) },
      ],
      format: grouped,
    }),
  ];
  const facts: [string, string][] = [
    ["Data", Object.keys(manifest.data).join(", ")],
    ["Split", `${count(manifest.documents.train)} training and ${count(manifest.documents.validation)} validation documents`],
    ["Text", `${count(manifest.bytes.train)} and ${count(manifest.bytes.validation)} bytes`],
    ["Tokens", `${count(manifest.tokens.train)} and ${count(manifest.tokens.validation)}, ${bytesEach(manifest)}vocabulary ${count(manifest.vocabulary)}`],
    [
      "Machine",
      `${manifest.host.cpu}, ${manifest.host.backend} kernels (${manifest.host.isa}${manifest.host.bf16 === undefined ? "" : `, bf16 products ${manifest.host.bf16}`}), ${manifest.host.threads} threads`,
    ],
    ["Software", `groundup ${manifest.groundup}, Node ${manifest.node}, seed ${manifest.seed}`],
    ["Started", manifest.started],
  ];
  const comparison = comparisonRows(options.baseline ?? null, evaluated.at(-1));
  const shownSamples = samples.map(
    ({ step, prompt, text }) => `<div class="sample"><small>step ${grouped(step)}</small><p><mark>${escapeHtml(prompt)}</mark>${escapeHtml(text)}</p></div>`,
  );
  const frequent = (options.frequent ?? []).slice(0, 24).map(({ text, count: n }) => [JSON.stringify(text), n, grouped(n)] as const);
  return visible(`<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>${escapeHtml(name)} · groundup</title><style>${STYLE}</style></head><body><main>
<h1>${escapeHtml(name)}</h1><p class="sub">A training run of groundup.</p>
<div class="tiles">${tiles.map(([label, value]) => `<div class="tile"><b>${escapeHtml(value)}</b><span>${escapeHtml(label)}</span></div>`).join("")}</div>
${comparison.length > 0 ? `<h2>Held-out text</h2><div class="card"><table><tr><th>model</th><th>perplexity</th><th>bits per byte</th></tr>${comparison.map((c) => `<tr><td>${escapeHtml(c.name)}</td><td>${c.perplexity.toFixed(1)}</td><td>${c.bitsPerByte.toFixed(3)}</td></tr>`).join("")}</table></div>` : ""}
<h2>Curves</h2><div class="charts">${charts.join("")}</div>
${shownSamples.length > 0 ? `<h2>What it wrote on the way</h2>${shownSamples.join("")}` : ""}
${frequent.length > 0 ? `<h2>Tokens</h2><div class="charts">${bars("Most frequent tokens of the training text", frequent.slice(0, 12), frequent[0][1])}${frequent.length > 12 ? bars("… and the next", frequent.slice(12), frequent[0][1]) : ""}</div>` : ""}
<h2>The run</h2><div class="card"><table>${facts.map(([label, value]) => `<tr><th>${label}</th><td>${escapeHtml(value)}</td></tr>`).join("")}</table></div>
<details><summary>Recipe as resolved</summary><div class="card"><pre>${escapeHtml(JSON.stringify(recipe, null, 2))}</pre></div></details>
</main></body></html>
`);
}
