/** Lets the event loop run once: timers, sockets, progress and Ctrl-C get their turn between the steps of a long loop. */
export const turn = (): Promise<void> => new Promise((resolve) => void (globalThis.setImmediate ?? setTimeout)(resolve));
