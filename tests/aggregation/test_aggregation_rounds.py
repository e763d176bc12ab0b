"""What becomes of bad updates, counters, odd dtypes, server states: no update can stop or poison a round."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from aggregation_examples import SCHEMA, make_round
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregation.checkpoints import apply_difference, check_model
from aggregation.codecs.registry import CODECS, codec_named, difference_bytes
from aggregation.combine import combine, output_sizes
from aggregation.settings import CombineSettings
from aggregation.tensors import flat
from aggregation.tensors.exact_sum import TERMS_MAX
from aggregation.tensors.schema import ELEMENT_TYPES, Schema, TensorSpec
from aggregation.updates import Update, encode_update, update_of
from protocol.errors import FednodeError, RemoteProtocolError
from protocol.limits import DISTANCE_UPDATES_MAX

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
    base, updates = make_round(SCHEMA, 4)
    run = CombineSettings(norm_bound=1000.0)
    expected = combine(base, SCHEMA, updates[:3], run)
    combined = combine(base, SCHEMA, [*updates[:2], _spoilt(updates[3], how), updates[2]], run)
    assert [(refusal.name, refusal.code) for refusal in combined.refused] == [("mallory", code)]
    assert combined.refused[0].sentence
    assert (combined.model, combined.difference, combined.used) == (expected.model, expected.difference, expected.used)


def test_two_updates_of_one_sender_do_not_count() -> None:
    base, updates = make_round(SCHEMA, 4)
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


@pytest.mark.parametrize(
    "run",
    [
        CombineSettings("krum", "uniform"),
        CombineSettings("multi_krum", "uniform"),
        CombineSettings("geometric_median", "uniform"),
        CombineSettings("centred_clipping", "uniform"),
        CombineSettings("median", "uniform", mix_share=0.2),
    ],
    ids=lambda run: run.rule,
)
def test_rules_that_look_at_distances_have_room_for_fewer(
    run: CombineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is compared in pairs takes memory by the square of the updates."""
    assert run.updates_max == DISTANCE_UPDATES_MAX < CombineSettings("median", "uniform").updates_max == TERMS_MAX
    monkeypatch.setattr("aggregation.settings.DISTANCE_UPDATES_MAX", 4)
    base, updates = make_round(SCHEMA, 6)
    run = replace(run)
    combined = combine(base, SCHEMA, updates[::-1], run)
    few = combine(base, SCHEMA, updates[:4], run)
    refused = [(refusal.name, refusal.code) for refusal in combined.refused if refusal not in few.refused]
    assert refused == [("node-04", "too-many-updates"), ("node-05", "too-many-updates")]
    assert (combined.model, combined.used) == (few.model, few.used)


@pytest.mark.parametrize("codec", sorted(CODECS))
@pytest.mark.parametrize("count", [0, 2])
def test_without_a_usable_update_nothing_changes(codec: str, count: int) -> None:
    base, updates = make_round(SCHEMA, 4)
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
    base, _ = make_round(SCHEMA, 0)
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
@given(_schemas(), st.integers(0, 2**32), st.sampled_from(sorted(CODECS)), st.integers(0, 5))
def test_any_schema_combines_and_everybody_computes_the_same(schema: Schema, seed: int, codec: str, count: int) -> None:
    base, updates = make_round(schema, count, codec=codec, seed=seed)
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
    base, updates = make_round(SCHEMA, 3)
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
