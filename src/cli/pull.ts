/** `groundup pull`: gets a model from the hub. */
import * as z from "zod";
import { GroundupError } from "../errors.ts";
import { pullModel } from "../formats/index.ts";
import { checkArchitecture } from "../models/auto.ts";
import { byteSize } from "../quantities.ts";
import { defineCommand } from "./command.ts";
import { commandName, word } from "./command-name.ts";
import { createTransferLine } from "./transfer-line.ts";

/** The command line that goes on with a pull. */
export const pullLine = (id: string, { include, exclude }: { readonly include: readonly string[]; readonly exclude: readonly string[] }): string =>
  [`${commandName()} pull ${word(id)}`, ...include.map((glob) => `--include ${word(glob)}`), ...exclude.map((glob) => `--exclude ${word(glob)}`)].join(" ");

export const command = defineCommand({
  about:
    "Fetches a model from the Hugging Face hub (or HF_ENDPOINT) into the cache that Python's huggingface_hub has, too (HF_HUB_CACHE, HF_HOME). Every file is checked against the hub's hash. Interrupted, it goes on from where it was. HF_TOKEN opens private and gated models.",
  arguments: [{ name: "ID", description: "org/name, org/name@revision, or org/name:file.gguf" }],
  options: z.object({
    include: z.array(z.string().min(1)).default([]).describe("fetch these files instead of config, tokenizer and safetensors").meta({ placeholder: "GLOB" }),
    exclude: z.array(z.string().min(1)).default([]).describe("leave these files out").meta({ placeholder: "GLOB" }),
    parallel: z.int().min(1).max(32).default(4).describe("files at a time"),
  }),
  saves: true,
  examples: [
    "groundup pull HuggingFaceTB/SmolLM2-135M-Instruct",
    "groundup pull HuggingFaceTB/SmolLM2-135M-Instruct@main --include '*.json'",
    "groundup pull bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M",
  ],
  async run([id], { include, exclude, parallel }, io) {
    const { signal } = io;
    const line = createTransferLine();
    const started = performance.now();
    try {
      const pulled = await pullModel(id, {
        include,
        exclude,
        parallel,
        signal,
        onProgress: line.show,
        async onConfig(path) {
          const problem = await whyNotRun(path);
          if (problem === null) return;
          line.clear();
          io.log(`${id}: groundup can't run this model (it is fetched all the same): ${problem}`);
        },
        onNote(sentence) {
          line.clear();
          io.log(sentence);
        },
      });
      line.clear();
      const seconds = (performance.now() - started) / 1000;
      const bytes = pulled.files.reduce((sum, file) => sum + file.bytes, 0);
      const speed = pulled.fetched > 0 ? `, ${byteSize(Math.round(pulled.fetched / seconds))}/s` : "";
      io.print(
        `${pulled.id}@${pulled.revision} (${pulled.commit.slice(0, 12)}): ${pulled.files.length} files, ${byteSize(bytes)}, of which ${byteSize(pulled.fetched)} were fetched${speed}`,
      );
      io.print(pulled.folder);
      return { ...pulled, bytes, seconds };
    } catch (error) {
      line.clear();
      if (signal.aborted) io.log(`What has come stays. Go on with: ${pullLine(id, { include, exclude })}`);
      throw error;
    }
  },
});

/** What in a config.json groundup does not run, on one line; null where it runs it. */
async function whyNotRun(path: string): Promise<string | null> {
  try {
    await checkArchitecture(path);
    return null;
  } catch (error) {
    if (!(error instanceof GroundupError)) throw error;
    return error.message.replace(path, "config.json").replace(/\s*\n\s*/g, " ");
  }
}
