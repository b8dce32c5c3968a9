/** Weights of modules that are no registered architecture: saved and loaded under their own names. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { saveModelWeights } from "../formats/index.ts";
import { LayerNorm, Linear, Module } from "../nn/index.ts";
import type { Tensor } from "../tensor/index.ts";
import { loadWeights, weightEntries } from "./index.ts";

class Net extends Module {
  layers: Linear[];
  norm = new LayerNorm(4);

  constructor(inner = 5) {
    super();
    this.layers = [new Linear(4, inner), new Linear(inner, 4)];
  }

  override forward(x: Tensor): Tensor {
    return this.norm.forward(this.layers.reduce((y, layer) => layer.forward(y), x));
  }
}

class Longer extends Net {
  last = new Linear(4, 2);
}

const values = (net: Module) => [...net.stateDict()].map(([name, t]) => [name, [...t.dataSync()]]);

test("a module of one's own is saved, and loaded strictly", async () => {
  const folder = await mkdtemp(join(tmpdir(), "groundup-own-"));
  const [net, other, wider, longer] = [new Net(), new Net(), new Net(6), new Longer()];
  try {
    await saveModelWeights(folder, weightEntries(net));
    expect(values(other)).not.toEqual(values(net));
    await loadWeights(other, folder);
    expect(values(other)).toEqual(values(net));
    const before = values(wider);
    await expect(loadWeights(wider, folder)).rejects.toThrow(/got 3 of another shape:\n(.*\n)* {2}layers\.0\.bias: expected \(6\), got \(5\)\n/);
    expect(values(wider)).toEqual(before);
    await expect(loadWeights(longer, folder)).rejects.toThrow(
      /do not fit the module, expected the model's own names and shapes, got 2 missing:\n {2}last\.weight\n {2}last\.bias\nBuild/,
    );
  } finally {
    for (const module of [net, other, wider, longer]) module.dispose();
    await rm(folder, { recursive: true });
  }
});
