"""Combining a round: the defined bits in any order, slab, thread or place, and no update can stop or poison it."""

import subprocess
import sys
import tracemalloc
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregation import combine as combine_module
from aggregation import flat, rules
from aggregation.checkpoints import apply_difference, check_model
from aggregation.codecs import codec_named, difference_bytes
from aggregation.combine import Combined, Outputs, Used, combine, combine_into, output_sizes
from aggregation.exact_sum import TERMS_MAX, WEIGHT_MAX
from aggregation.schema import ELEMENT_TYPES, Schema, TensorSpec
from aggregation.settings import CombineSettings
from aggregation.sources import FileSink
from aggregation.updates import Update, encode_update, update_of
from protocol.errors import FednodeError, RemoteProtocolError

Named = dict[str, np.ndarray]


def _model(random: np.random.Generator, schema: Schema, scale: float = 1.0) -> bytes:
    """Random values for every tensor; bfloat16 from the upper half of a float32."""
    arrays: Named = {}
    for spec in schema.tensors:
        values = random.standard_normal(spec.shape) * scale
        if spec.dtype == "bfloat16":
            arrays[spec.name] = np.asarray(np.asarray(values, "<f4").view("<u4") >> 16).astype("<u2")
        elif spec.dtype.startswith("float"):
            arrays[spec.name] = np.asarray(values).astype(spec.numpy_dtype)
        else:
            arrays[spec.name] = random.integers(0, 2, spec.shape).astype(spec.numpy_dtype)
    return schema.raw_of(arrays)


def _float_of(spec: TensorSpec, array: np.ndarray) -> np.ndarray:
    wide = (array.astype("<u4") << 16).view("<f4") if spec.dtype == "bfloat16" else array
    return np.asarray(wide, np.float64)


def _round(
    schema: Schema, count: int, *, codec: str = "fp32", seed: int = 1, scale: float = 0.01
) -> tuple[bytes, list[Update]]:
    random = np.random.default_rng(seed)
    base = _model(random, schema)
    updates = []
    for index in range(count):
        moved = schema.views(bytearray(base))
        for spec in (*schema.averaged, *schema.counters):
            if spec.kind == "counter":
                moved[spec.name] = (moved[spec.name] + random.integers(0, 3)).astype(spec.numpy_dtype)
            elif spec.dtype != "bfloat16":
                step = random.standard_normal(spec.shape) * scale
                moved[spec.name] = np.asarray(moved[spec.name] + step).astype(spec.numpy_dtype)
        blob = encode_update(schema, base, schema.raw_of(moved), codec_named(codec))
        updates.append(update_of(f"node-{index:02}", blob, int(random.integers(1, 500))))
    return base, updates


SCHEMA = Schema.of(
    [
        TensorSpec("embed", "float32", (300, 7), "averaged"),
        TensorSpec("scale", "float64", (), "averaged"),
        TensorSpec("half", "float16", (5, 2), "averaged"),
        TensorSpec("brain", "bfloat16", (9,), "averaged"),
        TensorSpec("none", "float32", (0,), "averaged"),
        TensorSpec("seen", "int64", (), "counter"),
        TensorSpec("ids", "int32", (4,), "counter"),
        TensorSpec("mask", "bool", (3,), "frozen"),
        TensorSpec("table", "float32", (2, 2), "frozen"),
        TensorSpec("mine", "float32", (4,), "local"),
    ]
)


# --- the definition ------------------------------------------------------------------------------------------------


def _twin_mean(values: list[list[float]], weights: list[int], starts: list[int]) -> tuple[list[np.float32], list[int]]:
    """The mean rule in Python's integers, element by element. `starts`: where tensors begin, and the end."""
    means, exponents = [], []
    for low, high in pairwise(starts):
        greatest = max((abs(v) for vector in values for v in vector[low:high]), default=0.0)
        bound = int(np.frexp(greatest)[1]) if greatest else -149
        exponent = min(49 - max(weights).bit_length() - bound, 120)
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
    base, updates = _round(SCHEMA, 12)
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
    base, updates = _round(SCHEMA, 20, codec="bf16")
    state = combine(base, SCHEMA, updates[:3], RICH).server_state
    expected = combine(base, SCHEMA, updates, RICH, state)
    assert combine(base, SCHEMA, [updates[i] for i in order], RICH, state, threads) == expected


LARGE = Schema.of_arrays(
    {"a": np.zeros(70_000, np.float32), "b": np.zeros(90_001, np.float32), "n": np.zeros(3, np.int16)}
)


@pytest.mark.parametrize("slab_elements", [4096, 32_768])
def test_slabs_change_no_bit(slab_elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    base, updates = _round(LARGE, 5, codec="bf16")
    expected = combine(base, LARGE, updates, RICH)
    monkeypatch.setattr(rules.Plan, "slab_elements", slab_elements)
    assert combine(base, LARGE, updates, RICH, threads=3) == expected


def test_files_and_bytes_give_the_same(tmp_path: Path) -> None:
    base, updates = _round(LARGE, 5, codec="bf16")
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
    base, updates = _round(SCHEMA, 3)
    askew = [
        update_of(u.name, memoryview(b"x" + u.source.view(0, u.source.size, memoryview(b"")))[1:], u.samples)
        for u in updates
    ]
    expected = combine(base, SCHEMA, updates, CombineSettings())
    assert combine(memoryview(b"x" + base)[1:], SCHEMA, askew, CombineSettings()) == expected


def test_findings_of_an_earlier_check_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    base, updates = _round(LARGE, 4, codec="bf16")
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


# --- bad updates ---------------------------------------------------------------------------------------------------


def _spoilt(update: Update, how: str) -> Update:
    blob = bytearray(update.source.view(0, update.source.size, memoryview(b"")))
    match how:
        case "nan":
            blob[0:4] = np.float32(np.nan).tobytes()
        case "infinite":
            blob[8:12] = np.float32(-np.inf).tobytes()
        case "huge":
            blob[0:4] = np.float32(3e38).tobytes()
        case "far":
            blob[0:4] = np.float32(1e6).tobytes()
        case "short":
            blob = blob[:-1]
        case "long":
            blob += b"\0"
        case "counter":
            blob[-24:-16] = np.int64(2**62).tobytes()
    return update_of("mallory", bytes(blob), -7 if how == "samples" else 10**9)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("nan", "update-not-finite"),
        ("infinite", "update-not-finite"),
        ("huge", "update-too-large"),
        ("far", "norm-too-large"),
        ("short", "update-length"),
        ("long", "update-length"),
        ("counter", "counter-too-large"),
        ("samples", "samples-out-of-range"),
    ],
)
def test_a_bad_update_is_refused_and_leaves_no_trace(how: str, code: str) -> None:
    base, updates = _round(SCHEMA, 4)
    run = CombineSettings(norm_bound=1000.0)
    expected = combine(base, SCHEMA, updates[:3], run)
    combined = combine(base, SCHEMA, [*updates[:2], _spoilt(updates[3], how), updates[2]], run)
    assert [(refusal.name, refusal.code) for refusal in combined.refused] == [("mallory", code)]
    assert combined.refused[0].sentence
    assert (combined.model, combined.difference, combined.used) == (expected.model, expected.difference, expected.used)


def test_two_updates_of_one_sender_do_not_count() -> None:
    base, updates = _round(SCHEMA, 4)
    twice = [*updates, update_of(updates[1].name, updates[2].source, 3)]
    for given_order in (twice, twice[::-1]):
        combined = combine(base, SCHEMA, given_order, CombineSettings())
        assert [(r.name, r.code) for r in combined.refused] == [("node-01", "duplicate-update")]
        assert combined.model == combine(base, SCHEMA, [updates[0], *updates[2:]], CombineSettings()).model


def test_updates_beyond_the_limit_are_refused_by_order_of_names() -> None:
    schema = Schema.of_arrays({"w": np.zeros(1, np.float32)})
    updates = [update_of(f"{i:04}", np.float32(1).tobytes(), 1) for i in range(TERMS_MAX + 2)]
    combined = combine(bytes(4), schema, updates[::-1], CombineSettings())
    assert [(r.name, r.code) for r in combined.refused] == [("4096", "too-many-updates"), ("4097", "too-many-updates")]
    assert len(combined.used) == TERMS_MAX
    assert np.frombuffer(combined.model, "<f4")[0] == 1


@pytest.mark.parametrize("codec", ["fp32", "bf16"])
@pytest.mark.parametrize("count", [0, 2])
def test_without_a_usable_update_nothing_changes(codec: str, count: int) -> None:
    base, updates = _round(SCHEMA, 4)
    views = SCHEMA.views(bytearray(base))
    views["embed"][0, 0] = -0.0
    base = SCHEMA.raw_of(views)
    run = CombineSettings(checkpoint_codec=codec, server_optimizer="momentum")
    state = combine(base, SCHEMA, updates, run).server_state
    combined = combine(base, SCHEMA, [_spoilt(updates[0], "nan")] * count, run, state)
    assert (combined.model, combined.server_state, combined.used) == (base, state, ())
    assert apply_difference(base, SCHEMA, combined.difference, codec) == base
    assert (combined.stats["updates_used"], combined.stats["weight"], combined.exponents) == (0, 0, ())


# --- counters, kinds, dtypes ---------------------------------------------------------------------------------------


def test_counters_take_the_greatest_and_frozen_tensors_stay() -> None:
    base, _ = _round(SCHEMA, 0)
    updates = []
    for name, seen, ids in (("a", 40, [1, 9, -3, 0]), ("b", 12, [5, -9, 2, 0])):
        moved = {**SCHEMA.views(base), "seen": np.array(seen), "ids": np.array(ids, np.int32)}
        updates.append(update_of(name, encode_update(SCHEMA, base, SCHEMA.raw_of(moved), codec_named("fp32")), 5))
    combined = combine(base, SCHEMA, updates, CombineSettings())
    before, after = SCHEMA.views(base), SCHEMA.views(combined.model)
    assert after["seen"] == 40
    assert after["ids"].tolist() == np.maximum(before["ids"], [5, 9, 2, 0]).tolist()
    assert (after["mask"] == before["mask"]).all()
    assert after["table"].tobytes() == before["table"].tobytes()


def test_half_precision_saturates_instead_of_becoming_infinite() -> None:
    schema = Schema.of_arrays({"w": np.zeros(1, np.float16)})
    base = np.float16(65000).tobytes()
    combined = combine(base, schema, [update_of("a", np.float32(1e6).tobytes(), 1)], CombineSettings())
    assert np.frombuffer(combined.model, "<f2")[0] == 65504


@st.composite
def _schemas(draw: st.DrawFn) -> Schema:
    specs = []
    for index in range(draw(st.integers(0, 7))):
        dtype = draw(st.sampled_from(sorted(ELEMENT_TYPES)))
        shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
        specs.append(TensorSpec(f"t{index}", dtype, shape, draw(st.sampled_from(ELEMENT_TYPES[dtype].kinds))))
    return Schema.of(specs)


@settings(max_examples=80, deadline=None)
@given(_schemas(), st.integers(0, 2**32), st.sampled_from(["fp32", "bf16"]), st.integers(0, 5))
def test_any_schema_combines_and_everybody_computes_the_same(schema: Schema, seed: int, codec: str, count: int) -> None:
    base, updates = _round(schema, count, codec=codec, seed=seed)
    run = CombineSettings(update_codec=codec, checkpoint_codec=codec, server_optimizer="momentum")
    combined = combine(base, schema, updates, run)
    assert (len(combined.model), len(combined.difference), len(combined.server_state)) == output_sizes(schema, run)
    assert combined.refused == ()
    assert apply_difference(base, schema, combined.difference, codec) == combined.model
    check_model(schema, combined.model)


# --- the server's side ---------------------------------------------------------------------------------------------


def test_momentum_is_carried_in_the_state() -> None:
    schema = Schema.of_arrays({"w": np.zeros(1, np.float32)})
    updates = [update_of("a", np.float32(1.0).tobytes(), 1)]
    run = CombineSettings(server_optimizer="momentum", server_learning_rate=0.5, server_parameters={"momentum": 0.5})
    model, state, values = bytes(4), b"", []
    for _ in range(3):
        combined = combine(model, schema, updates, run, state)
        model, state = combined.model, combined.server_state
        values.append((float(np.frombuffer(model, "<f4")[0]), float(np.frombuffer(state, "<f4")[0])))
    assert values == [(0.5, 1.0), (1.25, 1.5), (2.125, 1.75)]


@pytest.mark.parametrize("state", [b"\0" * 3, np.float32(np.nan).tobytes(), np.float32(np.inf).tobytes()])
def test_a_damaged_state_is_an_error(state: bytes) -> None:
    schema = Schema.of_arrays({"w": np.zeros(1, np.float32)})
    with pytest.raises(FednodeError, match=r"[Tt]he server state"):
        combine(bytes(4), schema, [update_of("a", bytes(4), 1)], CombineSettings(server_optimizer="momentum"), state)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_a_base_that_is_not_finite_is_an_error(bad: float, dtype: str) -> None:
    schema = Schema.of_arrays({"ok": np.zeros(2, dtype), "w": np.zeros(1, dtype)})
    base = schema.raw_of({"ok": np.zeros(2, dtype), "w": np.array([bad], dtype)})
    with pytest.raises(FednodeError, match="base checkpoint holds a NaN"):
        combine(base, schema, [], CombineSettings())
    with pytest.raises(FednodeError, match="tensor 'w' holds a NaN"):
        check_model(schema, base)


def test_a_base_of_another_length_is_an_error() -> None:
    with pytest.raises(FednodeError, match="its schema says"):
        combine(bytes(SCHEMA.model_bytes - 1), SCHEMA, [], CombineSettings())


def test_a_difference_from_outside_is_checked() -> None:
    base, updates = _round(SCHEMA, 3)
    difference = combine(base, SCHEMA, updates, CombineSettings()).difference
    assert len(difference) == difference_bytes(SCHEMA, codec_named("fp32"))
    for wrong in (difference[:-1], difference + b"\0", b""):
        with pytest.raises(RemoteProtocolError, match="bytes instead of"):
            apply_difference(base, SCHEMA, wrong)
    with pytest.raises(RemoteProtocolError, match="holds a NaN"):
        apply_difference(base, SCHEMA, np.float32(np.nan).tobytes() + difference[4:])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"rule": "magic"}, "no rule 'magic'.*mean"),
        ({"weighting": "loud"}, "no weighting 'loud'.*samples, uniform"),
        ({"rule_parameters": {"f": 2}}, "no parameter 'f'"),
        ({"server_optimizer": "warp"}, "no server optimizer 'warp'.*none, momentum"),
        ({"server_parameters": {"beta": 2}}, "no parameter 'beta'"),
        ({"server_optimizer": "momentum", "server_parameters": {"momentum": 1.0}}, "momentum of 1.0 is impossible"),
        ({"server_learning_rate": 0.0}, "learning rate of 0.0 is impossible"),
        ({"server_learning_rate": float("nan")}, "learning rate of nan is impossible"),
        ({"update_codec": "zip"}, "no codec 'zip'"),
        ({"checkpoint_codec": "zip"}, "no codec 'zip'"),
        ({"norm_bound": -1.0}, "norm bound of -1.0 is impossible"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_computed(change: dict, complaint: str) -> None:
    with pytest.raises(FednodeError, match=complaint):
        CombineSettings(**change)


def test_a_file_that_shrank_is_an_error_of_ours_not_of_its_sender(tmp_path: Path) -> None:
    path = tmp_path / "update"
    path.write_bytes(bytes(4 * flat.SLAB_ELEMENTS))
    schema = Schema.of_arrays({"w": np.zeros(flat.SLAB_ELEMENTS, np.float32)})
    update = update_of("a", path, 1)
    path.write_bytes(bytes(100))
    with pytest.raises(FednodeError, match="shorter than it was"):
        combine(bytes(schema.model_bytes), schema, [update], CombineSettings())
    path.unlink()
    with pytest.raises(FednodeError, match="cannot be read"):
        combine(bytes(schema.model_bytes), schema, [update], CombineSettings())


def test_combining_needs_no_torch() -> None:
    code = "import sys, aggregation.combine, aggregation.safetensors_file; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_an_outcome_is_plain_data() -> None:
    base, updates = _round(SCHEMA, 3)
    combined = combine(base, SCHEMA, updates, CombineSettings())
    assert isinstance(combined, Combined)
    assert combined.stats["samples"] == sum(update.samples for update in updates) == combined.stats["weight"]
    assert set(map(type, combined.stats.values())) <= {int, float}
