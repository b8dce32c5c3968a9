// Random weights for the parity checks.
import { randn, scope } from "groundup";

/**
 * Large weights, and gains and biases that are not what they are at first, so that a wrong epsilon or activation shows. Gains keep 10 binary places: files of GGUF hold
 * those of Gemma with 1 added, and so nothing of them is rounded away.
 */
export function randomise(model) {
  scope(() => {
    for (const [path, p] of model.namedParameters()) {
      const gain = /(norm|ln_)/.test(path) && path.endsWith("weight");
      const centre = gain && model.architecture.gguf?.added === undefined ? 1 : 0;
      const values = randn(p.shape)
        .mul(gain ? 0.3 : 0.25)
        .add(centre)
        .dataSync();
      p.write(gain ? values.map((value) => (Math.round(value * 1024) + 0) / 1024) : values);
    }
  });
}
