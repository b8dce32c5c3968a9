/** A set of strings by their beginnings: which of them stand at a place of a text. */
export class PrefixTrie {
  /** Node and UTF-16 unit (in the low 16 bits) to the next node; node 0 is the root. */
  private readonly children = new Map<number, number>();
  /** By node: the value of the string that ends there, or -1. */
  private readonly values: number[] = [-1];

  /** @param value at least 0 */
  add(key: string, value: number): void {
    let node = 0;
    for (let i = 0; i < key.length; i++) {
      const step = node * 0x10000 + key.charCodeAt(i);
      let next = this.children.get(step);
      if (next === undefined) {
        next = this.values.length;
        this.values.push(-1);
        this.children.set(step, next);
      }
      node = next;
    }
    this.values[node] = value;
  }

  /** The node behind `unit`, or -1. */
  step(node: number, unit: number): number {
    return this.children.get(node * 0x10000 + unit) ?? -1;
  }

  /** The value of the string that ends at this node, or -1. */
  value(node: number): number {
    return this.values[node];
  }

  /** The length of the longest string that stands at `start`; 0 where there is none. */
  longest(text: string, start: number): number {
    let length = 0;
    let node = 0;
    for (let at = start; at < text.length; at++) {
      node = this.step(node, text.charCodeAt(at));
      if (node < 0) break;
      if (this.values[node] >= 0) length = at + 1 - start;
    }
    return length;
  }
}
