#!/bin/sh
# Repeats a line of RESULTS.md: ours and its peers in turn.
#   sh bench/repeat.sh train b          a, b, c, a-bf16, b-bf16: PyTorch tuned, eager and compiled (float32: also as installed); with the peak memory of each
#   sh bench/repeat.sh gemm 8x768x3072  MxNxK: MKL (tuned) and oneDNN (tuned, precision "medium")
#   sh bench/repeat.sh decode gpt2@512  gpt2@0, gpt2@512: transformers, tuned; ours ends with its share of the memory's read bound
#   sh bench/repeat.sh decode FILE.gguf decoding at depth 0 beside llama.cpp; the other figures are in the lines that both programs end with
#   sh bench/repeat.sh eager add8-grad  add8, add8-grad: PyTorch
#   sh bench/repeat.sh encode cl100k    gpt2, cl100k: tiktoken; TEXT and RANKS name the text and the rank file
#   sh bench/repeat.sh bpe-train 8k     8k, 32k: rustbpe and Hugging Face tokenizers; TEXT names the text
#   sh bench/repeat.sh reference        the plain TypeScript backend's matmul
#   sh bench/repeat.sh start            groundup --help and the import, as medians of nine
#   sh bench/repeat.sh characters       three seeds on each side; TEXT names the text
# PYTHON names the interpreter with the peers (python), ROUNDS their number (3).
set -eu
PYTHON=${PYTHON:-python}
rounds=${ROUNDS:-3}
line=${1:-}
setting=${2:-}
tuned="sh bench/peers/tuned.sh $PYTHON"

compare() {
  node bench/compare.mjs --rounds "$rounds" -- node bench/run.mjs "$line" --setting "$setting" "$@"
}

case $line in
  train)
    peer="bench/peers/torch_train.py ${setting%-bf16}"
    case $setting in
      # Where AVX512_BF16 is, PyTorch uses it as installed too.
      *-bf16) compare -- $tuned $peer --bf16 -- $tuned $peer --bf16 --compile ;;
      *) compare -- $tuned $peer -- $tuned $peer --compile -- $PYTHON $peer ;;
    esac
    ;;
  gemm) compare -- $tuned bench/peers/torch_gemm.py "$setting" -- $tuned bench/peers/torch_gemm.py "$setting" --precision medium ;;
  decode)
    case $setting in
      *.gguf) compare -- "$PYTHON" bench/peers/decode_llama_cpp.py "$setting" ;;
      *) compare -- $tuned bench/peers/decode_transformers.py --setting "$setting" ;;
    esac
    ;;
  eager) compare -- $PYTHON bench/peers/eager_torch.py "$setting" ;;
  encode)
    export GROUNDUP_BENCH_TEXT="$TEXT" GROUNDUP_BENCH_RANKS="$RANKS"
    compare -- $PYTHON bench/peers/encode_tokenizers.py tiktoken --text "$TEXT" --ranks "$RANKS" --setting "$setting"
    ;;
  bpe-train)
    export GROUNDUP_BENCH_TEXT="$TEXT"
    peer="bench/peers/bpe_train.py"
    compare -- $PYTHON $peer rustbpe --text "$TEXT" --setting "$setting" -- $PYTHON $peer hf --text "$TEXT" --setting "$setting"
    ;;
  reference) GROUNDUP_BACKEND=reference node bench/run.mjs gemm --setting 256x256x256 ;;
  start)
    for job in 'dist/cli/main.js --help' '--input-type=module -e await(import("groundup"))' '-e 0'; do
      # shellcheck disable=SC2086 # several words
      node -e '
        const { spawnSync } = require("node:child_process");
        const once = () => { const t = performance.now(); spawnSync(process.execPath, process.argv.slice(1)); return performance.now() - t; };
        console.log(`${Array.from({ length: 9 }, once).sort((a, b) => a - b)[4].toFixed(0)} ms: node ${process.argv.slice(1).join(" ")}`);
      ' -- $job
    done
    ;;
  characters)
    for seed in 1337 1 2; do
      node dist/cli/main.js pretrain characters --set data.path="$TEXT" --set run.seed=$seed --out "$(mktemp -d)/run"
      $PYTHON bench/peers/torch_characters.py "$TEXT" --seed $seed
    done
    ;;
  *)
    echo "repeat: expected train, gemm, decode, eager, encode, bpe-train, reference, start or characters, got '$line'. See the head of bench/repeat.sh." >&2
    exit 2
    ;;
esac
