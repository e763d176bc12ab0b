"""Nodes that carry something from round to round are trained one after another, with the bits of each alone."""

from pathlib import Path

import numpy as np
import pytest
import trio
import trio.testing

from node.seams import TaskSpec
from simulations.training.batched import BatchedTraining
from simulations.training.trainer import InProcessTrainer


def updates(folder: Path, spec: TaskSpec, together: BatchedTraining | None) -> tuple[list[bytes], bool]:
    """Two rounds of it, of which the first is used; and whether its training could be shared."""
    folder.mkdir()

    async def main() -> tuple[list[bytes], bool]:
        trainer = InProcessTrainer(folder, together=together)
        session = await trainer.open(spec, lambda output: None)
        first = await session.initial_model()
        made = []
        for number in (1, 2):
            made.append(bytes((await session.train(number, first.schema, first.model)).update))  # type: ignore[arg-type]
            await trainer.carry_on(spec.run_id, number, "a" * 64, used=False)  # type: ignore[arg-type]
            await trainer.carry_on(spec.run_id, number, "a" * 64, used=True)  # type: ignore[arg-type]
        request = session._seat.training(3, first.schema, first.model) if session._seat is not None else None
        return made, request is not None

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize(
    ("codec", "method", "is_shared"),
    [("bf16", "fedavg", True), ("bf16", "fednova", True), ("int8", "fedavg", False), ("bf16", "scaffold", False)],
)
def test_what_is_carried_keeps_a_node_out_of_the_batch(
    tmp_path: Path, codec: str, method: str, is_shared: bool
) -> None:
    draw = np.random.default_rng(5)
    np.savez(tmp_path / "digits.npz", x=draw.integers(0, 17, (75, 64)), y=draw.integers(0, 10, 75))
    data, training = str(tmp_path / "digits.npz"), {"epochs": 2, "batch_size": 16}
    spec = TaskSpec("run", "node", "digits", {"hidden": [24]}, training, codec, data, {}, 11, method=method)
    alone, _ = updates(tmp_path / "alone", spec, None)
    together, shared = updates(tmp_path / "together", spec, BatchedTraining(together_min=1))
    assert shared == is_shared
    if not is_shared:
        assert together == alone
        assert together[0] != together[1]
