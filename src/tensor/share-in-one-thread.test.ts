/** Two tensors over one memory in the same thread, whose storages know nothing of each other. */
import { beforeAll, describe, expect, test } from "vitest";
import { native } from "../../tests/where-native.ts";
import { fromShared, scope, share, type Tensor, useBackend } from "./index.ts";
import { createReference } from "./reference/index.ts";
import { values } from "./samples.ts";

const numbers = (t: Tensor): number[] => [...t.dataSync()];
/** Counted, because the difference of two such lists takes minutes to print. */
const wrong = (t: Tensor, expected: readonly number[]): number => numbers(t).filter((x, i) => x !== expected[i]).length;

for (const name of native === null ? ["reference"] : ["native", "reference"]) {
  describe(`on the ${name} backend`, () => {
    beforeAll(() => {
      const former = useBackend(name === "native" && native !== null ? native : createReference());
      return () => void useBackend(former);
    });

    test("a copy from another place of the memory sees it as it was before", () => {
      scope(() => {
        const m = values([300, 300]).detach();
        const expected = numbers(m.transpose(0, 1).clone());
        m.copyFrom(fromShared(share(m)).transpose(0, 1));
        expect(wrong(m, expected)).toBe(0);
      });
    });

    test.each(["the tensor's own", "a shared"])("so does a sum with %s", (whose) => {
      scope(() => {
        const n = 400_000;
        const m = values([n + 1]).detach();
        const other = whose === "a shared" ? fromShared(share(m)) : m;
        const expected = numbers(m.narrow(0, 0, n).add(m.narrow(0, 1, n).mul(0.5)));
        expected.push(m.narrow(0, n, 1).itemSync());
        m.narrow(0, 0, n).addInPlace(other.narrow(0, 1, n), 0.5);
        expect(wrong(m, expected)).toBe(0);
        const backwards = [m.narrow(0, 0, 1).itemSync(), ...numbers(m.narrow(0, 1, n).add(m.narrow(0, 0, n)))];
        m.narrow(0, 1, n).addInPlace(other.narrow(0, 0, n));
        expect(wrong(m, backwards)).toBe(0);
      });
    });

    test("every backward adds to a leaf's .grad where it lies, and whoever shares it sees that", () => {
      scope(() => {
        const x = values([3]);
        x.sum().backward();
        const seen = fromShared(share(x.grad as Tensor));
        x.sum().backward();
        expect(numbers(seen)).toEqual([2, 2, 2]);
        x.grad?.dispose();
      });
    });
  });
}
