import { expect, test } from "vitest";
import { ConfigError } from "../errors.ts";
import type { Architecture } from "./architecture.ts";
import { architectures, describeModel } from "./architectures.ts";
import { createModel } from "./create.ts";
import { ggufNames, neighbouringHalves, partsOfGroups } from "./gguf-names.ts";

/** Those that files can say. */
const sayable = ({ modelType, gguf }: Architecture, config: Record<string, unknown>): boolean => {
  try {
    return gguf?.metadata(describeModel({ model_type: modelType, ...config }).config) !== undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return false;
  }
};

const declared = Object.values(architectures).flatMap((architecture) =>
  architecture.gguf === undefined
    ? []
    : architecture.samples
        .filter((sample) => sayable(architecture, sample))
        .map((config, i) => ({
          modelType: architecture.modelType,
          i,
          form: architecture.gguf as NonNullable<typeof architecture.gguf>,
          config,
        })),
);

test.each(declared)("$modelType $i: each weight has a name in files, which leads back to it", ({ modelType, form, config }) => {
  const model = createModel({ model_type: modelType, ...config });
  const { toOurs, toFile, partsOf } = ggufNames(form.names);
  const wanted = new Set([...model.stateDict().keys()].flatMap((name) => partsOf(name).map(({ key }) => key)));
  const files = [...wanted].map((key) => [key, toFile(key)] as const);
  for (const [key, file] of files) expect([key, toOurs(file ?? "", wanted)]).toEqual([key, key]);
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

test("queries, keys and values of all groups apart", () => {
  // Two groups of two queries, a key and a value, each of two rows.
  expect([...partsOfGroups(4, 2, 2)]).toEqual([0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15]);
  expect([...partsOfGroups(2, 1, 1)]).toEqual([0, 1, 2, 3]);
});

test("a file's name that has several of ours is the one that the model has", () => {
  const { toOurs, toFile } = ggufNames([
    ["blk.{i}.attn_norm", "h.{i}.ln"],
    ["blk.{i}.attn_norm", "h.{i}.ln_mlp"],
  ]);
  expect(toOurs("blk.2.attn_norm.weight", new Set(["h.2.ln_mlp.weight"]))).toBe("h.2.ln_mlp.weight");
  expect(toOurs("blk.2.attn_norm.weight", new Set())).toBe("h.2.ln.weight");
  expect([toFile("h.1.ln"), toFile("h.1.ln_mlp")]).toEqual(["blk.1.attn_norm", "blk.1.attn_norm"]);
});
