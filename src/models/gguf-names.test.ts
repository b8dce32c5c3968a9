import { expect, test } from "vitest";
import { architectures } from "./architectures.ts";
import { createModel } from "./create.ts";
import { ggufNames, neighbouringHalves } from "./gguf-names.ts";

const declared = Object.values(architectures).flatMap((architecture) =>
  architecture.gguf === undefined
    ? []
    : architecture.samples.map((config, i) => ({
        modelType: architecture.modelType,
        i,
        form: architecture.gguf as NonNullable<typeof architecture.gguf>,
        config,
      })),
);

test.each(declared)("$modelType $i: each weight has a name in files, which leads back to it", ({ modelType, form, config }) => {
  const model = createModel({ model_type: modelType, ...config });
  const { toOurs, toFile } = ggufNames(form.names);
  const files = [...model.stateDict().keys()].map((name) => [name, toFile(name)] as const);
  for (const [name, file] of files) expect([name, toOurs(file ?? "")]).toEqual([name, name]);
  expect(new Set(files.map(([, file]) => file)).size).toBe(files.length);
  model.dispose();
});

test("names that are not in the table are unknown", () => {
  const { toOurs, toFile } = ggufNames([["blk.{i}.attn_q", "h.{i}.q"]]);
  expect(toOurs("blk.12.attn_q.bias")).toBe("h.12.q.bias");
  expect(toFile("h.3.q")).toBe("blk.3.attn_q");
  expect([toOurs("blk.x.attn_q.weight"), toOurs("blk.1.attn_q.weights"), toOurs("xblk.1.attn_q"), toFile("h.1.q.scale")]).toEqual(new Array(4).fill(undefined));
});

test("halves of each head beside each other", () => {
  expect([...neighbouringHalves(8, 2)]).toEqual([0, 2, 1, 3, 4, 6, 5, 7]);
});
