/** `groundup pretrain` and `plan` as processes: what a person at a terminal meets. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { word } from "../src/cli/command-name.ts";
import { grouped } from "../src/quantities.ts";
import { byteTokenizer } from "../src/tokenizers/index.ts";
import { type Ended, ensureBuilt, groundup, NATIVE, ROOT, start, WELL } from "./built.ts";

let dir: string;
let recipe: string;
beforeAll(() => {
  ensureBuilt();
  dir = mkdtempSync(join(tmpdir(), "groundup-command-"));
  writeFileSync(join(dir, "text.txt"), "The whale swims, the ship sails.\n\nAnd the sea is wide.\n\n".repeat(60));
  recipe = join(dir, "recipe.yaml");
  writeFileSync(
    recipe,
    `data: { path: ${JSON.stringify(join(dir, "text.txt"))}, document: blank-line, order: documents }
tokenizer: { type: bpe, vocab_size: 280 }
model: { model_type: llama, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2 }
training: { max_steps: 12, batch_size: 2, context_length: 16 }
sample: { sample_steps: 6, prompts: [The], max_new_tokens: 4 }
`,
  );
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test("trains, reports, and gives one JSON object with --json", { timeout: 60_000 }, async () => {
  const out = join(dir, "run");
  const { code, stdout, stderr } = await groundup(["pretrain", recipe, "--out", out, "--json"]);
  expect(stderr).toMatch(/step 12\/12 {2}loss/);
  expect(code).toBe(0);
  const result = JSON.parse(stdout);
  expect(result).toMatchObject({ run: out, step: 12, why: "done", checkpoint: join(out, "checkpoints", "step-000012") });
  expect(readdirSync(result.checkpoint).sort()).toEqual([
    "config.json",
    "files.json",
    "merges.txt",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "training",
    "vocab.json",
  ]);
  const context = JSON.parse(readFileSync(join(result.checkpoint, "config.json"), "utf8")).max_position_embeddings;
  expect(JSON.parse(readFileSync(join(result.checkpoint, "tokenizer_config.json"), "utf8"))).toMatchObject({ model_max_length: context });
  expect(existsSync(join(out, "report.html"))).toBe(true);
  // docs/guides/runs.md names every file of the folder and every key of metrics.jsonl.
  const guide = readFileSync(join(ROOT, "docs", "guides", "runs.md"), "utf8");
  const keys = readFileSync(join(out, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .flatMap((line) => Object.keys(JSON.parse(line)));
  expect([...readdirSync(out), ...keys].filter((name) => !guide.includes(`\`${name}`) && !guide.includes(`./${name}`))).toEqual([]);
  // Nothing is left to do, and the answer is the same.
  const again = JSON.parse((await groundup(["pretrain", out, "--resume", "--json"])).stdout);
  expect(again).toMatchObject({ step: 12, why: "done", checkpoint: result.checkpoint, validation: { step: 12, loss: result.validation.loss } });
});

test("a second process refuses; Ctrl-C saves, stops with 130, and the run folder alone is enough to go on", { timeout: 60_000 }, async () => {
  const out = join(dir, "stopped");
  const { child, ended } = start(["pretrain", recipe, "--out", out, "--set", "training.max_steps=100000", "--set", "sample.sample_steps=null"]);
  let second: Promise<Ended> | undefined;
  child.stdout?.on("data", (text) => {
    if (!/step \d+\/100000/.test(String(text)) || second !== undefined) return;
    second = groundup(["pretrain", out, "--resume"]);
    void second.then(() => child.kill("SIGINT"));
  });
  const { code, stdout } = await ended;
  const refused = await second;
  expect(refused?.stderr).toContain(`another process is training in this folder, expected nobody, got process ${child.pid}`);
  expect(refused?.code).toBe(1);
  expect(code).toBe(130);
  expect(stdout).toMatch(/Stopped and saved at step \d+ of 100000\. .*\nGo on with: .* pretrain .*stopped --resume/);
  const [step] = readdirSync(join(out, "checkpoints")).map((name) => Number(name.slice(5)));
  expect(step).toBeGreaterThan(0);
  const again = await groundup(["pretrain", out, "--resume", "--set", "training.max_steps=100001"]);
  expect(again.code).toBe(1);
  expect(again.stderr).toMatch(/recipe has changed[\s\S]*training\.max_steps: 100000 → 100001/);
});

test("quickstart on another model and text says which model, and what was noticed in the text", { timeout: 60_000 }, async () => {
  const text = join(dir, "bytes.txt");
  writeFileSync(text, Buffer.concat([Buffer.from("The whale swims, the ship sails. ".repeat(400)), Buffer.of(0xff), Buffer.from(" The sea.")]));
  const settings = [
    `data={path: ${JSON.stringify(text)}, split_by: tail}`,
    "tokenizer.vocab_size=280",
    "model={model_type: gpt2, n_embd: 16, n_layer: 1, n_head: 2}",
    "training={max_steps: 2, batch_size: 2, context_length: 16}",
    "sample={}",
  ];
  const { code, stdout } = await groundup(["quickstart", "--out", join(dir, "quick-gpt2"), ...settings.flatMap((setting) => ["--set", setting])]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^Model {6}gpt2, [\d,]+ parameters, context 16; 2 steps of 32 tokens$/m);
  expect(stdout).toMatch(/bytes\.txt: .*U\+FFFD/);
});

test("--dry-run shows the first batch with what does not count in brackets, the plan and one step", { timeout: 60_000 }, async () => {
  const { code, stdout } = await groundup(["pretrain", recipe, "--dry-run", "--out", join(dir, "none")]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/First batch: 2 rows of 16 tokens, \d+ of 32 targets count/);
  // Each document's last token has nothing to predict.
  expect(stdout).toMatch(/row 0 .*\[<\|endoftext\|>\]/);
  expect(stdout).toMatch(/Memory .* for the process at its peak/);
  expect(stdout).toMatch(/One real step/);
  expect(existsSync(join(dir, "none"))).toBe(false);
});

/** What stands below "What next:". */
const commandsAfter = (stdout: string): string[] => {
  const [, below] = /\nWhat next:\n((?: {2}.*\n)*)/.exec(stdout) ?? [];
  return [...(below ?? "").matchAll(/^ {2}(?:npx )?groundup (.*)$/gm)].map(([, command]) => command);
};

test("quickstart, stopped, goes on by the command that it prints, and ends as it would have", { timeout: 120_000 }, async () => {
  const out = join(dir, "quick");
  const small = ["tokenizer.vocab_size=300", "model.hidden_size=16", "model.intermediate_size=32", "model.num_hidden_layers=1", "model.num_attention_heads=2"];
  const set = [...small, "model.num_key_value_heads=2", "training.max_steps=1500", "training.context_length=32", "eval.eval_steps=1500"];
  const { child, ended } = start(["quickstart", "--out", out, ...set.flatMap((setting) => ["--set", setting])]);
  child.stdout?.on("data", (text) => {
    if (/step \d+\/1500/.test(String(text))) child.kill("SIGINT");
  });
  const stopped = await ended;
  expect(stopped.code).toBe(130);
  const [, command] = /Stopped and saved at step \d+ of 1500\..*\nGo on with: (?:npx )?groundup (.*)/.exec(stopped.stdout) ?? [];
  expect(command).toBe(`pretrain ${out} --resume`);
  const resumed = await groundup((command as string).split(" "));
  expect(resumed.code).toBe(0);
  expect(resumed.stdout).toMatch(/4-gram \(Kneser-Ney\) +[\d.]+ +[\d.]+\n {2}this model +[\d.]+ +[\d.]+ {3}/);
  expect(resumed.stdout).toMatch(/Done at step 1500\.[\s\S]*report\.html/);
  expect(commandsAfter(resumed.stdout)).toEqual([
    `generate ${out} --prompt "Call me Ishmael."`,
    `eval ${out} --tasks perplexity --data my.txt`,
    `pretrain ${out} --resume   # after Ctrl-C or a crash; this run is done`,
  ]);
  expect((await groundup(["generate", out, "--prompt", "Call me Ishmael.", "--max-new-tokens", "4"])).code).toBe(0);
});

test("a prompt in a printed command stays what it is in a shell", { timeout: 60_000 }, async () => {
  const [out, prompt] = [join(dir, "quoted"), "$HOME `id`"];
  const { code, stdout } = await groundup(["pretrain", recipe, "--out", out, "--set", `sample.prompts=[${JSON.stringify(prompt)}]`]);
  expect(code).toBe(0);
  const [command] = commandsAfter(stdout);
  expect(command).toBe(`generate ${word(out)} --prompt ${word(prompt)}`);
  if (process.platform !== "win32") expect(execFileSync("sh", ["-c", `printf '%s\\n' ${command}`]).toString()).toBe(`generate\n${out}\n--prompt\n${prompt}\n`);
});

test("prompts that can't be continued are refused, with --dry-run and --find-lr too", { timeout: 60_000 }, async () => {
  const settings = ["tokenizer.type=characters", 'sample.prompts=["The 🐋"]'].flatMap((setting) => ["--set", setting]);
  for (const mode of [[], ["--dry-run"], ["--find-lr"]]) {
    const { code, stderr } = await groundup(["pretrain", recipe, "--out", join(dir, "whale"), ...settings, ...mode]);
    expect(stderr).toContain("recipe: sample.prompts[0] has what the run's tokenizer lacks, ");
    expect(code).toBe(1);
  }
});

test("quickstart on files of tokens measures bits per byte and counts n-grams, where they are not too many", { timeout: 60_000 }, async () => {
  const [out, tokens] = [join(dir, "quick-tokens"), join(dir, "tokens")];
  mkdirSync(tokens);
  const tokenizer = byteTokenizer();
  await tokenizer.save(join(dir, "bytes"));
  const ids = tokenizer.encode("The whale swims, the ship sails. ".repeat(40)).ids;
  for (const file of ["train.bin", "val.bin"]) writeFileSync(join(tokens, file), Uint16Array.from(ids));
  const settings = ["data.path=null", `data.tokens=${tokens}`, "tokenizer.type=file", `tokenizer.path=${join(dir, "bytes")}`];
  const tiny = [
    "model.hidden_size=16",
    "model.intermediate_size=32",
    "model.num_hidden_layers=1",
    "model.num_attention_heads=2",
    "model.num_key_value_heads=2",
  ];
  const short = ["training.max_steps=4", "training.warmup_steps=0", "training.context_length=16", "sample.max_new_tokens=4"];
  const { code, stdout } = await groundup(["quickstart", "--out", out, ...[...settings, ...tiny, ...short].flatMap((setting) => ["--set", setting])]);
  expect(code).toBe(0);
  expect(stdout).toContain(
    `Text       ${grouped(ids.length)} training and ${grouped(ids.length)} validation tokens of ${join(tokens, "train.bin")}, ${join(tokens, "val.bin")}\n`,
  );
  expect(stdout).toContain(`Tokenizer  from ${join(dir, "bytes")}: ${grouped(tokenizer.vocabSize)} tokens\n`);
  expect(stdout).toMatch(/^Baseline {3}4-gram \(Kneser-Ney\) on the held-out text: [\d.]+ bits per byte$/m);
  expect(stdout).toMatch(/validation loss [\d.]+, perplexity [\d.]+, [\d.]+ bits per byte/);
  expect(stdout).not.toMatch(/NaN|bytes each/);
  expect(commandsAfter(stdout).map((command) => command.split(" ")[0])).toEqual(["generate", "eval", "pretrain", "pretrain"]);

  writeFileSync(join(tokens, "train.bin"), Buffer.alloc(2 * (2 ** 24 + 1), "\x20\x00"));
  const many = await groundup(["quickstart", "--out", `${out}-many`, ...[...settings, ...tiny, ...short].flatMap((setting) => ["--set", setting])]);
  expect(many.code).toBe(0);
  expect(many.stdout).toMatch(/^Baseline {3}none: n-grams are counted on at most 16,777,216 training tokens, and these are 16,777,217$/m);
  expect(many.stdout).not.toMatch(/Held-out/);
});

test("says after how many evaluations it stopped early", { timeout: 60_000 }, async () => {
  const settings = (patience: number) => ["training.learning_rate=0", "eval.eval_steps=2", `eval.early_stopping_patience=${patience}`];
  const stopped = async (patience: number) => {
    const out = join(dir, `patience-${patience}`);
    return (await groundup(["pretrain", recipe, "--out", out, ...settings(patience).flatMap((setting) => ["--set", setting])])).stdout;
  };
  expect(await stopped(1)).toContain("\nStopped after 1 evaluation without a better loss at step 4. Run folder: ");
  expect(await stopped(2)).toContain("\nStopped after 2 evaluations without a better loss at step 6. Run folder: ");
});

test("--find-lr draws the losses, suggests a rate and keeps nothing", { timeout: 60_000 }, async () => {
  const out = join(dir, "none");
  const accumulated = ["--set", "training.gradient_accumulation_steps=2"];
  const { code, stdout } = await groundup(["pretrain", recipe, "--find-lr", "--out", out, ...accumulated]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/│ *•/);
  expect(stdout).toMatch(/▲\n *1e-6 +1e\S+/);
  const rate = Number(/--set training\.learning_rate=(\S+)/.exec(stdout)?.[1]);
  expect(rate).toBeGreaterThan(1e-4);
  expect(rate).toBeLessThan(0.5);
  expect(existsSync(out)).toBe(false);
  const both = await groundup(["pretrain", recipe, "--find-lr", "--dry-run"]);
  expect(both.code).toBe(2);
  expect(both.stderr).toMatch(/--dry-run and --find-lr do not go together/);
});

test("a wrong key, a missing file and a missing recipe get a helpful line", { timeout: 60_000 }, async () => {
  const wrong = await groundup(["plan", recipe, "--set", "training.max_stepps=3", "--set", "model.hiden_size=4"]);
  expect(wrong.code).toBe(1);
  expect(wrong.stderr).toMatch(/training\.max_stepps is unknown.*Did you mean "max_steps"/);
  expect(wrong.stderr).toMatch(/hiden_size is unknown.*hidden_size/);
  const absent = await groundup(["pretrain", recipe, "--set", "data.path=/nowhere/text.txt", "--out", join(dir, "absent")]);
  expect(absent.stderr).toMatch(/\/nowhere\/text\.txt: not found/);
  expect((await groundup(["plan", "quickstrat"])).stderr).toMatch(/quickstart/);
  expect((await groundup(["plan", join(dir, "recipes.yaml")])).stderr).toContain('Did you mean "recipe.yaml"?');
});

test("--out on a file, on a run and where nothing can be made", { timeout: 60_000 }, async () => {
  const tries: [out: string, message: RegExp][] = [
    [recipe, /recipe\.yaml: a file has this name, expected a new or empty folder for the run, got a file\. Choose another with --out\./],
    [join(recipe, "run"), /the folder can't be made, expected a place that can be written, got ENOTDIR\. Choose another with --out\./],
    // Node's own recursive mkdir never returns here.
    ["/proc/groundup/run", /\/proc\/groundup\/run: the folder can't be made/],
  ];
  for (const [out, message] of tries) {
    const { code, stderr } = await groundup(["pretrain", recipe, "--out", out]);
    expect(stderr).toMatch(message);
    expect([stderr.trim().split("\n").length, code]).toEqual([1, 1]);
  }
  const nothing = await groundup(["pretrain", recipe, "--out", join(dir, "no-such-run"), "--resume"]);
  expect(nothing.stderr).toMatch(/no run to resume, expected config\.yaml in the folder, got none/);
});

test("a first try that failed leaves the folder free for the next, and what lay hidden in it", { timeout: 60_000 }, async () => {
  const out = join(dir, "second-try");
  mkdirSync(out);
  writeFileSync(join(out, ".keep"), "");
  for (const [setting, message] of [
    ["data.path=/nowhere.txt", /not found/],
    ["training.context_length=100000", /text smaller than one window/],
    ["training.warmup_steps=5000", /training\.warmup_steps: too long, expected at most training\.max_steps 12, got 5000/],
    ["training.batch_size=1000000000", /not enough memory for this recipe/],
  ] as const) {
    const { stderr } = await groundup(["pretrain", recipe, "--out", out, "--set", "data.order=windows", "--set", setting]);
    expect(stderr).toMatch(message);
    expect(readdirSync(out)).toEqual([".keep"]);
  }
  expect((await groundup(["pretrain", recipe, "--out", out])).code).toBe(0);
  // A run that is there stays, whatever goes wrong.
  rmSync(join(dir, "text.txt"));
  expect((await groundup(["pretrain", out, "--resume"])).stderr).toMatch(/text\.txt: not found/);
  expect(readdirSync(join(out, "checkpoints"))).toEqual(["step-000012"]);
});

test("a number of threads that can't be is refused", { timeout: 60_000 }, async () => {
  for (const threads of ["lots", "0", "2.5", "1e9"]) {
    const { code, stderr } = await groundup(["plan", recipe], { GROUNDUP_THREADS: threads });
    expect(stderr).toContain(`GROUNDUP_THREADS: not a number of threads, expected a whole number from 1 to 1024, got "${threads}"`);
    expect(code).toBe(1);
  }
});

test("an instruction set that can't be is refused; the plain backend, which has none, takes no notice", { timeout: 60_000 }, async () => {
  const { code, stdout, stderr } = await groundup(["doctor"], { GROUNDUP_ISA: "foo" });
  if (!NATIVE) {
    expect([stderr, code]).toEqual([WELL, 0]);
    expect(stdout).toMatch(/javascript/);
    return;
  }
  expect([stderr.trim().split("\n").length, code]).toEqual([1, 1]);
  expect(stderr).toMatch(/GROUNDUP_ISA: not an instruction set that this machine can run, expected one of .*portable, got "foo"/);
});

test("every bundled recipe can be planned", { timeout: 120_000 }, async () => {
  for (const name of ["quickstart", "characters", "settings-a", "settings-c"]) {
    const { code, stdout, stderr } = await groundup(["plan", name, "--json"]);
    expect(stderr).toMatch(/parameters/);
    expect(code).toBe(0);
    expect(JSON.parse(stdout).memory.peak).toBeGreaterThan(1e7);
  }
});

test("a model far too large is planned without being built, and the plan says what would help", { timeout: 60_000 }, async () => {
  const sizes = { hidden_size: 8192, intermediate_size: 28672, num_hidden_layers: 80, num_attention_heads: 64, num_key_value_heads: 8 };
  const set = Object.entries(sizes).flatMap(([key, value]) => ["--set", `model.${key}=${value}`]);
  const tell = 'data:text/javascript,process.on("exit",()=>console.error("ms",(process.cpuUsage().user+process.cpuUsage().system)/1000))';
  const { code, stdout, stderr } = await groundup(["plan", "quickstart", ...set, "--json"], { NODE_OPTIONS: `--import=${tell.replaceAll('"', "%22")}` });
  // Of the processor: the process, and a tenth of a second to measure the machine; building the model would take minutes and 270 GB.
  expect(Number(/^ms ([\d.]+)$/m.exec(stderr)?.[1])).toBeLessThan(5000);
  expect(code).toBe(0);
  expect(stderr).toMatch(/It will not fit: tensors may take [\d.]+ GB on this machine. What would help/);
  const plan = JSON.parse(stdout);
  expect(plan.parameters).toBeGreaterThan(6e10);
  expect(plan.fits).toBe(false);
  expect(plan.waysToFit.join()).toMatch(/a machine that gives tensors \d+\.\d GB/);
});

test("model.size is the one dial of a model's shape", { timeout: 60_000 }, async () => {
  const yaml = readFileSync(join(ROOT, "recipes", "quickstart.yaml"), "utf8").replace(/model:\n( {2}.*\n)+/, "model: { model_type: llama, size: 15M }\n");
  const sized = join(dir, "sized.yaml");
  writeFileSync(sized, yaml);
  const { code, stdout } = await groundup(["plan", sized, "--json"]);
  expect(code).toBe(0);
  expect(Math.abs(JSON.parse(stdout).parameters / 15e6 - 1)).toBeLessThan(0.1);
  const both = await groundup(["plan", sized, "--set", "model.hidden_size=64"]);
  expect(both.code).toBe(1);
  expect(both.stderr).toMatch(/model: size decides hidden_size, expected one or the other/);
  expect((await groundup(["plan", sized, "--set", "model.size=huge"])).stderr).toMatch(/must be a number of parameters such as 15M/);
});
