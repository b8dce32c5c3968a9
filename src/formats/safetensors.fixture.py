"""Makes the bytes whose SHA-256 safetensors.test.ts holds. Run with safetensors 0.8.0, numpy 2, ml_dtypes 0.6."""
import hashlib

import ml_dtypes
import numpy as np
from safetensors.numpy import save

dtypes = ["bool", "uint8", "int8", "float16", ml_dtypes.bfloat16, "int32", "float32", "float64", "int64"]
tensors = {f"t{i}": np.arange(2).astype(dtype) for i, dtype in enumerate(dtypes)}
tensors["\U0001f600"] = np.array(3, "float32")
tensors["\uffee"] = np.zeros((0, 3), "float32")
for name in ['q"\u2028\x01\x7f\n', "10", "9"]:
    tensors[name] = np.ones(1, "float32")
data = save(tensors, {"format": "pt"})
print(len(data), hashlib.sha256(data).hexdigest())
