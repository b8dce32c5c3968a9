"""The job of `npm run bench -- tokenizers` in Hugging Face tokenizers or, for a .model file, sentencepiece:
python encode_tokenizer_file.py --text FILE --tokenizer tokenizer.json|FILE.model [--threads 2]. Ends with one JSON line."""
import argparse, json, os, resource, time

ap = argparse.ArgumentParser()
ap.add_argument("--text", required=True)
ap.add_argument("--tokenizer", required=True)
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--rounds", type=int, default=3)
args = ap.parse_args()
os.environ["RAYON_NUM_THREADS"] = str(args.threads)
os.environ["TOKENIZERS_PARALLELISM"] = "true"

with open(args.text, encoding="utf8", newline="") as file:
    text = file.read()
documents = [text[at : at + 10_000] for at in range(0, len(text), 10_000)]
megabytes = len(text.encode()) / 1e6

if args.tokenizer.endswith(".model"):
    import sentencepiece as library

    start = time.perf_counter()
    processor = library.SentencePieceProcessor(model_file=args.tokenizer)
    processor.encode("The first text of a fresh process.")
    load = time.perf_counter() - start
    job = lambda: sum(map(len, processor.encode(documents, num_threads=args.threads)))
else:
    import tokenizers as library

    start = time.perf_counter()
    tokenizer = library.Tokenizer.from_file(args.tokenizer)
    tokenizer.encode("The first text of a fresh process.")
    load = time.perf_counter() - start
    tokenizer.no_truncation()
    tokenizer.no_padding()
    job = lambda: sum(len(encoded.ids) for encoded in tokenizer.encode_batch_fast(documents, add_special_tokens=False))

ids = job()
rates = []
for _ in range(args.rounds):
    start = time.perf_counter()
    job()
    rates.append(megabytes / (time.perf_counter() - start))
rates.sort()
rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"name": "tokenizers", "setting": str(args.threads), "median": round(rates[len(rates) // 2], 2), "best": round(rates[-1], 2), "unit": "MB/s", "peakRssBytes": rss, "ids": ids, "loadMilliseconds": round(load * 1000, 1), "library": library.__version__}))
