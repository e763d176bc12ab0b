"""Updates that travel while they are coded, in runs: nothing depends on them, whatever a participant does. §8.29."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from hostile_ground import HostileGround, Life, on_hostile_ground

import node.run.early
import simulations.training.trainer
from node.network.bulk.bulk import Transfer
from node.network.bulk.early import CODED_WAIT_S
from node.run.blobs import RunBlobs
from node.run.early import OwnEarly
from node.seams import CodedFile
from protocol.keys import BlobId, Hash, NodeId, RunId
from protocol.run.early import early_name
from protocol.run.gathering import Gathering
from protocol.run.messages import EarlyMessage

STORING_S = 2.0  # from the codec's end to the offer: of a disk that is slow
ROUNDS = 3


class Traffic:
    """What came to any node, by early names and by others, and when updates were offered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, size_min: int) -> None:
        self.early: list[Transfer] = []
        self.late: list[Transfer] = []
        self.names: set[BlobId] = set()
        put = RunBlobs.put_for_a_round

        async def slowly(blobs: RunBlobs, data: bytes, round_number: int, **options: Any) -> BlobId:
            if options:  # what a task has made
                await trio.sleep(STORING_S)  # virtual time passes
            return await put(blobs, data, round_number, **options)

        begin = OwnEarly.begin

        def begun(own: OwnEarly, size: int, file: CodedFile) -> None:
            begin(own, size, file)
            if own.name is not None:  # it is asked for later
                self.names.add(own.name)

        monkeypatch.setattr(OwnEarly, "begin", begun)
        monkeypatch.setattr(RunBlobs, "put_for_a_round", slowly)
        for module in (node.run.early, simulations.training.trainer):
            monkeypatch.setattr(module, "EARLY_BYTES_MIN", size_min)

    def watch(self, life: Life) -> None:
        moved = life.node.bulk._on_transfer

        def transferred(transfer: Transfer) -> None:
            moved(transfer)
            if transfer.incoming:
                (self.early if transfer.blob in self.names else self.late).append(transfer)

        life.node.bulk._on_transfer = transferred


async def slow_run(ground: HostileGround, traffic: Traffic, count: int = 3) -> tuple[list[Life], str]:
    """A run of nodes whose disks are slow; its last model."""
    lives = await ground.group(count)
    for life in lives:
        traffic.watch(life)
    run = await ground.propose(lives[0], rounds=ROUNDS, nodes=count)
    (known, *_) = await ground.ended(run, lives)
    assert known.driver is not None
    newest = known.driver.machine.ledger.newest
    assert newest.round == ROUNDS
    assert all(entry.refused == "" for entry in newest.updates)
    return lives, newest.model


def model_of_a_run(
    folder: Path, size_min: int, trick: Callable[[pytest.MonkeyPatch], None] | None = None
) -> tuple[str, Traffic, float]:
    """The last model, what went, and how long it took in virtual time."""
    found: list[Any] = []
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        traffic = Traffic(patch, size_min)
        if trick is not None:
            trick(patch)

        async def main(ground: HostileGround) -> None:
            began = trio.current_time()
            lives, model = await slow_run(ground, traffic)
            assert not any(life.disk._early for life in lives), "nothing stays behind"
            for life in lives:
                assert not life.node.bulk._early
                assert not life.node.bulk._serving.early
            found.extend([model, trio.current_time() - began])

        on_hostile_ground(folder, main)
    return found[0], traffic, found[1]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Traffic, float]:
    """The run as it is where nothing is sent before its offer."""
    return model_of_a_run(tmp_path_factory.mktemp("plain") / "run", 2**62)


def test_bytes_come_before_the_offer_and_the_model_is_the_same(
    tmp_path: Path, plain: tuple[str, Traffic, float]
) -> None:
    """§8.29. What came early needs not come again."""
    model, traffic, seconds = model_of_a_run(tmp_path / "run", 1)
    assert model == plain[0]
    assert not plain[1].early
    expected = (3 - 1) * ROUNDS  # the aggregator fetches the others'
    assert len(traffic.early) == expected
    assert len(plain[1].late) == len(traffic.late) + expected
    assert seconds <= plain[2]


def junk(patch: pytest.MonkeyPatch) -> None:
    """Every participant gives other bytes early than it offers."""
    begin = OwnEarly.begin

    def lie(own: OwnEarly, size: int, file: CodedFile) -> None:
        begin(own, size, simulations.training.trainer.CodedInMemory(Random(1).randbytes(size)))

    patch.setattr(OwnEarly, "begin", lie)


def stall(patch: pytest.MonkeyPatch) -> None:
    """Nobody's codec ever gets anywhere."""
    patch.setattr(OwnEarly, "grew", lambda own, upto: None)
    patch.setattr(OwnEarly, "whole", lambda own: None)


def give_up(patch: pytest.MonkeyPatch) -> None:
    """Every participant ends it as soon as it has said that there is something."""
    patch.setattr(OwnEarly, "grew", lambda own, upto: own.end())


def shout(patch: pytest.MonkeyPatch) -> None:
    """Every participant says so a hundred times, of this round and of others, and the aggregator asks once."""
    asked: list[NodeId] = []
    rule = Gathering.early_bytes_are_asked_for_once

    def counted(gathering: Gathering, peer: NodeId, message: EarlyMessage) -> list[Any]:
        said = [message.model_copy(update={"round": message.round + ahead}) for ahead in range(100)]
        wanted = [each for one in [*said, *said] for each in rule(gathering, peer, one)]
        assert len(wanted) <= 1
        asked.extend(each.node for each in wanted)
        return wanted

    patch.setattr(Gathering, "early_bytes_are_asked_for_once", counted)


@pytest.mark.parametrize("trick", [junk, stall, give_up, shout])
def test_who_lies_stalls_or_stops_early_changes_nothing_and_delays_nobody(
    trick: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, plain: tuple[str, Traffic, float]
) -> None:
    """§8.29."""
    model, _, seconds = model_of_a_run(tmp_path / "run", 1, trick)
    assert model == plain[0]
    assert seconds <= plain[2] + ROUNDS * (CODED_WAIT_S if trick is stall else 0.5)


def test_a_last_word_that_is_lost_costs_nothing(tmp_path: Path, plain: tuple[str, Traffic, float]) -> None:
    """§14.10: nobody waits for the codec once the training has given its update."""

    def lose(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(OwnEarly, "grew", lambda own, upto: None)

    model, traffic, seconds = model_of_a_run(tmp_path / "run", 1, lose)
    assert model == plain[0]
    assert len(traffic.early) == (3 - 1) * ROUNDS
    assert seconds <= plain[2]


def test_it_is_for_the_aggregator_alone_and_only_in_its_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """§8.29."""
    traffic = Traffic(monkeypatch, 1)
    seen: list[tuple[set[NodeId], NodeId | None]] = []
    end = OwnEarly.end

    async def main(ground: HostileGround) -> None:
        lives = await ground.group(3)
        everybody = [life.node.identity.node_id for life in lives]
        for life in lives:
            traffic.watch(life)
        run = await ground.propose(lives[0], rounds=ROUNDS, nodes=3)

        def look(own: OwnEarly) -> None:
            (life,) = (life for life in lives if life.node.identity.node_id == own._me)
            known = life.node.runs.known[run]
            if own.name is not None and known.driver is not None:
                readers = {peer for peer in everybody if life.node.runs.may_read(peer, own.name)}
                seen.append((readers, known.driver.machine.election.aggregator))
            name = own.name
            end(own)
            assert name is None or not any(life.node.runs.may_read(peer, name) for peer in everybody)

        monkeypatch.setattr(OwnEarly, "end", look)
        await ground.ended(run, lives)
        assert len(seen) >= ROUNDS
        assert all(readers == {aggregator} for readers, aggregator in seen)

    on_hostile_ground(tmp_path, main)


def test_what_was_never_offered_is_deleted_with_the_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """§8.29. A participant gives its bytes early and is never heard of again; the round goes on without it."""
    traffic = Traffic(monkeypatch, 1)
    abandoned: list[bool] = []

    async def main(ground: HostileGround) -> None:
        lives = await ground.group(3)
        for life in lives:
            traffic.watch(life)
        run = await ground.propose(lives[0], rounds=ROUNDS, nodes=3)
        drivers = await _drivers(ground, lives, run)
        silent = next(driver for driver in drivers if driver.machine.reign is None)
        aggregator = next(driver for driver in drivers if driver.machine.reign is not None)

        async def hangs(wanted: Any) -> None:
            silent._task.early.expect(wanted.round, wanted.name)
            silent._task.early.begin(2**20 * 3, simulations.training.trainer.CodedInMemory(bytes(3 * 2**20)))
            silent._task.early.grew(3 * 2**20)
            await trio.sleep_forever()

        silent._task.train = hangs  # type: ignore[method-assign, assignment]
        early = aggregator._data.early
        await ground.settled(lambda: early._coming and next(iter(early._coming.values())).writer, "early bytes")
        (coming,) = early._coming.values()
        leave = coming.writer.abandon

        async def seen() -> None:
            abandoned.append(True)
            await leave()

        monkeypatch.setattr(coming.writer, "abandon", seen)
        before = aggregator.machine.ledger.committed_round
        silent.leave()
        await ground.settled(lambda: aggregator.machine.ledger.committed_round > before, "the round")
        await ground.settled(lambda: abandoned, "it is deleted")
        assert coming not in early._coming.values()

    on_hostile_ground(tmp_path, main)


def test_nothing_comes_early_any_more_once_the_round_is_combined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """§8.29. The round's deadline passes while a participant still codes; it is combined without that one."""
    traffic = Traffic(monkeypatch, 1)
    size = 3 * 2**20

    async def main(ground: HostileGround) -> None:
        lives = await ground.group(3)
        for life in lives:
            traffic.watch(life)
        run = await ground.propose(lives[0], rounds=ROUNDS, nodes=3)
        drivers = await _drivers(ground, lives, run)
        silent = next(driver for driver in drivers if driver.machine.reign is None)
        aggregator = next(driver for driver in drivers if driver.machine.reign is not None)
        (here,) = (life for life in lives if life.node.identity.node_id == aggregator.machine.context.me)

        async def hangs(wanted: Any) -> None:
            silent._task.early.expect(wanted.round, wanted.name)
            silent._task.early.begin(size, simulations.training.trainer.CodedInMemory(bytes(size)))
            await trio.sleep_forever()

        silent._task.train = hangs  # type: ignore[method-assign, assignment]
        combining, combine = trio.Event(), aggregator._data.combine

        async def slowly(wanted: Any) -> Any:
            combining.set()
            await trio.sleep(2)  # virtual time passes
            return await combine(wanted)

        aggregator._data.combine = slowly
        early = aggregator._data.early
        await ground.settled(lambda: silent.machine.context.me in early._coming, "early bytes are asked for")
        aggregator.machine.reign.gathering.deadline = trio.current_time()
        await combining.wait()
        await trio.sleep(0.1)  # virtual time passes
        assert not early._coming
        assert not here.disk._early
        assert not here.node.bulk._early
        came = len(traffic.early)
        silent._task.early.grew(size)
        await trio.sleep(1)  # virtual time passes
        assert len(traffic.early) == came

    on_hostile_ground(tmp_path, main)


async def _drivers(ground: HostileGround, lives: list[Life], run: RunId) -> list[Any]:
    def drivers() -> list[Any]:
        known = [life.node.runs.known.get(run) for life in lives]
        found = [each.driver for each in known if each is not None and each.driver is not None]
        return found if len(found) == len(lives) and any(each.machine.reign for each in found) else []

    await ground.settled(drivers, "an aggregator")
    return drivers()


def test_names_differ_by_run_round_base_and_node() -> None:
    names = {
        early_name(run * 32, round_number, Hash(base * 32), NodeId(peer))
        for run in ("ab", "cd")
        for round_number in (1, 11)
        for base in ("ab", "cd")
        for peer in ("one", "two")
    }
    assert len(names) == 16
