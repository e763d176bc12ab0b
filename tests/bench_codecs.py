"""Figures of the codecs, for the benchmark runner: `figures()` measures them in some ten seconds.

Of each codec: its ratio to float32 in bytes, the relative L2 error over a heavy-tailed difference (Student's t with
four degrees of freedom), and how fast slabs are coded and decoded, as a ratio to copying the same float32 values from
memory to memory. fp32 decodes to a view of the bytes, which costs nothing.
"""

import json
import time
from collections.abc import Callable

import numpy as np

from aggregation.codecs.codec import Codec
from aggregation.codecs.registry import CODECS
from aggregation.tensors.flat import F32, SLAB_ELEMENTS

ELEMENTS = 32_000_000  # 128 MB: beyond the caches, as a large model's difference is
REPEATS = 3


def figures() -> dict[str, float]:
    values = (np.random.default_rng(1).standard_t(4, ELEMENTS) * 1e-3).astype(np.float32)
    target = np.zeros_like(values)
    copying = best_cpu_s(lambda: np.copyto(target, values))
    found = {}
    for name, codec in CODECS.items():
        found |= {f"codec_{name}_{figure}": value for figure, value in _measured(codec, values, copying).items()}
    return found


def _measured(codec: Codec, values: F32, copying: float) -> dict[str, float]:
    slabs = [values[start : start + SLAB_ELEMENTS] for start in range(0, len(values), SLAB_ELEMENTS)]
    encoding = best_cpu_s(lambda: [codec.encode(slab) and None for slab in slabs])
    coded = [codec.encode(slab) for slab in slabs]
    room = np.empty(SLAB_ELEMENTS, np.float32)
    pairs = list(zip(coded, slabs, strict=True))
    decoding = best_cpu_s(lambda: [codec.decode(code, room[: len(slab)]) is None for code, slab in pairs])
    lost = whole = 0.0
    for code, slab in pairs:
        difference = codec.decode(code, room[: len(slab)]).astype(np.float64) - slab
        lost, whole = lost + float(difference @ difference), whole + float(slab.astype(np.float64) @ slab)
    return {
        "ratio": values.nbytes / sum(map(len, coded)),
        "encode_vs_copy": copying / encoding,
        "decode_vs_copy": copying / decoding,
        "error": (lost / whole) ** 0.5,
    }


def best_cpu_s(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return max(min(times), 1e-6)


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
