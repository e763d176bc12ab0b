"""SCAFFOLD's sums: controls travel behind the difference, and the common one is the mean of all."""

import numpy as np
import pytest
from aggregation_examples import SCHEMA, random_model

from aggregation.combine import Combined, combine
from aggregation.scaffold import CONTROL_MAX, move_control, own_change, update_schema
from aggregation.server_state import check_server_state, state_bytes
from aggregation.settings import CombineSettings
from aggregation.tensors.flat import F32, SLAB_ELEMENTS
from aggregation.tensors.schema import Schema, TensorSpec
from aggregation.updates import Update, encode_update, update_of
from protocol.errors import FednodeError

SCAFFOLD = CombineSettings(method="scaffold", weighting="uniform")
LARGE = Schema.of_arrays(
    {"a": np.zeros((SLAB_ELEMENTS, 1), np.float32), "b": np.zeros(4097, np.float32), "seen": np.zeros(1, np.int64)}
)


def make_round(
    schema: Schema, count: int, settings: CombineSettings, seed: int = 1
) -> tuple[bytes, list[Update], list[F32]]:
    """A base, updates, and by how much each control moves as receivers see it."""
    random = np.random.default_rng(seed)
    base = random_model(random, schema)
    updates, changes = [], []
    for index in range(count):
        change = random.standard_normal(schema.averaged_elements).astype(np.float32)
        trained = random_model(random, schema)
        frozen = {spec.name: schema.views(base)[spec.name] for spec in schema.tensors if spec.kind == "frozen"}
        trained = schema.raw_of({**schema.views(trained), **frozen})
        blob = encode_update(schema, base, trained, settings.update_coding, control=change)
        assert len(blob) == settings.update_bytes(schema)
        updates.append(update_of(f"node-{index}", blob, 10 + index))
        changes.append(change)
    return base, updates, changes


@pytest.mark.parametrize("codec", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("schema", [SCHEMA, LARGE])
def test_the_common_control_moves_by_the_mean_change_times_the_share_of_the_roster(schema: Schema, codec: str) -> None:
    """arXiv:1910.06378, algorithm 1, line 17; the model moves as without controls."""
    settings = CombineSettings(method="scaffold", weighting="uniform", update_codec=codec)
    base, updates, changes = make_round(schema, 3, settings)
    combined = combine(base, schema, updates, settings, roster_nodes=12)
    control = np.frombuffer(combined.server_state, "<f4")
    assert control == pytest.approx(sum(changes) / 3 * 3 / 12, abs=1e-5)
    if codec == "fp32":
        plain = [
            update_of(
                update.name,
                _without_control(schema, update),
                update.samples,
            )
            for update in updates
        ]
        assert combined.model == combine(base, schema, plain, CombineSettings(weighting="uniform")).model


def _without_control(schema: Schema, update: Update) -> bytes:
    blob = bytes(update.source.view(0, update.source.size, memoryview(b"")))
    end = 4 * schema.averaged_elements
    return blob[:end] + blob[2 * end :]


def test_the_control_is_carried_beside_a_server_optimizer_and_every_way_gives_the_same_bits() -> None:
    settings = CombineSettings(method="scaffold", server_optimizer="yogi")
    results: list[Combined] = []
    for threads in (1, 3):
        state, base = b"", b""
        for seed in (1, 2):
            fresh, updates, _ = make_round(LARGE, 3, settings, seed)
            ordered = updates if threads == 1 else updates[::-1]
            result = combine(base or fresh, LARGE, ordered, settings, state, threads, roster_nodes=5)
            base, state = result.model, result.server_state
            check_server_state(LARGE, settings, state)
            assert len(state) == state_bytes(LARGE, settings) == 12 * LARGE.averaged_elements
        results.append(result)
    assert results[0] == results[1]


def test_without_a_usable_update_the_control_stays() -> None:
    base, updates, _ = make_round(SCHEMA, 2, SCAFFOLD)
    state = combine(base, SCHEMA, updates, SCAFFOLD, roster_nodes=2).server_state
    spoilt = np.full(SCHEMA.averaged_elements, np.nan, np.float32)
    nan = encode_update(SCHEMA, base, base, SCAFFOLD.update_coding, control=spoilt)
    after = combine(base, SCHEMA, [update_of("mallory", nan, 3)], SCAFFOLD, state, roster_nodes=2)
    assert (after.server_state, after.model) == (state, base)
    assert after.refused[0].code == "update-not-finite"
    assert "control of embed" in after.refused[0].sentence


def test_an_update_without_its_control_is_of_the_wrong_length() -> None:
    base, updates, _ = make_round(SCHEMA, 2, SCAFFOLD)
    short = update_of("short", _without_control(SCHEMA, updates[0]), 5)
    combined = combine(base, SCHEMA, [short, updates[1]], SCAFFOLD, roster_nodes=2)
    assert [(refusal.name, refusal.code) for refusal in combined.refused] == [("short", "update-length")]


def test_a_control_cannot_be_driven_out_of_a_states_bounds() -> None:
    control = np.array([CONTROL_MAX, -CONTROL_MAX], np.float32)
    move_control(control, np.array([2.0**64, -(2.0**64)], np.float32) * 2**40, 4, 4)
    assert control.tolist() == [CONTROL_MAX, -CONTROL_MAX]


def test_more_updates_than_nodes_move_it_no_further_than_their_mean() -> None:
    control = np.zeros(1, np.float32)
    move_control(control, np.ones(1, np.float32), 4, 2)
    assert control.tolist() == [1.0]


def test_a_nodes_own_control_becomes_the_mean_gradient_of_its_training() -> None:
    """Option II: cᵢ⁺ = cᵢ − c + (x − y) ÷ (K η). Without corrections K steps of rate η by gradient g move by −K η g."""
    gradient, own, common = (np.array(values, np.float32) for values in ([2, -1], [0.5, 0.25], [1, 1]))
    corrected = gradient - own + common
    change = own_change(-np.float32(5 * 0.1) * corrected, common, 5, 0.1)
    assert own + change == pytest.approx(gradient, abs=1e-6)


def test_a_state_of_another_method_is_refused() -> None:
    base, updates, _ = make_round(SCHEMA, 2, SCAFFOLD)
    with pytest.raises(FednodeError, match="arrays: control"):
        combine(base, SCHEMA, updates, SCAFFOLD, bytes(8 * SCHEMA.averaged_elements))


def test_controls_of_tensors_with_the_longest_names() -> None:
    name = "n" * 256
    schema = Schema.of([TensorSpec(name, "float16", (2,), "averaged"), TensorSpec("c", "int64", (), "counter")])
    doubled = update_schema(schema, "scaffold")
    assert [spec.name for spec in doubled.tensors] == [name, "control of tensor 0", "c"]
    assert update_schema(schema, "fednova") is schema
