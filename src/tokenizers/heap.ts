/** A binary heap. */
export interface Heap<T> {
  push(item: T): void;
  /** Takes away the item that goes first; undefined where there is none. */
  pop(): T | undefined;
}

export function createHeap<T>(goesBefore: (a: T, b: T) => boolean): Heap<T> {
  const heap: T[] = [];
  return {
    push(item) {
      let at = heap.length;
      while (at > 0 && goesBefore(item, heap[(at - 1) >> 1])) {
        heap[at] = heap[(at - 1) >> 1];
        at = (at - 1) >> 1;
      }
      heap[at] = item;
    },
    pop() {
      const top = heap[0];
      const last = heap.pop();
      if (last === undefined || heap.length === 0) return top;
      let at = 0;
      for (;;) {
        let child = at * 2 + 1;
        if (child >= heap.length) break;
        if (child + 1 < heap.length && goesBefore(heap[child + 1], heap[child])) child++;
        if (!goesBefore(heap[child], last)) break;
        heap[at] = heap[child];
        at = child;
      }
      heap[at] = last;
      return top;
    },
  };
}
