"""Whole runs in every method: audited to the bit, and what participants carry moves on exactly with what was used."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
from hostile_ground import CONFIGURATION, HostileGround, Life, on_hostile_ground

from aggregation.tensors.flat import F32
from node.api.service.service import LogsQuery
from node.run.carried import CarriedState
from node.run.known_run import KnownRun
from node.seams import TrainResult
from node.training.participant_state import read_state
from protocol.keys import BlobId, RunId
from protocol.run.checkpoint import Checkpoint, open_offer
from protocol.run.ledger import Ledger
from simulations.training.trainer import InProcessSession

NODES = 3


async def started(
    ground: HostileGround, lives: list[Life], keys: str, *, rounds: int = 4, audit: str = "full"
) -> RunId:
    text = CONFIGURATION.format(name="run", rounds=rounds, nodes=NODES, audit=audit, join_deadline_s=600.0)
    text = text.replace('codec = "fp32"', keys)
    return RunId((await lives[0].node.service.start_run(text, None, None, {}))["run_id"])


def ledger_of(known: KnownRun) -> Ledger:
    assert known.driver is not None
    assert not known.driver.machine.context.deposed
    return known.driver.machine.ledger


async def carried(life: Life, run: RunId, arrays: dict[str, int]) -> dict[str, F32]:
    """What a node carries, whole: its driver has ended, so what was used counts."""
    told: list[str] = []
    session: Any = life.node.trainer
    state = read_state(session._state_of(run), arrays, told.append)
    assert told == []
    return state


async def control_in(life: Life, known: KnownRun) -> F32:
    """The common control of the newest checkpoint."""
    newest = ledger_of(known).newest
    return np.frombuffer(await life.disk.read_blob(BlobId(newest.server_state)), "<f4")


KEYS = [
    'codec = "bf16"\nmethod = "fednova"',
    'codec = "bf16"\nserver_optimizer = "adagrad"\nserver_learning_rate = 0.01',
    'codec = "bf16"\nserver_optimizer = "adam"\nserver_learning_rate = 0.01',
    'codec = "int8"\nserver_optimizer = "yogi"\nserver_learning_rate = 0.01\nserver_beta2 = 0.9',
    'codec = "fp32"\nmethod = "scaffold"',
    'codec = "top10"\nmethod = "scaffold"\nserver_optimizer = "momentum"\nserver_learning_rate = 0.5',
]


@pytest.mark.parametrize("keys", KEYS)
def test_a_run_in_a_method(keys: str, tmp_path: Path) -> None:
    """Every voter recomputes every checkpoint before it acknowledges it, server state and all."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(NODES)
        run = await started(ground, lives, keys)
        newest = [ledger_of(known).newest for known in await ground.ended(run, lives)]
        assert {(checkpoint.round, checkpoint.outcome) for checkpoint in newest} == {(4, "finished")}
        assert len({(checkpoint.model, checkpoint.server_state) for checkpoint in newest}) == 1
        assert all(not entry.refused for entry in newest[0].updates)
        offers = [open_offer(entry.offer).body for entry in newest[0].updates]
        assert len({offer.steps for offer in offers}) > 1  # they have different amounts of data
        if "fednova" in keys:
            weights = [
                entry.weight * offer.steps / offer.samples
                for entry, offer in zip(newest[0].updates, offers, strict=True)
            ]
            assert weights == pytest.approx([weights[0]] * NODES, rel=1e-4)

    on_hostile_ground(tmp_path, test)


@pytest.mark.parametrize("codec", ["fp32", "int8"])
def test_the_common_control_is_the_mean_of_the_nodes_own(codec: str, tmp_path: Path, monkeypatch: Any) -> None:
    """§8.27. Though an update is refused in one round, and nodes, the aggregator too, are started again in others:
    own controls move with what was used, and with nothing else."""
    honest = InProcessSession.train

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(NODES)
        culprit = lives[2].node.identity.node_id

        async def train(self: InProcessSession, *arguments: Any) -> TrainResult:
            result = await honest(self, *arguments)
            if arguments[0] == 2 and self._loaded is not None and self._loaded._spec.node_id == culprit:
                return replace(result, update=b"\xff" * len(bytes(result.update)))
            return result

        monkeypatch.setattr(InProcessSession, "train", train)
        keys = f'codec = "{codec}"\ncheckpoint_codec = "fp32"\nmethod = "scaffold"\nweighting = "uniform"'
        run = await started(ground, lives, keys, rounds=6)
        for number, life in enumerate(lives):
            round_number = number + 2

            def reached(life: Life = life, round_number: int = round_number) -> bool:
                known = life.node.runs.known.get(run)
                return known is not None and known.ledger is not None and known.ledger.committed_round >= round_number

            await ground.settled(reached, f"round {round_number}")
            await ground.restart(life)
        known = (await ground.ended(run, lives))[0]
        refused = [row for row in await _updates(lives[0], run) if row["outcome"] == "refused"]
        assert [row["round"] for row in refused] == [2]
        common = await control_in(lives[0], known)
        arrays = {"residual": 2 * len(common)} if codec == "int8" else {}
        own = [(await carried(life, run, arrays | {"control": len(common)}))["control"] for life in lives]
        assert all(np.abs(control).max() > 1e-3 for control in own)
        assert np.mean(own, axis=0) == pytest.approx(common, abs=1e-5)

    on_hostile_ground(tmp_path, test)


async def _updates(life: Life, run: RunId) -> list[dict[str, Any]]:
    filters = {"after_round": None, "before_round": None, "node": None, "limit": 1000}
    return list(await life.node.service.curves.updates(run, filters))


def test_a_node_that_lost_what_it_carried_goes_on_from_zeros_and_says_so(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(NODES)
        run = await started(ground, lives, 'codec = "int8"\nmethod = "scaffold"', rounds=6)

        def reached() -> bool:
            known = lives[1].node.runs.known.get(run)
            return known is not None and known.ledger is not None and known.ledger.committed_round >= 3

        await ground.settled(reached, "round 3")
        trainer: Any = lives[1].node.trainer
        files = list(trainer._state_of(run).glob("carried*"))
        assert files
        for file in files:  # the one that counts, and the one that will
            file.write_bytes(b"damaged")
        for known in await ground.ended(run, lives):
            assert ledger_of(known).newest.round == 6
            assert all(not entry.refused for entry in ledger_of(known).newest.updates)
        page = await lives[1].node.service.logs(run, LogsQuery(level="WARNING"))
        said = "what this node carries from round to round is damaged; it begins with zeros"
        assert [row["message"] for row in page.lines] == [said]

    on_hostile_ground(tmp_path, test)


def round_of(life: Life, run: RunId) -> int:
    known = life.node.runs.known.get(run)
    return known.ledger.committed_round if known is not None and known.ledger is not None else -1


async def assert_common_is_mean(lives: list[Life], run: RunId, known: KnownRun) -> None:
    common = await control_in(lives[0], known)
    own = [(await carried(life, run, {"control": len(common)}))["control"] for life in lives]
    assert all(np.abs(control).max() > 1e-3 for control in own)
    assert np.mean(own, axis=0) == pytest.approx(common, abs=1e-5)


SCAFFOLD = 'codec = "fp32"\nmethod = "scaffold"\nweighting = "uniform"\n'


def test_nodes_that_train_now_and_then_carry_what_was_used(tmp_path: Path) -> None:
    """§8.27. A node that is not drawn for the next round takes note of the commit all the same."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(NODES)
        run = await started(ground, lives, SCAFFOLD + "[round]\nfraction = 0.6", rounds=9)
        known = (await ground.ended(run, lives))[0]
        assert all(len(row["updates"]) == 2 for row in [ledger_of(known).newest.model_dump()])
        await assert_common_is_mean(lives, run, known)

    on_hostile_ground(tmp_path, test)


def test_late_updates_move_what_is_carried_when_they_are_used(tmp_path: Path) -> None:
    """§8.20, §8.27. A node that needs a round and a half is used every other round, always late."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(NODES)
        slow: Any = lives[2].node.trainer
        slow._samples_per_s = 100.0  # five seconds a round
        keys = SCAFFOLD + '[round]\nlate = "use"\ndeadline_s = 3.0\n'
        run = await started(ground, lives, keys, rounds=12)
        known = (await ground.ended(run, lives))[0]
        told = await _updates(lives[0], run)
        mine = [row for row in told if row["node_id"] == lives[2].node.identity.node_id]
        assert {row["outcome"] for row in mine} == {"late"}
        assert len(mine) == 6
        await assert_common_is_mean(lives, run, known)

    on_hostile_ground(tmp_path, test)


def test_a_crash_just_after_a_commit_costs_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    """§8.27. The commit is in the journal, and nothing else was done about it."""
    honest = CarriedState.on_committed

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(NODES)
        run = await started(ground, lives, SCAFFOLD, rounds=4)
        dead = lives[1].node.identity.node_id

        async def on_committed(self: CarriedState, checkpoint: Checkpoint) -> None:
            if self._spec.node_id != dead or checkpoint.round < 4:
                await honest(self, checkpoint)

        with monkeypatch.context() as patched:
            patched.setattr(CarriedState, "on_committed", on_committed)
            known = (await ground.ended(run, lives))[0]
        with pytest.raises(AssertionError):
            await assert_common_is_mean(lives, run, known)
        await ground.restart(lives[1])
        await ground.settled(lambda: round_of(lives[1], run) == 4, "the journal read")
        await trio.sleep(1)  # virtual time passes
        await assert_common_is_mean(lives, run, known)

    on_hostile_ground(tmp_path, test)
