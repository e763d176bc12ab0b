"""Combining a round: the defined bits, in any order, slab, thread or place, on any instruction set."""

import os
import subprocess
import sys
import tracemalloc
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from aggregation_examples import SCHEMA, make_round
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregation import combine as combine_module
from aggregation.checkpoints import apply_difference
from aggregation.combine import Combined, Outputs, Used, combine, combine_into
from aggregation.rules import rule
from aggregation.settings import CombineSettings
from aggregation.tensors.exact_sum import WEIGHT_MAX
from aggregation.tensors.schema import Schema, TensorSpec
from aggregation.tensors.sources import FileSink
from aggregation.updates import Update, update_of


def _float_of(spec: TensorSpec, array: np.ndarray) -> np.ndarray:
    wide = (array.astype("<u4") << 16).view("<f4") if spec.dtype == "bfloat16" else array
    return np.asarray(wide, np.float64)


# --- the definition ------------------------------------------------------------------------------------------------


def _twin_mean(values: list[list[float]], weights: list[int], starts: list[int]) -> tuple[list[np.float32], list[int]]:
    """The mean rule in Python's integers, element by element. `starts`: where tensors begin, and the end."""
    means, exponents = [], []
    for low, high in pairwise(starts):
        bits = []
        for vector, weight in zip(values, weights, strict=True):
            greatest = max(map(abs, vector[low:high]), default=0.0)
            bits.append(weight.bit_length() + (int(np.frexp(greatest)[1]) if greatest else -149))
        exponent = min(49 - max(bits), 120)
        exponents.append(exponent)
        for place in range(low, high):
            unit = Fraction(2) ** exponent
            terms = (w * round(Fraction(vector[place]) * unit) for vector, w in zip(values, weights, strict=True))
            means.append(np.float32(np.ldexp(float(sum(terms)) / sum(weights), -exponent)))
    return means, exponents


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_bit_is_that_of_the_definition(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    length, count = sum(sizes), data.draw(st.integers(1, 20))
    number = st.floats(-(2.0**40), 2.0**40, width=32)
    vector = st.lists(number, min_size=length, max_size=length)
    base = np.array(data.draw(vector), np.float32)
    values = [data.draw(vector) for _ in range(count)]
    samples = data.draw(st.lists(st.integers(1, 2 * WEIGHT_MAX), min_size=count, max_size=count))
    schema = Schema.of(TensorSpec(f"t{i}", "float32", (size,), "averaged") for i, size in enumerate(sizes))
    updates = [
        update_of(f"node-{i}", np.array(v, "<f4").tobytes(), s)
        for i, (v, s) in enumerate(zip(values, samples, strict=True))
    ]

    combined = combine(base.tobytes(), schema, updates, CombineSettings())

    weights = [min(s, WEIGHT_MAX) for s in samples]
    starts = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    means, exponents = _twin_mean(values, weights, starts)
    assert combined.exponents == tuple(exponents)
    assert combined.difference == np.array(means, "<f4").tobytes()
    assert combined.model == (base + np.array(means, np.float32)).tobytes()
    assert sorted(used.weight for used in combined.used) == sorted(weights)


def test_the_bits_of_a_small_round_are_these() -> None:
    schema = Schema.of_arrays({"w": np.zeros(4, np.float32), "n": np.array(0)})
    base = schema.raw_of({"w": np.array([1, -2, 0.1, 3e-5], np.float32), "n": np.array(7)})
    vectors = [[0.1, 0.2, -0.3, 1e-9], [0.7, 0.0, 1e-4, 2e-9], [-0.4, 1 / 3, 0.5, -3e-7]]
    updates = [
        update_of(f"node-{i}", np.array(v, "<f4").tobytes() + np.int64(9 + i).tobytes(), 100 * i + 50)
        for i, v in enumerate(vectors)
    ]
    run = CombineSettings(server_optimizer="momentum", server_learning_rate=0.5, checkpoint_codec="bf16")
    first = combine(base, schema, updates, run)
    second = combine(first.model, schema, updates[:2], run, first.server_state)
    assert first.exponents == (41,)
    assert first.difference.hex() == "363cd43dfa3db2b30b00000000000000"
    assert first.model.hex() == "006c813f00c0f2bf6666633e82f6fa370b00000000000000"
    assert first.server_state.hex() == "5d0bb63c9c62543e62587a3e321f32b4"
    assert second.difference.hex() == "923ef23d953d9eb30b00000000000000"
    assert second.model.hex() == "00eca53f00a0e3bf33f3963e8258fa370b00000000000000"
    assert second.server_state.hex() == "85eb113fbf58723e6796143e3e6e1eb4"


def test_a_dumb_average_agrees() -> None:
    base, updates = make_round(SCHEMA, 12)
    combined = combine(base, SCHEMA, updates, CombineSettings())
    views, after = SCHEMA.views(base), SCHEMA.views(combined.model)
    weights = [update.samples for update in updates]
    vectors = [
        np.frombuffer(update.source.view(0, 4 * SCHEMA.averaged_elements, memoryview(b"")), "<f4") for update in updates
    ]
    mean = np.average(np.array(vectors, np.float64), axis=0, weights=weights)
    start = 0
    for spec in SCHEMA.averaged:
        expected = _float_of(spec, views[spec.name]).ravel() + mean[start : start + spec.elements]
        error = {"float16": 1e-3, "bfloat16": 1e-2}.get(spec.dtype, 1e-6)
        assert np.allclose(_float_of(spec, after[spec.name]).ravel(), expected, rtol=error, atol=error), spec.name
        start += spec.elements


def test_uniform_weights_make_every_voice_equal() -> None:
    schema = Schema.of_arrays({"w": np.zeros(1, np.float32)})
    updates = [update_of(name, np.float32(value).tobytes(), s) for name, value, s in [("a", 1, 1), ("b", 4, 10**6)]]
    uniform = combine(bytes(4), schema, updates, CombineSettings(weighting="uniform"))
    assert np.frombuffer(uniform.model, "<f4")[0] == 2.5
    assert uniform.used == (Used("a", 1, None), Used("b", 1, None))
    weighted = combine(bytes(4), schema, updates, CombineSettings())
    assert weighted.used == (Used("a", 1, None), Used("b", WEIGHT_MAX, None))  # the cap on what a claim can weigh


# --- what must not change a bit ------------------------------------------------------------------------------------

RICH = CombineSettings(
    update_codec="bf16",
    checkpoint_codec="bf16",
    server_optimizer="momentum",
    server_learning_rate=0.7,
    norm_bound=100.0,
)


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(20)), st.integers(0, 5))
def test_order_and_threads_change_no_bit(order: list[int], threads: int) -> None:
    base, updates = make_round(SCHEMA, 20, codec="bf16")
    state = combine(base, SCHEMA, updates[:3], RICH).server_state
    expected = combine(base, SCHEMA, updates, RICH, state)
    assert combine(base, SCHEMA, [updates[i] for i in order], RICH, state, threads) == expected


LARGE = Schema.of_arrays(
    {"a": np.zeros(70_000, np.float32), "b": np.zeros(90_001, np.float32), "n": np.zeros(3, np.int16)}
)


@pytest.mark.parametrize("slab_elements", [4096, 32_768])
def test_slabs_change_no_bit(slab_elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    base, updates = make_round(LARGE, 5, codec="bf16")
    expected = combine(base, LARGE, updates, RICH)
    monkeypatch.setattr(rule.Plan, "slab_elements", slab_elements)
    assert combine(base, LARGE, updates, RICH, threads=3) == expected


def test_files_and_bytes_give_the_same(tmp_path: Path) -> None:
    base, updates = make_round(LARGE, 5, codec="bf16")
    state = combine(base, LARGE, updates[:3], RICH).server_state
    expected = combine(base, LARGE, updates, RICH, state)
    (tmp_path / "base").write_bytes(base)
    (tmp_path / "old-state").write_bytes(state)
    spooled = []
    for update in updates:
        path = tmp_path / update.name
        path.write_bytes(update.source.view(0, update.source.size, memoryview(b"")))
        spooled.append(update_of(update.name, path, update.samples))
    paths = [tmp_path / name for name in ("model", "difference", "state")]
    sinks = [FileSink(path) for path in paths]
    outcome = combine_into(Outputs(*sinks), tmp_path / "base", LARGE, spooled, RICH, tmp_path / "old-state", threads=2)
    for sink in sinks:
        sink.close()
    assert [path.read_bytes() for path in paths] == [expected.model, expected.difference, expected.server_state]
    assert (outcome.used, outcome.refused, outcome.stats) == (expected.used, expected.refused, expected.stats)
    assert apply_difference(tmp_path / "base", LARGE, tmp_path / "difference", "bf16") == expected.model


def test_bytes_within_a_larger_message_give_the_same() -> None:
    base, updates = make_round(SCHEMA, 3)
    askew = [
        update_of(u.name, memoryview(b"x" + u.source.view(0, u.source.size, memoryview(b"")))[1:], u.samples)
        for u in updates
    ]
    expected = combine(base, SCHEMA, updates, CombineSettings())
    assert combine(memoryview(b"x" + base)[1:], SCHEMA, askew, CombineSettings()) == expected


def test_findings_of_an_earlier_check_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    base, updates = make_round(LARGE, 4, codec="bf16")
    expected = combine(base, LARGE, updates, RICH)
    found = {}
    real = combine_module.check_update

    def remember(schema, codec, bounds, update):
        found[update.name] = real(schema, codec, bounds, update)
        return found[update.name]

    monkeypatch.setattr(combine_module, "check_update", remember)
    combine(base, LARGE, updates, RICH)
    remembered = [Update(u.name, u.source, u.samples, found[u.name]) for u in updates]
    assert combine(base, LARGE, remembered, RICH) == expected


def test_memory_does_not_grow_with_the_number_of_updates(tmp_path: Path) -> None:
    schema = Schema.of_arrays({"w": np.zeros(6_000_000, np.float32)})
    for name in ("base", "update"):
        (tmp_path / name).write_bytes(bytes(schema.model_bytes))
    updates = [update_of(f"node-{i}", tmp_path / "update", 10) for i in range(8)]
    sinks = [FileSink(tmp_path / name) for name in ("model", "difference", "state")]
    settings = CombineSettings(server_optimizer="momentum")
    tracemalloc.start()
    try:
        combine_into(Outputs(*sinks), tmp_path / "base", schema, updates, settings)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        for sink in sinks:
            sink.close()
    assert peak < schema.model_bytes  # not even one model, of nine that are read


def test_combining_needs_no_torch() -> None:
    code = "import sys, aggregation.combine, aggregation.tensors.safetensors_file; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_an_outcome_is_plain_data() -> None:
    base, updates = make_round(SCHEMA, 3)
    combined = combine(base, SCHEMA, updates, CombineSettings())
    assert isinstance(combined, Combined)
    assert combined.stats["samples"] == sum(update.samples for update in updates) == combined.stats["weight"]
    assert set(map(type, combined.stats.values())) <= {int, float}


_HASH_A_ROUND = """
import numpy as np
from blake3 import blake3
from aggregation.codecs.registry import codec_named
from aggregation.combine import combine
from aggregation.measuring import Measuring
from aggregation.rules.registry import RULES
from aggregation.tensors.schema import Schema
from aggregation.settings import CombineSettings
from aggregation.updates import update_of

random = np.random.default_rng(11)
vectors = random.integers(-(2**31), 2**31, (20, 80_000)) * 2.0 ** random.integers(-90, -30, (20, 1))
vectors = vectors.astype(np.float32)
schema = Schema.of_arrays({"a": np.zeros(70_001, np.float32), "b": np.zeros(9_999, np.float64)})
run = CombineSettings(server_optimizer="momentum", server_learning_rate=0.3, checkpoint_codec="bf16", norm_bound=1e9)
updates = [update_of(f"{i:02}", vector.tobytes(), 77 * i + 1) for i, vector in enumerate(vectors)]
base = schema.raw_of({"a": vectors[0, :70_001], "b": vectors[1, :9_999].astype(np.float64)})
combined = combine(base, schema, updates, run)
combined = combine(combined.model, schema, updates[:7], run, combined.server_state, threads=2)
measuring = Measuring(schema, codec_named("fp32"), with_norm=True)
measuring.take(vectors[3])
print(blake3(combined.model + combined.difference + combined.server_state).hexdigest(), measuring.norm_squared)
for rule in RULES:
    for change in ({}, {"clip": "median", "mix_share": 0.2, "screen_factor": 1e3}):
        made = combine(base, schema, updates, CombineSettings(rule, "uniform", **change))
        print(rule, blake3(made.difference).hexdigest(), made.used, made.exponents)
"""


def test_other_instruction_sets_and_blas_kernels_give_the_same_bits() -> None:
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__  # type: ignore[attr-defined]

    plain = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": os.environ["PATH"]}
    without = " ".join(feature for feature in __cpu_dispatch__ if __cpu_features__.get(feature))
    outputs = [
        subprocess.run(
            [sys.executable, "-c", _HASH_A_ROUND], env={**plain, **change}, capture_output=True, check=True
        ).stdout
        for change in (
            {},
            {"NPY_DISABLE_CPU_FEATURES": without},
            {"OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_NUM_THREADS": "1"},
        )
    ]
    assert outputs[0] == outputs[1] == outputs[2]
    assert len(outputs[0]) > 64
