import { generateStream } from "groundup/generate";
import { Llama } from "groundup/models";
const model = new Llama({ vocab_size: 256, max_position_embeddings: 1024, hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, initializer_range: 0.3 }).eval();
for (const n of [1, 8]) for (const temperature of [0, 1]) {
  const prompts = Array.from({ length: n }, (_, i) => Int32Array.from({ length: 16 }, (_, j) => (i * 31 + j * 7) % 256));
  const times = [];
  for (let round = 0; round < 9; round++) {
    let start = 0, steps = 0;
    const t = performance.now();
    for await (const e of generateStream(model, prompts, { temperature, maxNewTokens: 500, stopIds: [] })) if (e.request === n - 1) { steps++; if (steps === 1) start = performance.now(); }
    times.push((performance.now() - start) * 1000 / (steps - 1));
  }
  times.sort((a, b) => a - b);
  console.log(`${n} sequences, temperature ${temperature}: median ${times[4].toFixed(1)} µs/step, best ${times[0].toFixed(1)}`);
}
