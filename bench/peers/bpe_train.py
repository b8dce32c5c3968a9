"""The job of `npm run bench -- bpe-train` in rustbpe or Hugging Face tokenizers, on the same text:
python bpe_train.py rustbpe|hf --text FILE [--setting 8k|32k] [--threads 2]. Ends with one JSON line."""
import argparse, importlib.metadata, json, os, resource, time

ap = argparse.ArgumentParser()
ap.add_argument("library", choices=["rustbpe", "hf"])
ap.add_argument("--text", required=True)
ap.add_argument("--setting", default="8k", choices=["8k", "32k"])
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--rounds", type=int, default=5)
args = ap.parse_args()
os.environ["RAYON_NUM_THREADS"] = str(args.threads)
os.environ["TOKENIZERS_PARALLELISM"] = "true"

size = {"8k": 8192, "32k": 32_768}[args.setting]
GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
with open(args.text, encoding="utf8", newline="") as file:
    text = file.read()
documents = [text[at : at + 10_000] for at in range(0, len(text), 10_000)]


def rustbpe():
    import rustbpe

    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(iter(documents), size, pattern=GPT2)
    return tokenizer.vocab_size


def hf():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(documents, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False))
    return tokenizer.get_vocab_size()


train = {"rustbpe": rustbpe, "hf": hf}[args.library]
seconds = []
for _ in range(args.rounds):
    start = time.perf_counter()
    made = train()
    seconds.append(time.perf_counter() - start)
seconds.sort()
version = importlib.metadata.version({"rustbpe": "rustbpe", "hf": "tokenizers"}[args.library])
rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"name": "bpe-train", "setting": args.setting, "median": round(seconds[len(seconds) // 2], 4), "best": round(seconds[0], 4), "unit": "s", "peakRssBytes": rss, "vocabSize": made, args.library: version}))
