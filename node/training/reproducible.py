"""The same bits again: seeds derived from names, and the generators, threads and switches that training depends on.

Python's, numpy's and torch's generators are seeded and afterwards put back, so that a simulation which trains in its
own process draws on undisturbed.
"""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np


def derived_seed(*names: object) -> int:
    """63 bits that depend on `names` alone."""
    text = "\0".join(map(str, names)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little") >> 1


@contextmanager
def reproducible(seed: int, threads: int) -> Iterator[None]:
    """Within, all draws follow from `seed`, and torch computes deterministically on `threads` threads."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed & 0xFFFF_FFFF)
    try:
        torch = sys.modules.get("torch")  # a task that does without torch does not pay for it
        if torch is None:
            yield
        else:
            with _torch_reproducible(torch, seed, threads):
                yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextmanager
def _torch_reproducible(torch: Any, seed: int, threads: int) -> Iterator[None]:
    state, threads_before = torch.get_rng_state(), torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    _seed_torch(torch, seed)
    torch.set_num_threads(threads)
    _set_deterministic(torch, True, warn_only=True)  # what has no such algorithm is better run than refused
    try:
        yield
    finally:
        torch.set_rng_state(state)
        torch.set_num_threads(threads_before)
        _set_deterministic(torch, deterministic, warn_only=warn_only)


def _seed_torch(torch: Any, seed: int) -> None:
    """What torch.manual_seed does, which for accelerators that are not there keeps a whole traceback at every call."""
    accelerator = getattr(torch, "accelerator", None)  # since torch 2.6
    if accelerator is None or accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def _set_deterministic(torch: Any, on: bool, *, warn_only: bool) -> None:
    """What torch.use_deterministic_algorithms does, without importing torch._inductor, which costs 0.8 CPU seconds."""
    torch._C._set_deterministic_algorithms(on, warn_only=warn_only)
