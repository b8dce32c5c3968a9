"""The job of `npm run bench -- eager` in PyTorch: python eager_torch.py [add8|add8-grad]. Nanoseconds a call; ends with one JSON line."""
import argparse, json, resource, time

import torch

ap = argparse.ArgumentParser()
ap.add_argument("setting", nargs="?", default="add8", choices=["add8", "add8-grad"])
setting = ap.parse_args().setting
with_graph = setting == "add8-grad"
a, b, g = torch.randn(8, requires_grad=with_graph), torch.randn(8), torch.ones(8)


def plain():
    for _ in range(100):
        a + b


def graph():
    for _ in range(100):
        (a + b).backward(g)
        a.grad = None


step = graph if with_graph else plain
calls = 20_000 if not with_graph else 2_000
times = []
for i in range(30):
    start = time.perf_counter_ns()
    for _ in range(calls // 100):
        step()
    if i >= 5:
        times.append((time.perf_counter_ns() - start) / calls)
times.sort()
print(json.dumps({"name": "eager", "setting": setting, "median": times[len(times) // 2], "best": times[0], "unit": "ns", "peakRssBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "torch": torch.__version__}))
