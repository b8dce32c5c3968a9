/** `groundup chat`: a conversation in the terminal. */
import { createInterface } from "node:readline";
import * as z from "zod";
import { ConfigError, GroundupError } from "../errors.ts";
import { STATE_DTYPES } from "../tensor/index.ts";
import { loadChat, saveChat } from "./chat-file.ts";
import { createInputLines, helpText } from "./chat-input.ts";
import { createInterrupts } from "./chat-interrupts.ts";
import { chatDefaults, chatForm, chatSampling } from "./chat-model.ts";
import { type Answer, createSession, type Session } from "./chat-session.ts";
import { defineCommand, type Io } from "./command.ts";
import { PartlyDone } from "./failure.ts";
import { CHECKPOINT_FLAG, DRAFT_FLAG, DTYPE_FLAG, MODEL_ARGUMENT, OFFLINE_FLAG, openModel, STATE_DTYPE_FLAG, speculationOf } from "./open-model.ts";
import { OWN_SAMPLING, type RequestFlags, requestOptions } from "./request-flags.ts";

/** Part of the context from which on its end is spoken of. */
const NEARLY_FULL = 0.9;

export const command = defineCommand({
  about:
    "Talks with a model that was trained for conversations, in the form of its own chat template. Settings that are not given come from the model's " +
    'generation_config.json or GGUF metadata; where these do not say how tokens are drawn, the temperature is 0.2 and top-p 0.9. From a pipe, each line is a message. """ begins and ends a message of many lines; /help shows the commands.',
  arguments: [MODEL_ARGUMENT],
  options: z.object({
    system: z.string().optional().describe("an instruction before everything").meta({ placeholder: "TEXT" }),
    load: z.string().min(1).optional().describe("go on with a conversation that /save wrote").meta({ placeholder: "FILE" }),
    maxNewTokens: z.int().min(1).default(1024).describe("tokens of an answer at most"),
    ...OWN_SAMPLING,
    seed: z.int().min(0).default(0).describe("another seed gives other answers"),
    stop: z.array(z.string().min(1)).default([]).describe("end an answer before this text").meta({ placeholder: "TEXT" }),
    contextShift: z.boolean().default(false).describe("when the conversation no longer fits, leave the oldest turns out of what the model sees"),
    template: z.string().min(1).optional().describe("a Jinja file in place of the model's own template").meta({ placeholder: "FILE" }),
    plain: z.boolean().default(false).describe("write User: and Assistant: before each turn, for a model without a template"),
    set: z.array(z.string()).default([]).describe("a variable of the template, such as enable_thinking=false").meta({ placeholder: "NAME=VALUE" }),
    draft: z.string().min(1).optional().describe(DRAFT_FLAG).meta({ placeholder: "MODEL" }),
    stateDtype: z.enum(STATE_DTYPES).default("f32").describe(STATE_DTYPE_FLAG),
    dtype: z.enum(["f32"]).optional().describe(DTYPE_FLAG),
    checkpoint: z.string().optional().describe(CHECKPOINT_FLAG).meta({ placeholder: "WHICH" }),
    offline: z.boolean().default(false).describe(OFFLINE_FLAG),
  }),
  examples: [
    "groundup chat ./SmolLM2-135M-Instruct",
    'groundup chat model.gguf --system "Answer in one sentence." --temperature 0.2',
    'echo "What is a whale?" | groundup chat ./SmolLM2-135M-Instruct --json',
  ],
  async run([path], options, io) {
    const { system, load, checkpoint, dtype, offline, template, plain, set, maxNewTokens, seed, stop, contextShift, draft, stateDtype, ...flags } = options;
    if (plain && template !== undefined)
      throw new ConfigError("chat: --plain and --template exclude each other, expected one of them, got both. Leave one out.");
    const variables = variablesOf(set);
    const turns = load === undefined ? [] : await loadChat(load);
    const opening = { offline, ...(dtype === undefined ? {} : { dtype }) };
    const { model, tokenizer, folder, stopIds } = await openModel(path, checkpoint, io.log, opening);
    const speculation = await speculationOf(draft, io.log, opening);
    const form = await chatForm(folder, tokenizer, { plain, ...(template === undefined ? {} : { template }) });
    const defaults = await chatDefaults(folder);
    const given = Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined)) as Partial<RequestFlags>;
    const { sampling, text: drawing } = chatSampling(defaults, requestOptions(given, tokenizer));
    const session = createSession({
      ...{ model, tokenizer, form, stop, maxNewTokens, seed, contextShift, variables, stateDtype },
      ...(speculation === undefined ? {} : { speculation }),
      sampling,
      stopIds: [...new Set([...stopIds, ...defaults.stopIds, ...form.endIds])],
    });
    session.replace(turns);
    if (system !== undefined) session.system(system);
    const answers: Answer[] = [];
    const result = () => ({ model: folder, sampling, messages: session.turns, answers });
    const greeting = `${folder}: ${session.context.size} tokens of context; ${drawing}. /help shows the commands.`;
    try {
      await talk(session, io, greeting, answers);
    } catch (error) {
      throw new PartlyDone(result(), error);
    } finally {
      session.dispose();
      model.dispose();
    }
    return result();
  },
});

/** `--set enable_thinking=false`: JSON where it is some, else text. */
function variablesOf(set: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(
    set.map((pair) => {
      const [, name, text] = /^([A-Za-z_]\w*)=([\s\S]*)$/.exec(pair) ?? [];
      if (name === undefined) throw new ConfigError(`chat: bad --set, expected NAME=VALUE, got "${pair}". Correct it.`);
      try {
        return [name, JSON.parse(text)];
      } catch {
        return [name, text];
      }
    }),
  );
}

/** Reads until the input ends or `/exit`. */
async function talk(session: Session, io: Io, greeting: string, answers: Answer[]): Promise<void> {
  const terminal = process.stdin.isTTY === true && process.stdout.isTTY === true && !io.json;
  const lines = createInterface({ input: process.stdin, ...(terminal ? { output: process.stdout, terminal: true } : { terminal: false }) });
  const input = createInputLines();
  // Turns are replaced and never changed, so that what is on the disk is told from what came after it.
  let kept = session.turns;
  const interrupts = createInterrupts();
  const prompt = (): void => {
    if (!terminal) return;
    lines.setPrompt(input.open ? "... " : ">>> ");
    lines.prompt();
  };
  let left = false;
  const pressed = (): void => {
    switch (interrupts.press()) {
      case "warn":
        // In a pipe nobody can be asked twice.
        if (!terminal) leave();
        else {
          input.reset();
          // What stands in the line goes too: to its end, then all before it.
          for (const name of ["e", "u"]) lines.write(null, { ctrl: true, name });
          io.log("\npress Ctrl-C again to leave, or go on");
          prompt();
        }
        break;
      case "leave":
        leave();
        break;
      case "stop answer":
    }
  };
  const leave = (): void => {
    left = true;
    if (!terminal) process.exitCode = 130;
    lines.close();
  };
  lines.on("SIGINT", pressed);
  process.on("SIGINT", pressed);
  if (terminal) io.log(greeting);

  async function answer(message: string | null): Promise<void> {
    try {
      const signal = interrupts.begin();
      const result = await session.answer(message, signal, (text) => io.write(text));
      io.print();
      answers.push(result);
      for (const line of remarksOn(result, session)) io.log(line);
    } catch (error) {
      // What a message, a template or a setting makes impossible ends no conversation; where nobody can answer, it does.
      if (!(error instanceof GroundupError) || !terminal) throw error;
      io.log(error.message);
    } finally {
      interrupts.end();
    }
  }

  try {
    prompt();
    for await (const line of lines) {
      interrupts.typed();
      const got = input.push(line);
      if (got?.kind === "mistake") tell(got.text);
      else if (got?.kind === "message") await answer(got.text);
      else if (got?.kind === "command" && !(await obey(got.name, got.argument))) break;
      if (left) break;
      prompt();
    }
    const rest = left ? null : input.end();
    if (rest?.kind === "message") await answer(rest.text);
  } finally {
    lines.close();
    process.off("SIGINT", pressed);
  }

  function tell(mistake: string): void {
    if (!terminal) throw new ConfigError(mistake);
    io.log(mistake);
  }

  /** Instructions alone are soon written again. */
  function unsaved(): boolean {
    return session.turns !== kept && session.turns.some(({ role }) => role !== "system");
  }

  /** @returns whether the conversation goes on */
  async function obey(name: string, argument: string): Promise<boolean> {
    try {
      switch (name) {
        case "exit":
          return false;
        case "help":
          io.log(helpText());
          break;
        case "system":
          session.system(argument);
          io.log(argument === "" ? "no system message" : "the system message is set");
          break;
        case "clear":
          session.clear();
          kept = session.turns;
          io.log("the conversation begins anew");
          break;
        case "stats":
          io.log(statsOf(session));
          break;
        case "save":
          await saveChat(argument, session.turns);
          kept = session.turns;
          io.log(`${argument}: ${session.turns.length} messages saved`);
          break;
        case "load":
        case "load!":
          if (name === "load" && unsaved()) {
            tell(
              `/load: this conversation is not saved, expected it to be before another takes its place, got ${session.turns.length} messages. Write /save FILE first, or /load! ${argument} to lose it.`,
            );
            break;
          }
          session.replace(await loadChat(argument));
          kept = session.turns;
          io.log(`${argument}: ${session.turns.length} messages`);
          break;
        case "retry":
          if (session.takeBack()) await answer(null);
          else tell("/retry: nothing to answer again, expected a message before it, got none. Write one.");
          break;
      }
    } catch (error) {
      if (!(error instanceof GroundupError || typeof (error as NodeJS.ErrnoException).syscall === "string") || !terminal) throw error;
      io.log((error as Error).message);
    }
    return true;
  }
}

/** What must not go unsaid about an answer. */
function remarksOn({ done, droppedTurns }: Answer, { context }: Session): string[] {
  const remarks: string[] = [];
  const full = `${context.used} of ${context.size} tokens`;
  if (done === "stopped") remarks.push("(stopped; /retry answers again)");
  if (done === "length") remarks.push("(cut off at --max-new-tokens)");
  if (done === "context") remarks.push(`(cut off: the context is full, ${full}. /clear begins anew; --context-shift leaves the oldest turns out.)`);
  else if (context.used >= NEARLY_FULL * context.size)
    remarks.push(`(the context is nearly full, ${full}. /save keeps the conversation, /clear begins anew; --context-shift leaves the oldest turns out.)`);
  if (droppedTurns > 0) remarks.push(`(the model no longer sees the oldest ${droppedTurns} messages)`);
  return remarks;
}

function statsOf({ last, context }: Session): string {
  if (last === null) return `no answer yet; the context has ${context.size} tokens`;
  const speed = last.tokensPerSecond === null ? "" : `, then ${last.tokensPerSecond.toFixed(1)} tokens/s`;
  return (
    `${last.tokens} ${last.tokens === 1 ? "token" : "tokens"}, the first after ${(last.firstTokenSeconds * 1000).toFixed(0)} ms${speed}; ` +
    `${last.promptTokens} before it, ${last.reusedTokens} of them held from before; context ${context.used} of ${context.size}`
  );
}
