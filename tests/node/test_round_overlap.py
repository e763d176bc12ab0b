"""What goes on at once in a run: one node measures a checkpoint while others train on from it."""

from pathlib import Path
from typing import Any

import pytest
import trio
from hostile_ground import CONFIGURATION, HostileGround, on_hostile_ground

from node.run.task import RunTask

SLOW_S = 500.0  # to measure a checkpoint; many rounds of the digits
ROUNDS = 4

Busy = dict[tuple[str, str, int], tuple[float, float]]  # node, what, and which round's: from when to when


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Busy:
    """What every node's task was busy with. To measure takes `SLOW_S`."""
    seen: Busy = {}
    train, evaluate = RunTask._train, RunTask._evaluate

    async def training(self: RunTask, wanted: Any) -> Any:
        began = trio.current_time()
        result = await train(self, wanted)
        seen[self._spec.node_id, "train", wanted.round] = began, trio.current_time()
        return result

    async def evaluating(self: RunTask, wanted: Any) -> Any:
        began = trio.current_time()
        async with self._busy:
            await trio.sleep(SLOW_S)  # virtual time passes
        result = await evaluate(self, wanted)
        seen[self._spec.node_id, "evaluate", wanted.checkpoint.round] = began, trio.current_time()
        return result

    monkeypatch.setattr(RunTask, "_train", training)
    monkeypatch.setattr(RunTask, "_evaluate", evaluating)
    return seen


async def played(ground: HostileGround, more: str = "") -> list[str]:
    """A run of four nodes, to its end; their ids."""
    lives = await ground.group(4)
    nodes = [life.node.identity.node_id for life in lives]
    text = CONFIGURATION.format(rounds=ROUNDS, nodes=4, name="run", join_deadline_s=600.0, audit="none")
    text += more.format(validator=nodes[3])
    run = (await lives[0].node.service.start_run(text, None, None, {}))["run_id"]
    await ground.ended(run, lives)
    return nodes


def test_a_validator_measures_while_the_others_train_on(tmp_path: Path, busy: Busy) -> None:
    async def test(ground: HostileGround) -> None:
        *trainers, validator = await played(ground, '[roster.roles]\n"{validator}" = "validator"\n')
        began, ended = busy[validator, "evaluate", 0]
        for trainer in trainers:
            assert began <= busy[trainer, "train", 1][1] < ended
        assert not any(key[:2] == (validator, "train") for key in busy)

    on_hostile_ground(tmp_path, test)


def test_a_trainer_trains_first_and_measures_while_its_update_is_on_its_way(tmp_path: Path, busy: Busy) -> None:
    async def test(ground: HostileGround) -> None:
        for node in await played(ground):
            assert busy[node, "train", 1][1] <= busy[node, "evaluate", 0][0]

    on_hostile_ground(tmp_path, test)
