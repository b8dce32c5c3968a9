/** Lets the event loop run once: progress, Ctrl-C and servers stay alive between the steps of a long loop. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
