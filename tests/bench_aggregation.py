"""Figures of the aggregation room, for the benchmark runner: `figures()` measures them in about a minute.

add_vs_copy                 bytes per CPU second of an aggregator's whole add (hash of every chunk, checks, exact sum)
                            against a copy of the same float32 bytes; with_norm: the norm is computed too
aggregator_bytes_per_param  peak resident memory of combining 50 updates of 100 MB in files, over the same process
                            before it, per parameter: of the rule that takes most. _RULE: of one rule; _in_memory: the
                            mean with base and results held as bytes, as small runs do
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from blake3 import blake3

from aggregation.codecs.registry import codec_named
from aggregation.combine import Outputs, combine, combine_into, output_sizes
from aggregation.rules.registry import make_rule
from aggregation.rules.rule import Candidate, Slab
from aggregation.rules.sums import SET_ASIDE
from aggregation.settings import CombineSettings
from aggregation.tensors.flat import FlatLayout
from aggregation.tensors.schema import Schema, TensorSpec
from aggregation.tensors.sources import FileSink
from aggregation.updates import Bounds, Checked, Update, check_update, update_of
from protocol.limits import CHUNK_BYTES

ADD_UPDATES = 32
ADD_PARAMETERS = 3_000_000  # 12 MB an update, all together far beyond the caches
REPEATS = 5
MEMORY_UPDATES = 50
MEMORY_PARAMETERS = 25_000_000
MEMORY_DEADLINE_S = 300.0
MEMORY_RULES = ("mean", "median", "multi_krum")  # one that sums, one that sorts, one with a Gram matrix


def figures() -> dict[str, float]:
    return {**add_figures(), **memory_figures()}


def add_figures() -> dict[str, float]:
    schema = layers(ADD_PARAMETERS)
    random = np.random.default_rng(1)
    vectors = [(random.standard_normal(ADD_PARAMETERS) * 1e-3).astype(np.float32) for _ in range(ADD_UPDATES)]
    updates = [update_of(f"node-{index}", vector.data.cast("B"), 1000 + index) for index, vector in enumerate(vectors)]
    targets = [np.zeros_like(vector) for vector in vectors]
    copying = _best_cpu_s(lambda: [np.copyto(target, vector) for target, vector in zip(targets, vectors, strict=True)])
    plain = _best_cpu_s(lambda: _add(schema, updates, Bounds({})))
    normed = _best_cpu_s(lambda: _add(schema, updates, Bounds({}, norm=1e6)))
    return {"add_vs_copy": copying / plain, "add_vs_copy_with_norm": copying / normed}


def memory_figures() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        block = (np.random.default_rng(2).standard_normal(1_000_000) * 1e-3).astype(np.float32).tobytes()
        for name in ("base", "update"):
            Path(folder, name).write_bytes(block * (MEMORY_PARAMETERS // 1_000_000))
        rules = {rule: _peak_of_child(Path(folder), "files", rule) / MEMORY_PARAMETERS for rule in MEMORY_RULES}
        in_memory = _peak_of_child(Path(folder), "memory", "mean") / MEMORY_PARAMETERS
    return {
        "aggregator_bytes_per_param": max(rules.values()),
        **{f"aggregator_bytes_per_param_{rule}": peak for rule, peak in rules.items()},
        "aggregator_bytes_per_param_in_memory": in_memory,
    }


class _Slabs:
    """Rows over vectors in memory, as an aggregator reads its spool."""

    def __init__(self, updates: list[Update], slab: Slab) -> None:
        self._updates = updates
        self._slab = slab
        self._scratch = memoryview(bytearray(4))

    def __len__(self) -> int:
        return len(self._updates)

    def read(self, index: int, out: "np.ndarray[tuple[int], np.dtype[np.float32]]") -> "np.ndarray":
        view = self._updates[index].source.view(4 * self._slab.start, 4 * len(out), self._scratch)
        return codec_named("fp32").decode(view, out)


def _add(schema: Schema, updates: list[Update], bounds: Bounds) -> None:
    candidates = []
    for update in updates:
        whole = update.source.view(0, update.source.size, memoryview(b""))
        for start in range(0, len(whole), CHUNK_BYTES):
            blake3(whole[start : start + CHUNK_BYTES]).digest()
        checked = check_update(schema, codec_named("fp32"), bounds, update)
        assert isinstance(checked, Checked)
        candidates.append(Candidate(update.name, update.samples, checked))
    layout = FlatLayout.of(schema)
    plan = make_rule("mean", "samples", {}).plan(layout, candidates, None)  # type: ignore[arg-type]
    combine_slab = plan.combiner()
    out = np.empty(plan.slab_elements, np.float32)
    for start, stop in layout.slabs(plan.slab_elements):
        combine_slab(Slab(start, stop), _Slabs(updates, Slab(start, stop)), out[: stop - start])


def _best_cpu_s(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def layers(parameters: int) -> Schema:
    """A model of some layers of uneven sizes."""
    rows = [parameters // 2, parameters // 4, parameters // 8, 1000]
    rows.append(parameters - sum(rows))
    specs = [TensorSpec(f"layer{index}.weight", "float32", (size,), "averaged") for index, size in enumerate(rows)]
    return Schema.of(specs)


def _peak_of_child(folder: Path, way: str, rule: str) -> float:
    """How much the peak of a fresh process grows while it combines."""
    command = [sys.executable, str(Path(__file__).resolve()), way, rule, str(folder)]
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, check=True, timeout=MEMORY_DEADLINE_S, env=environment)
    return float(json.loads(done.stdout)["bytes"])


def _resident_peak_bytes() -> int:
    # Unlike getrusage's figure, this one does not begin with the parent's peak.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not tell a process's peak memory")


def _child(way: str, rule: str, folder: Path) -> None:
    schema = layers(MEMORY_PARAMETERS)
    base, update = folder / "base", folder / "update"
    settings = CombineSettings(rule=rule, server_optimizer="momentum")
    # One file serves as every update: what counts is that each is read as if it were another.
    updates = [update_of(f"node-{index}", update, 100) for index in range(MEMORY_UPDATES)]
    combine(b"\0\0\0\0", _layers_of_one(), [], settings)  # numpy and its BLAS have made their room
    before = _resident_peak_bytes()
    if way == "files":
        with tempfile.TemporaryDirectory(dir=folder) as made:
            files = [Path(made, name) for name in ("model", "difference", "state")]
            outcome = combine_into(Outputs(*map(FileSink, files)), base, schema, updates, settings)
            assert outcome.used
            assert {refusal.code for refusal in outcome.refused} <= {SET_ASIDE}
            assert [file.stat().st_size for file in files] == list(output_sizes(schema, settings))
    else:
        combine(base.read_bytes(), schema, updates, settings)
    print(json.dumps({"bytes": _resident_peak_bytes() - before}))


def _layers_of_one() -> Schema:
    return Schema.of([TensorSpec("weight", "float32", (1,), "averaged")])


if __name__ == "__main__":
    if len(sys.argv) == 4:
        _child(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    else:
        print(json.dumps(figures(), indent=1))
