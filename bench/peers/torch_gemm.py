"""The job of `npm run bench -- gemm` in PyTorch: python torch_gemm.py MxNxK [--precision medium] [--threads 2]. x (M, K) times the transpose of w (N, K). Ends with one JSON line."""
import argparse, json, os, resource, time

ap = argparse.ArgumentParser()
ap.add_argument("setting")
ap.add_argument("--precision", default="highest")
ap.add_argument("--threads", type=int, default=2)
args = ap.parse_args()
os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))
import torch

torch.set_num_threads(args.threads)
torch.set_float32_matmul_precision(args.precision)
m, n, k = map(int, args.setting.split("x"))
x, w = torch.randn(m, k), torch.randn(n, k)
out = torch.empty(m, n)
flop = 2 * m * n * k
repeat = max(1, min(400, int(2e9 / flop)))
rates = []
for i in range(11):
    start = time.perf_counter()
    for _ in range(repeat):
        torch.mm(x, w.t(), out=out)
    if i >= 2:
        rates.append(flop * repeat / (time.perf_counter() - start) / 1e9)
rates.sort()
print(json.dumps({"name": "gemm", "setting": args.setting, "median": rates[len(rates) // 2], "best": rates[-1], "unit": "GFLOP/s", "peakRssBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "torch": torch.__version__}))
