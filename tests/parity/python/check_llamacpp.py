"""What `groundup convert` writes, in llama.cpp: scripts/test-parity.mjs runs this.

llama.cpp's logits of every position, in float32 (keys and values too, no flash attention), against groundup's, as a part of the largest logit. What is left is
rounding: 1e-5 up to 24 positions, 5e-5 beyond, since llama.cpp multiplies angles up in float32. Two things are known to be otherwise there, and are put into
groundup's model first, so that nothing else has to be allowed for:

- GELU, for every family that has one and in either form, is looked up in a table of float16. With the same table in groundup's place the logits agree to 1e-7, but
  where rounding puts an argument on the other side of a step of the table; such a position differs by as much as a step is wide. So the median of the positions is
  held to 1e-5 for each layer, and the largest to 5e-3.
- Settings that llama.cpp reads otherwise (`peerChanges` in scripts/parity/llamacpp-peer.mjs), named in the line.

And the comparison must notice: a model that is wrong in one setting (a tenth of the epsilon or the rotary base, a window longer by one, another activation, …) must
differ by ten times what is allowed.

The file opened again by groundup has the same logits as the folder, byte for byte, but where a config names another factor on stretched attention than its formula
gives: of that a file holds 7 digits.
"""
import ctypes
import json
import os
import subprocess
import sys

os.environ["GGML_NO_BACKTRACE"] = "1"
import gguf
import llama_cpp
import numpy as np

from report import check, finish

TABLE = {"median per layer": 1e-5, "largest": 5e-3}
NOTICED = 10

log = []
listener = llama_cpp.llama_log_callback(lambda level, text, _: log.append(text.decode(errors="replace")))
llama_cpp.llama_log_set(listener, ctypes.c_void_p(0))
llama_cpp.llama_backend_init()


def said():
    return next((line.strip() for line in "".join(log).splitlines() if "error" in line), "nothing")


def opened(file):
    log.clear()
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = 0
    return llama_cpp.llama_model_load_from_file(os.fsencode(file), parameters)


if sys.argv[1] == "--open":
    opened(sys.argv[2])
    sys.exit(said())


def logits_of(model, ids, vocabulary):
    """(sequences, positions, vocabulary)."""
    length = ids.shape[1]
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = length
    parameters.n_threads = parameters.n_threads_batch = 2
    parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32
    context = llama_cpp.llama_init_from_model(model, parameters)
    batch = llama_cpp.llama_batch_init(length, 0, 1)
    batch.n_tokens = length
    rows = []
    for sequence in ids:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        for i, token in enumerate(sequence):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = int(token), i, 1, 1
            batch.seq_id[i][0] = 0
        if llama_cpp.llama_decode(context, batch) != 0:
            raise RuntimeError(said())
        rows.append([np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, i), (vocabulary,)).copy() for i in range(length)])
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    return np.array(rows)


def compared(entry, theirs):
    """Whether all holds, and the figures: by position the largest difference, as a part of the largest logit."""
    shape = theirs.shape
    read = lambda name: np.fromfile(f"{entry['place']}/{name}.f32", np.float32).reshape(shape)
    scale = np.abs(theirs).max()
    off = lambda ours: np.abs(ours - theirs).max(-1) / scale
    own, reopened, peer = read("own"), read("reopened"), off(read("peer"))
    if entry["table"]:
        measure, allowed = np.median, TABLE["median per layer"] * entry["layers"]
        right = np.median(peer) <= allowed and peer.max() <= TABLE["largest"]
    else:
        measure, allowed = np.max, 1e-5 if shape[1] <= 24 else 5e-5
        right = peer.max() <= allowed
    near = {key: measure(off(read(f"near-{key}"))) / allowed for key in entry["near"]}
    missed = [f"{key} ({times:.1f} times)" for key, times in near.items() if times < NOTICED]
    again = np.abs(own - reopened).max() / scale
    plain = off(own)[:, : entry["positions"]].max()
    figures = [f"{peer.max():.1e} of the largest logit" + (f" (median {np.median(peer):.1e}, with its own GELU {plain:.1e})" if entry["table"] else "")]
    if entry["why"]:
        figures.append(f"it has {entry['why']}: else {plain:.1e}, of {entry['positions']} of {shape[1]} positions")
    figures.append("reopened the same" if again == 0 else f"reopened {again:.1e}")
    figures.append(f"{entry['tensors']} tensors and {entry['settings']} settings back" if not entry["lost"] else f"not back: {entry['lost'][:3]}")
    nearest = min(near, key=near.get)
    figures.append(f"does not notice {missed}" if missed else f"a wrong {nearest} {near[nearest]:.0f} times what is allowed, {len(near)} tried")
    holds = bool(right) and again <= 2e-6 and not entry["lost"] and not missed
    return holds, figures, plain, peer.max()


with open(sys.argv[1]) as f:
    given = json.load(f)
folder = os.path.dirname(sys.argv[1])
print(f"       llama-cpp-python {llama_cpp.__version__}")
worst, cases = {}, {}
tokenized = False
for entry in given["cases"]:
    name, kind = entry["name"], entry["modelType"]
    if "refused" in entry:
        right = entry["said"].startswith("ConfigError") and entry["refused"] in entry["said"]
        check(f"{name}: refused", right, entry["said"].split(". ")[0].removeprefix("ConfigError: ").replace(f"{entry['place']}/hf: ", ""))
        cases.setdefault(kind, [0, 0])[1] += 1
        continue
    model = opened(f"{entry['place']}/model.gguf")
    if not model:
        check(name, False, f"llama.cpp refuses it: {said()}")
        continue
    ids = np.fromfile(f"{entry['place']}/ids.i32", np.int32).reshape(2, entry["length"])
    holds, figures, plain, peer = compared(entry, logits_of(model, ids, entry["vocabulary"]))
    check(name, holds, "; ".join(figures))
    asked = 0 if entry["why"] and entry["positions"] == entry["length"] else plain
    worst[kind] = np.maximum(worst.get(kind, 0), [asked, peer])
    cases.setdefault(kind, [0, 0])[0] += 1
    if not tokenized:
        vocabulary = llama_cpp.llama_model_get_vocab(model)
        differing = []
        for text, ids in zip(given["texts"], given["ids"]):
            data = text.encode()
            made = (llama_cpp.llama_token * (len(data) + 8))()
            count = llama_cpp.llama_tokenize(vocabulary, data, len(data), made, len(made), False, True)
            if list(made[:count]) != ids:
                differing.append(text[:60])
        check("its tokenizer", not differing, f"differs on {differing}" if differing else f"{sum(map(len, given['ids']))} ids the same")
        tokenized = True
    llama_cpp.llama_model_free(model)


def refusal(what, architecture, expected, **strings):
    """llama.cpp itself does not have what convert refuses: it ends at a file that says so."""
    file = os.path.join(folder, "refused.gguf")
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_context_length(24)
    writer.add_embedding_length(16)
    writer.add_block_count(2)
    writer.add_head_count(2)
    for key, value in strings.items():
        writer.add_string(f"{architecture}.{key.replace('__', '.')}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ran = subprocess.run([sys.executable, __file__, "--open", file], capture_output=True, text=True)
    answer = next((line.strip() for line in ran.stderr.splitlines() if expected in line), f"ended with {ran.returncode}, {ran.stderr.strip()[-200:]}")
    check(f"llama.cpp refuses {what}", ran.returncode != 0 and expected in ran.stderr, answer.split("/")[-1])


refusal("OPT", "opt", "unknown model architecture: 'opt'")
refusal("positions of type dynamic", "llama", "rope_scaling_type_train != LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED", rope__scaling__type="dynamic")
print("\n       | family | converted | refused | llama.cpp | with its own GELU and settings |\n       | --- | --- | --- | --- | --- |")
for kind, (count, refused) in sorted(cases.items()):
    figures = [f"{value:.0e}" for value in worst[kind]] if kind in worst else ["", ""]
    print(f"       | {' | '.join([kind, str(count), str(refused), *figures])} |")
finish()
