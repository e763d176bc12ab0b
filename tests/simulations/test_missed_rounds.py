"""A node that was away has the whole history when it is back: its record is like the others', each thing in it once.

docs/protocol.md §9. Each node has a store of its own here, as real nodes do, so nothing is there that it was not told.
"""

import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.home.identity import Keys
from node.network.questions import Answerer
from node.node import Node
from node.run.histories import HISTORY_QUESTION
from node.run.known_run import KnownRun
from node.seams import CodedUpdate, EvaluateResult, Keep, TaskOutput, TaskSpec, TrainResult
from protocol.errors import Refused
from protocol.keys import NodeId, RunId, node_id_of, public_key_of
from protocol.limits import FRAME_BYTES_MAX
from protocol.run.checkpoint import open_checkpoint, open_report, sign_note
from protocol.run.history import HistoryAnswer, HistoryEntry, HistoryRequest
from protocol.wire import pack, unpack
from simulations.nodes.seeded_group import Placed, place_group
from simulations.nodes.simulated_node import EPOCH_S, SimulatedNode
from simulations.training.idle_trainer import IdleSession, IdleTrainer
from simulations.world.deterministic import run_deterministically, until
from simulations.world.network import SimulatedWorld
from simulations.world.record import SharedStore

DEADLINE_S = 3600.0  # of virtual time
CONFIGURATION = """
name = "away"
[task]
name = "digits"
[data]
name = "idle"
[training]
rounds = {rounds}
[roster]
nodes_min = {nodes}
"""
Scenario = Callable[["Ground", trio.Nursery], Awaitable[None]]


class MeasuringTrainer(IdleTrainer):
    """One whose sessions take two seconds a round, and tell figures."""

    async def open(self, spec: TaskSpec, say: Callable[[TaskOutput], None], keep: Keep | None = None) -> IdleSession:
        await trio.lowlevel.checkpoint()
        return MeasuringSession(spec, 2.0)


class MeasuringSession(IdleSession):
    async def train(
        self,
        round_number: int,
        schema: bytes,
        model: bytes | Path,
        server_state: bytes | Path = b"",
        coded: CodedUpdate | None = None,
    ) -> TrainResult:
        result = await super().train(round_number, schema, model)
        return replace(result, samples=10 + round_number, metrics={"loss": 1.0 / round_number})

    async def evaluate(self, round_number: int, schema: bytes, model: bytes | Path) -> EvaluateResult:
        await trio.sleep(0.1)  # virtual time
        return EvaluateResult(5, {"accuracy": round_number / 100, "loss": 2.0})


class Ground:
    """A group of nodes, each with a store of its own, and one run in it."""

    def __init__(self, nodes: int, folder: Path) -> None:
        self.world = SimulatedWorld(Random(1))
        self.stores = [SharedStore(None) for _ in range(nodes)]
        self.nodes = [
            SimulatedNode(n, 1, self.world, store, folder, lambda number, folder: MeasuringTrainer())
            for n, store in enumerate(self.stores)
        ]
        self.run = RunId("")
        self.came_after_the_end = False
        self._folder = folder

    async def start(self, nursery: trio.Nursery) -> None:
        await nursery.start(self.world.run)
        placed = [
            Placed(Keys(n.keys.key, n.keys.member_key, n.keys.seal_key.private_bytes_raw()), n.name, n.disk)
            for n in self.nodes
        ]
        await place_group(self.world, placed, "away", now_s=int(EPOCH_S), random=Random(1))
        data = self._folder / "idle.csv"
        data.write_text("x\n1\n")
        for node in self.nodes:
            real = await nursery.start(node.live)
            await real.service.data_add("idle", str(data), {})
        await until(
            lambda: all(n.node and n.node.groups.neighbours.wanted() <= n.node.groups.connected for n in self.nodes)
        )

    async def propose(self, *, rounds: int, members: int | None = None, timing: str = "") -> None:
        """Start a run of the first `members` nodes; the others decide nothing."""
        members = members or len(self.nodes)
        for number in range(members):
            await self.node(number).service.set_policy(["all"])
        text = CONFIGURATION.format(rounds=rounds, nodes=members) + timing
        self.run = RunId((await self.node(0).service.start_run(text, None, None, {}))["run_id"])
        await until(lambda: all(self.known(n) is not None for n in range(len(self.nodes))))
        await until(lambda: all(self.round(n) >= 0 for n in range(members)))

    def node(self, number: int) -> Node:
        node = self.nodes[number].node
        assert node is not None
        return node

    def known(self, number: int) -> KnownRun | None:
        return self.node(number).runs.known.get(self.run)

    def round(self, number: int) -> int:
        known = self.known(number)
        return known.ledger.committed_round if known is not None and known.ledger is not None else -1

    def has_ended(self, number: int) -> bool:
        known = self.known(number)
        return known is not None and (known.driver.ended.is_set() if known.driver else known.is_over)

    async def rounds(self, number: int) -> dict[int, dict[str, Any]]:
        record = self.node(number).record
        await record.flush()
        return {row["round"]: row for row in await record.query("rounds", run_id=self.run)}

    async def updates(self, number: int) -> list[dict[str, Any]]:
        """What became of each update, but for norms, which only some compute, and the times of commits."""
        told = await self.node(number).record.query("updates", run_id=self.run)
        assert len({(row["round"], row["node_id"]) for row in told}) == len(told) > 0
        own = ("norm", "time", "node_name")
        return [{key: value for key, value in row.items() if key not in own} for row in told]

    async def figures(self, number: int) -> set[tuple[Any, ...]]:
        """What the node's record has of everybody's signed figures. Fails where something is in it twice."""
        record = self.node(number).record
        await record.flush()
        columns = "node_id, scope, split, key, round, value, samples, source_node, sequence"
        _, rows, _ = await record.sql(f"SELECT {columns} FROM metrics WHERE run_id = '{self.run}'", 100_000)
        assert len(rows) == len({(row[-2], row[-1]) for row in rows}), "a figure counts twice"
        return set(rows)

    async def log_lines(self, number: int, about: str) -> list[str]:
        record = self.node(number).record
        await record.flush()
        return [row["message"] for row in await record.query("logs", run_id=self.run) if about in row["message"]]

    async def whole(self, number: int, *, like: int) -> None:
        """Wait until one node's record is like another's. Fails where it is not within a virtual hour."""
        with trio.move_on_after(DEADLINE_S):
            while not await self._is_like(number, like):
                await trio.sleep(1.0)  # virtual time passes
            return
        assert _proven(await self.rounds(number)) == _proven(await self.rounds(like))
        assert await self._told(number, number) == await self._told(like, number)

    async def _is_like(self, number: int, like: int) -> bool:
        if _proven(await self.rounds(number)) != _proven(await self.rounds(like)):
            return False
        return await self._told(number, number) == await self._told(like, number)

    async def _told(self, number: int, late: int) -> set[tuple[Any, ...]]:
        """A node's figures, but for those of the last model by one that may have measured it after the end: of these
        nobody hears."""
        figures = await self.figures(number)
        after = (self.nodes[late].node_id, "global", self.round(late))
        return {key for key in figures if not self.came_after_the_end or (key[0], key[1], key[4]) != after}


def _proven(rounds: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Rounds without what each node sees in its own way."""
    return {
        number: {key: value for key, value in row.items() if key not in ("committed_at", "seconds", "bytes")}
        for number, row in rounds.items()
    }


def seconds_of(row: dict[str, Any]) -> float:
    return datetime.fromisoformat(row["committed_at"]).timestamp()


def play(nodes: int, scenario: Scenario) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory(prefix="fednode-away-") as folder:
            ground = Ground(nodes, Path(folder))
            async with trio.open_nursery() as nursery:
                with trio.fail_after(20 * DEADLINE_S):
                    await ground.start(nursery)
                    await scenario(ground, nursery)
                nursery.cancel_scope.cancel()
            for store in ground.stores:
                store.close()

    run_deterministically(1, main)


async def go_away(ground: Ground, nursery: trio.Nursery, *, after: int, until_round: int) -> None:
    """Node 3 is killed after one round, and starts again after another."""
    await until(lambda: ground.round(3) >= after)
    ground.nodes[3].kill()
    await until(lambda: ground.round(0) >= until_round or ground.has_ended(0))
    if ground.has_ended(0):
        await trio.sleep(60.0)  # virtual time passes: nobody waits for its last report any more
    await nursery.start(ground.nodes[3].live)


def test_who_was_down_for_rounds_has_them_when_it_is_back() -> None:
    """§9.1, §9.2, §9.6."""

    async def scenario(ground: Ground, nursery: trio.Nursery) -> None:
        await ground.propose(rounds=10)
        await go_away(ground, nursery, after=2, until_round=6)
        await until(lambda: all(ground.has_ended(n) for n in range(4)))
        await ground.whole(3, like=0)
        mine, theirs = await ground.rounds(3), await ground.rounds(0)
        assert list(mine) == list(range(1, 11))
        assert await ground.updates(3) == await ground.updates(0)
        assert {key[4] for key in await ground.figures(3) if key[1] == "global"} >= set(range(1, 11))
        for number in range(3, 6):  # what it was told: the true times, and how long each round took
            assert abs(seconds_of(mine[number]) - seconds_of(theirs[number])) < 1.0
            assert abs(mine[number]["seconds"] - theirs[number]["seconds"]) < 1.0
            assert mine[number]["bytes"] == 0
        assert all(0 < row["seconds"] < 60 for row in mine.values()), "the time away is no round's"
        participants = await ground.node(3).record.query("participants", run_id=ground.run)
        assert {row["samples"] for row in participants} == {20}, "those of the newest round"

    play(4, scenario)


def test_who_comes_back_after_the_end_has_the_last_reports_too() -> None:
    """§9.1, §9.5."""

    async def scenario(ground: Ground, nursery: trio.Nursery) -> None:
        await ground.propose(rounds=6)
        await go_away(ground, nursery, after=3, until_round=7)
        await until(lambda: ground.has_ended(3))
        ground.came_after_the_end = True
        await ground.whole(3, like=0)
        assert {key[0] for key in await ground.figures(3) if key[1] == "global" and key[4] == 6} >= {
            ground.nodes[n].node_id for n in range(3)
        }
        for number in range(3):  # and can tell it to the next, when nobody else is there
            ground.nodes[number].kill()
        past = ground.known(3).history.past  # type: ignore[union-attr]
        assert sorted(place.round for place in past.places.values()) == list(range(1, 7))

    play(4, scenario)


def test_who_only_looks_on_and_who_comes_late_have_the_whole_history() -> None:
    """§9.4: whoever is in the group may know."""

    async def scenario(ground: Ground, nursery: trio.Nursery) -> None:
        await ground.propose(rounds=14, members=3)
        await until(lambda: ground.round(0) >= 5)
        await ground.node(4).service.accept(ground.run, None)
        await ground.node(3).service.decline(ground.run, "busy")
        await until(lambda: all(ground.has_ended(n) for n in range(5)))
        await ground.whole(4, like=0)
        await ground.whole(3, like=0)

    play(5, scenario)


def test_who_was_put_out_has_the_rounds_without_it() -> None:
    """§9.2: the end that it was shown a certificate of is where its questions begin."""

    async def scenario(ground: Ground, nursery: trio.Nursery) -> None:
        await ground.propose(rounds=12, timing="[timing]\nleave_after_s = 10.0\nlost_after_s = 5.0\n")
        await until(lambda: ground.round(3) >= 2)
        ground.nodes[3].kill()
        await until(lambda: ground.has_ended(0))
        await nursery.start(ground.nodes[3].live)
        await until(lambda: ground.has_ended(3))
        assert ground.nodes[3].node_id not in ground.known(0).ledger.newest.roster  # type: ignore[union-attr]
        await ground.whole(3, like=0)

    play(4, scenario)


def test_a_crash_before_the_record_was_written_is_made_good_from_the_journal() -> None:
    """§9.1: with nobody else there."""

    async def scenario(ground: Ground, nursery: trio.Nursery) -> None:
        await ground.propose(rounds=10)
        lost = ground.nodes[3]
        before = await ground.rounds(3)

        def die_at_commit(journal: str, record: bytes) -> None:
            if journal.startswith("run-") and b"committed" in record[:20] and ground.round(3) == 5:
                for node in ground.nodes:
                    node.kill()

        lost.disk._on_append = die_at_commit
        await until(lambda: not lost.is_up)
        lost.disk._on_append = None
        await trio.sleep(100.0)  # virtual time passes
        await nursery.start(lost.live)
        assert 5 not in await ground.rounds(3)
        with trio.fail_after(30.0):
            while 5 not in await ground.rounds(3):
                await trio.sleep(0.5)  # virtual time passes
        now = await ground.rounds(3)
        assert list(now) == [1, 2, 3, 4, 5]
        assert seconds_of(now[5]) - seconds_of(now[4]) < 10.0, "not the time of the restart"
        assert len({key for key in await ground.figures(3) if key[1] == "local" and key[4] == 5}) == 4
        assert before == {}

    play(4, scenario)


def test_a_new_store_is_filled_from_the_journal() -> None:
    """§9.1: with nobody else there."""

    async def scenario(ground: Ground, nursery: trio.Nursery) -> None:
        await ground.propose(rounds=5)
        await until(lambda: all(ground.has_ended(n) for n in range(4)))
        rounds, figures = await ground.rounds(3), await ground.figures(3)
        for node in ground.nodes:
            node.kill()
        ground.stores[3].close()
        ground.stores[3] = ground.nodes[3]._store = SharedStore(None)
        await nursery.start(ground.nodes[3].live)
        await until(lambda: ground.has_ended(3))
        await trio.sleep(10.0)  # virtual time passes
        assert _proven(await ground.rounds(3)) == _proven(rounds)
        assert await ground.figures(3) == figures

    play(4, scenario)


# --- bad sources -----------------------------------------------------------------------------------------------------
def asked_first(ground: Ground, monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Have these nodes asked before the others."""
    ids = [ground.nodes[number].node_id for number in numbers]
    monkeypatch.setattr("node.run.history.lot", lambda node, me: "0" if node in ids else "1")


def answer_by(ground: Ground, number: int, answerer: Answerer) -> None:
    ground.node(number).questions._answerers = {HISTORY_QUESTION: answerer}


async def garbage(peer: NodeId, request: bytes) -> AsyncGenerator[bytes, None]:
    yield b"\xff" * 100


async def nothing(peer: NodeId, request: bytes) -> AsyncGenerator[bytes, None]:
    await trio.sleep_forever()
    yield b""


async def no_more(peer: NodeId, request: bytes) -> AsyncGenerator[bytes, None]:
    raise Refused("unknown-checkpoint", "That was lost with a disk", remedy="ask another node")
    yield b""


def retelling(ground: Ground, number: int, change: Callable[[HistoryEntry], HistoryEntry]) -> Answerer:
    """An honest node's answer, with every entry changed."""

    async def answer(peer: NodeId, request: bytes) -> AsyncGenerator[bytes, None]:
        async with aclosing(ground.node(number).runs.histories.answer(peer, request)) as frames:
            async for frame in frames:
                entries = unpack(HistoryAnswer, frame, FRAME_BYTES_MAX).entries
                yield pack(HistoryAnswer(entries=tuple(map(change, entries))))

    return answer


def test_a_false_history_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """§9.2, §9.5: neither rubbish, nor silence, nor a chain that the liar has signed itself keeps the truth away."""

    async def scenario(ground: Ground, nursery: trio.Nursery) -> None:
        def forged(entry: HistoryEntry) -> HistoryEntry:
            body = open_checkpoint(entry.checkpoint).body
            body = body.model_copy(update={"maker": ground.nodes[1].node_id, "updates": body.updates[:1]})
            return entry.model_copy(update={"checkpoint": sign_note(ground.nodes[1].keys.key, body)})

        await ground.propose(rounds=10)
        asked_first(ground, monkeypatch, 0, 1, 2)
        answer_by(ground, 0, garbage)
        answer_by(ground, 1, retelling(ground, 1, forged))
        answer_by(ground, 2, nothing)
        honest = ground.node(4).runs.histories

        async def little_by_little(peer: NodeId, request: bytes) -> AsyncGenerator[bytes, None]:
            async with aclosing(honest.answer(peer, request)) as frames:
                yield pack(
                    HistoryAnswer(entries=unpack(HistoryAnswer, await anext(frames), FRAME_BYTES_MAX).entries[:2])
                )

        answer_by(ground, 4, little_by_little)
        await go_away(ground, nursery, after=2, until_round=100)
        await until(lambda: all(ground.has_ended(n) for n in range(5)))
        ground.came_after_the_end = True
        await ground.whole(3, like=4)
        assert len(await ground.log_lines(3, "false history")) == 2, "a liar is asked once"

    play(5, scenario)


def test_reports_of_strangers_are_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """§9.3: whoever tells the history adds nothing to it and changes nothing in it."""

    async def scenario(ground: Ground, nursery: trio.Nursery) -> None:
        stranger = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
        stranger_id = node_id_of(public_key_of(stranger))

        def added(entry: HistoryEntry) -> HistoryEntry:
            reports = [open_report(raw).body for raw in entry.reports]
            strange = [
                sign_note(stranger, report.model_copy(update={"node": stranger_id, "metrics": {"accuracy": 1.0}}))
                for report in reports
            ]
            altered = [raw.replace(b"accuracy", b"accurasy") for raw in entry.reports]
            return entry.model_copy(update={"reports": (*strange, *altered, *entry.reports)})

        await ground.propose(rounds=10)
        asked_first(ground, monkeypatch, 0, 1, 2)
        for number in range(3):
            answer_by(ground, number, retelling(ground, number, added))
        await go_away(ground, nursery, after=2, until_round=6)
        await until(lambda: all(ground.has_ended(n) for n in range(4)))
        await ground.whole(3, like=0)
        assert stranger_id not in {key[0] for key in await ground.figures(3)}

    play(4, scenario)


def test_the_only_source_is_waited_for() -> None:
    """§9.6."""

    async def scenario(ground: Ground, nursery: trio.Nursery) -> None:
        await ground.propose(rounds=10)
        for number in (0, 1):
            answer_by(ground, number, no_more)
        answer_by(ground, 2, nothing)
        await go_away(ground, nursery, after=2, until_round=6)
        await until(lambda: ground.round(3) >= 7)
        ground.nodes[2].kill()
        await until(lambda: all(ground.has_ended(n) for n in (0, 1, 3)))
        await trio.sleep(300.0)  # virtual time passes
        assert 4 not in await ground.rounds(3)
        assert not await ground.log_lines(3, "any more")
        await nursery.start(ground.nodes[2].live)
        await ground.whole(3, like=0)

    play(4, scenario)


def test_what_nobody_has_any_more_is_told_of_once() -> None:
    """§9.6."""

    async def scenario(ground: Ground, nursery: trio.Nursery) -> None:
        asked: list[NodeId] = []

        async def counted(peer: NodeId, request: bytes) -> AsyncGenerator[bytes, None]:
            asked.append(peer)
            async with aclosing(no_more(peer, request)) as frames:
                async for frame in frames:
                    yield frame

        await ground.propose(rounds=10)
        for number in range(3):
            answer_by(ground, number, counted)
        await go_away(ground, nursery, after=2, until_round=6)
        await until(lambda: all(ground.has_ended(n) for n in range(4)))
        await trio.sleep(60.0)  # virtual time passes
        times = len(asked)
        await trio.sleep(DEADLINE_S)  # virtual time passes
        assert len(asked) == times
        [line] = await ground.log_lines(3, "any more")
        assert "no node of the run has them" in line
        mine = await ground.rounds(3)
        assert {1, 2, 10} <= set(mine)
        assert 4 not in mine

    play(4, scenario)


def test_a_stranger_is_told_nothing() -> None:
    """§9.4."""

    async def scenario(ground: Ground, nursery: trio.Nursery) -> None:
        await ground.propose(rounds=3)
        await until(lambda: ground.has_ended(0))
        newest = ground.known(0).ledger.committed.name  # type: ignore[union-attr]
        histories = ground.node(0).runs.histories
        stranger = node_id_of(public_key_of(Ed25519PrivateKey.from_private_bytes(b"s" * 32)))
        for peer, run, name, code in (
            (stranger, ground.run, newest, "no-such-run"),
            (ground.nodes[1].node_id, "0" * 64, newest, "no-such-run"),
            (ground.nodes[1].node_id, ground.run, "0" * 64, "unknown-checkpoint"),
        ):
            with pytest.raises(Refused) as refused:
                await anext(histories.answer(peer, pack(HistoryRequest(run=run, newest=name))))
            assert refused.value.code == code
        frame = await anext(
            histories.answer(ground.nodes[1].node_id, pack(HistoryRequest(run=ground.run, newest=newest)))
        )
        assert len(unpack(HistoryAnswer, frame, FRAME_BYTES_MAX).entries) == 3

    play(3, scenario)
