"""The committed fixtures made anew in a scratch folder and compared: scripts/test-parity.mjs runs this.

Other versions and other CPUs round sums in another order, so numbers may differ by 1e-5 of the largest of their list (text and ids by nothing). How far
PyTorch's own float32 was off is not compared: it is that rounding.
"""
import base64
import json
import math
import pathlib
import shutil
import subprocess
import sys

import numpy as np
from safetensors.torch import load_file

from report import check, finish

ALLOWED = 1e-5
NOTHING = 1e-7
UNCOMPARED = {"made_by", "made_with", "torch", "error", "errors"}
root, scratch = map(pathlib.Path, sys.argv[1:])


def largest(value):
    if isinstance(value, list):
        return max(map(largest, value), default=0.0)
    return abs(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def plain(key, value):
    """What is compared of a value: the numbers that fixtures hold as bytes of float32, and of answers that are no numbers only where they stand,
    since which of them PyTorch gives (inf or nan) depends on whether the CPU takes that item in a vector."""
    if key == "data" and isinstance(value, str):
        return np.frombuffer(base64.b64decode(value), np.float32).tolist()
    return [place for place, _ in value] if key == "special" else value


def difference(old, new, scale, where=""):
    """The largest difference of numbers in two JSON values, as a part of the largest of their list; raises when they differ in anything else."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        return max((difference(plain(k, old[k]), plain(k, new[k]), 0.0, f"{where}.{k}") for k in old if k not in UNCOMPARED), default=0.0)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        scale = scale or largest(old)
        return max((difference(a, b, scale, f"{where}[{i}]") for i, (a, b) in enumerate(zip(old, new))), default=0.0)
    if isinstance(old, float) and isinstance(new, int | float) and math.isfinite(old):
        return abs(old - new) / max(scale, 1e-3)
    if old != new:
        raise ValueError(f"{where}: {str(old)[:100]} became {str(new)[:100]}")
    return 0.0


def again(script, results, *arguments, stdout=None):
    """Runs a copy of a script at its place in the scratch folder and compares what it makes."""
    place = scratch / script
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / script, place)
    ran = subprocess.run([sys.executable, str(place), *map(str, arguments)], capture_output=True, text=True)
    if ran.returncode != 0:
        return check(script, False, ran.stderr.strip().splitlines()[-1])
    if stdout:
        (scratch / stdout).write_text(ran.stdout)
    try:
        worst = max(compare(result) for result in results)
    except ValueError as error:
        return check(script, False, str(error))
    check(script, worst <= ALLOWED, f"largest difference {worst:.1e}")


def compare(result):
    old, new = root / result, scratch / result
    if old.suffix == ".json":
        return difference(json.loads(old.read_text()), json.loads(new.read_text()), 0.0)
    (a, b) = (load_file(old), load_file(new))
    if a.keys() != b.keys():
        raise ValueError(f"{result}: other tensors")
    sizes = {k: a[k].double().abs().max().item() for k in a}
    whole = max(size for k, size in sizes.items() if a[k].is_floating_point())
    # Softmax takes a bias of keys away: its gradient is 0 but for rounding, which is as large as that of the gradients it is summed from.
    scale = {k: size if size > NOTHING * whole else whole for k, size in sizes.items()}
    return max(((a[k].double() - b[k].double()).abs().max() / max(scale[k], 1e-3)).item() for k in a)


again("src/optim/optim.fixture.py", ["src/optim/optim.fixture.json"])
again("src/tensor/autocast.fixture.py", ["src/tensor/autocast.fixture.json"])
again("src/generate/samplers.fixture.py", ["src/generate/samplers.fixture.json"], stdout="src/generate/samplers.fixture.json")
again("src/tokenizers/fixtures/make_fixtures.py", ["src/tokenizers/fixtures/reference.json"])
folders = sorted(path.name for path in (root / "tests/fixtures/models").iterdir())
for name in folders:
    (scratch / "tests/fixtures/models" / name).mkdir(parents=True)
again("tests/parity/make_models.py", [f"tests/fixtures/models/{n}/{file}.safetensors" for n in folders for file in ("model", "reference")])
torch = "tests/fixtures/ops/torch.json"
(scratch / torch).parent.mkdir(parents=True)
again("tests/fixtures/ops/make.py", [torch], scratch / "samples.json", scratch / torch)
finish()
