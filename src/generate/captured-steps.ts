/**
 * Steps of generation that were captured: the same number of sequences, each with so many new tokens, is the same work whatever the tokens are, so its kernels run again
 * without the model's JavaScript. Bytes are the same either way.
 */
import type { CausalLM } from "../models/index.ts";
import { Capture, canCapture, clone, keep, type Tensor, tensor } from "../tensor/index.ts";

/** Steps of other forms are forgotten beyond so many, those first that came longest ago. */
const MOST_FORMS = 8;
/** A form that is captured so often and never the same twice is not work that repeats. */
const MOST_TRIES = 4;

/** What is known of steps of one form. */
interface Form {
  tries: number;
  /** Where the numbers lie that a step begins with. */
  inputs: Tensor | null;
  capture: Capture | null;
  /** Two captures in a row were the same. */
  confirmed: boolean;
}

/** What a step begins with, and what makes it one that came before. */
export interface StepForm {
  /** Two steps with the same name have the same shapes everywhere. */
  readonly name: string;
  /** All numbers that differ from step to step. */
  readonly inputs: Int32Array;
  /** How many positions each sequence has with its new tokens. */
  readonly lengths: Int32Array;
}

/** Runs steps, those that came before without JavaScript. */
export interface CapturedSteps {
  /** What `work` gives for these inputs, in tensors of the scope around. It must take every number that changes from step to step from the tensor it gets. */
  run(form: StepForm, work: (inputs: Tensor) => readonly Tensor[]): readonly Tensor[];
  /** Steps so far that ran without JavaScript. */
  replayed(): number;
  /** Gives back all memory that captures hold; false where they held none. */
  forget(): boolean;
}

export function createCapturedSteps(model: CausalLM): CapturedSteps {
  /** In the order of their last use. */
  const forms = new Map<string, Form>();
  let unchanged: (() => boolean) | null = null;
  let replayed = 0;

  function forget(form: Form): void {
    form.capture?.dispose();
    form.inputs?.dispose("CapturedSteps");
  }

  function forgetAll(): boolean {
    const held = [...forms.values()].some(({ inputs }) => inputs !== null);
    for (const form of forms.values()) forget(form);
    forms.clear();
    return held;
  }

  function formNamed(name: string): Form {
    const form = forms.get(name) ?? { tries: 0, inputs: null, capture: null, confirmed: false };
    forms.delete(name);
    forms.set(name, form);
    if (forms.size > MOST_FORMS) {
      const [oldest] = forms.keys();
      forget(forms.get(oldest) as Form);
      forms.delete(oldest);
    }
    return form;
  }

  return {
    run({ name, inputs, lengths }, work) {
      if (unchanged?.() === false) {
        forgetAll();
        unchanged = null;
      }
      const form = formNamed(name);
      if (form.confirmed && form.capture !== null) {
        const { capture } = form;
        if (capture.holds && lengths.every((n) => n >= capture.shortest && n <= capture.longest)) {
          form.inputs?.write(inputs);
          capture.replay();
          replayed++;
          return capture.results.map((t) => clone(t));
        }
        capture.dispose();
        [form.capture, form.confirmed, form.tries] = [null, false, 0];
      }
      unchanged ??= model.unchangedSince();
      if (form.tries === MOST_TRIES || unchanged === null || !canCapture()) return work(tensor(inputs));
      form.inputs ??= keep(tensor(inputs));
      form.inputs.write(inputs);
      const place = form.inputs;
      const former = form.capture;
      // Memory that has moved in between (pages that grew) says nothing of the work.
      if (former === null || former.problem !== null || former.holds) form.tries++;
      form.capture = null;
      const again = Capture.of(() => work(place), former);
      form.confirmed = former !== null && again.problem === null && again.same(former);
      form.capture = again;
      const results = again.results.map((t) => clone(t));
      if (!form.confirmed && form.tries === MOST_TRIES) {
        again.dispose();
        form.capture = null;
      }
      return results;
    },
    replayed: () => replayed,
    forget: forgetAll,
  };
}
