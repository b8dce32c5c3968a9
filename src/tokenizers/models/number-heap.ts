/** A binary heap of numbers with the smallest on top. */
export interface NumberHeap {
  push(value: number): void;
  /** Takes the smallest away; undefined where there is none. */
  pop(): number | undefined;
}

export function createNumberHeap(): NumberHeap {
  const heap: number[] = [];
  return {
    push(value) {
      let at = heap.length;
      while (at > 0 && value < heap[(at - 1) >> 1]) {
        heap[at] = heap[(at - 1) >> 1];
        at = (at - 1) >> 1;
      }
      heap[at] = value;
    },
    pop() {
      const top = heap[0];
      const last = heap.pop();
      if (last === undefined || heap.length === 0) return top;
      let at = 0;
      for (;;) {
        let child = at * 2 + 1;
        if (child >= heap.length) break;
        if (child + 1 < heap.length && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= last) break;
        heap[at] = heap[child];
        at = child;
      }
      heap[at] = last;
      return top;
    },
  };
}
