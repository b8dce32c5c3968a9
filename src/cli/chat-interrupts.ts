/** What Ctrl-C means in a conversation: it stops the answer, and at the prompt two of them end the program. */

/** Ctrl-C's meaning as it changes. */
export interface Interrupts {
  /** Ctrl-C was pressed: what is to be done. */
  press(): "stop answer" | "warn" | "leave";
  /** An answer begins; the signal stops it. */
  begin(): AbortSignal;
  /** The answer is over. */
  end(): void;
  /** Something was typed: an earlier press is forgotten. */
  typed(): void;
}

export function createInterrupts(): Interrupts {
  let answer: AbortController | null = null;
  let warned = false;
  return {
    press() {
      if (answer !== null && !answer.signal.aborted) {
        answer.abort();
        return "stop answer";
      }
      if (warned) return "leave";
      warned = true;
      return "warn";
    },
    begin() {
      answer = new AbortController();
      warned = false;
      return answer.signal;
    },
    end() {
      answer = null;
    },
    typed() {
      warned = false;
    },
  };
}
