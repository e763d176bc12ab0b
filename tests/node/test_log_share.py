"""A run's log of all nodes: who is shown what, by whose leave, and that no node holds up or floods who reads."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from hostile_ground import HostileGround, Life, on_hostile_ground

from node.api.service.service import AllLogsQuery, NotFound
from node.logs.gather import ANSWER_DEADLINE_S, END_PATIENCE_S
from node.logs.listen import ASK_AGAIN_S
from node.logs.redact import redact
from node.logs.share import (
    ANSWER_BYTES_MAX,
    FRAME_LINES_MAX,
    LINE_CHARACTERS_MAX,
    LINES_MAX,
    LINES_PER_S,
    LOGS_QUESTION,
    MEMBER_CHARACTERS_BURST,
    MEMBER_CHARACTERS_PER_S,
    LogsWanted,
    SharedLine,
    SharedLines,
    private_words,
)
from node.seams import Unreachable
from protocol.errors import Refused, RemoteProtocolError
from protocol.keys import NodeId, RunId
from protocol.limits import FRAME_BYTES_MAX
from protocol.wire import hash_of, pack, unpack

LONG_RUN = 100_000  # rounds: the test stops it
PATH = "/srv/cohort/alice.csv"


async def run_under_way(ground: HostileGround, lives: list[Life], rounds: int = LONG_RUN) -> RunId:
    run = await ground.propose(lives[0], rounds=rounds, nodes=len(lives))

    def goes_on(life: Life) -> bool:
        known = life.node.runs.known.get(run)
        return known is not None and known.driver is not None and known.driver.machine.ledger.committed_round >= 1

    await ground.settled(lambda: all(map(goes_on, lives)), "the first round")
    return run


def say(life: Life, run: RunId, level: str, text: str) -> None:
    life.node.runs.known[run].chronicle.log(level, "task.log", text)


async def gathered(life: Life, run: str, **query: Any) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The lines, and of whom there are none, with the reason."""
    events: list[dict[str, Any]] = []

    async def take(batch: list[dict[str, Any]]) -> None:
        events.extend(batch)

    await (await life.node.service.all_logs.prepare(run, AllLogsQuery(**query))).run(take)
    lines = [line for event in events if event["type"] == "logs" for line in event["logs"]]
    return lines, {event["node_name"]: event["reason"] for event in events if event["type"] == "node"}


async def answer(asker: Life, peer: Life, run: str, **wanted: Any) -> list[SharedLine]:
    """What `peer` answers to a question of `asker`'s."""
    body = {"run": run, "level": "DEBUG", "after": None, "limit": 1000, "follow": False, **wanted}
    ask = asker.node.questions.ask(
        peer.node.identity.node_id, LOGS_QUESTION, pack(LogsWanted(**body)), bytes_max=ANSWER_BYTES_MAX
    )
    return [line async for frame in ask for line in unpack(SharedLines, frame, FRAME_BYTES_MAX).lines]


def test_each_owner_decides_what_of_its_log_the_others_read(tmp_path: Path) -> None:
    """§8.25."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(4)
        run, other = await run_under_way(ground, lives), await ground.propose(lives[0], nodes=4, name="other")
        await ground.settled(lambda: all(other in life.node.runs.known for life in lives), "another run")
        for life, policy in zip(lives[1:], ("none", "errors", "all"), strict=True):
            assert await life.node.service.all_logs.policy() == "none"
            await life.node.service.all_logs.set_policy(policy)
            name = life.node.identity.name
            say(life, run, "INFO", f"info of {name} from {PATH}")
            say(life, run, "ERROR", f"error of {name} from {PATH}")
            say(life, other, "ERROR", f"other of {name}")
        say(lives[0], run, "INFO", f"mine from {PATH}")
        await trio.sleep(1)  # virtual time: the record is written
        lines, reasons = await gathered(lives[0], run)
        told = [line["message"] for line in lines if " of " in line["message"] or "mine" in line["message"]]
        assert sorted(told) == [
            "error of node-2 from <path>",
            "error of node-3 from <path>",
            "info of node-3 from <path>",
            f"mine from {PATH}",  # our own, as it is
        ]
        assert {line["run_id"] for line in lines} == {run}
        assert {line["node_name"] for line in lines} == {"node-0", "node-2", "node-3"}
        assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
        assert reasons == {"node-1": "Its owner shares no logs", "node-2": "Its owner shares errors alone"}
        _, reasons = await gathered(lives[0], run, level="ERROR")
        assert reasons == {"node-1": "Its owner shares no logs"}
        lines, reasons = await gathered(lives[0], "run", level="ERROR", node="node-3", limit=1)
        assert [(line["message"], line["level"]) for line in lines] == [("error of node-3 from <path>", "ERROR")]
        assert not reasons
        with pytest.raises(NotFound, match="No run is called 'nothing'"):
            await gathered(lives[0], "nothing")
        with pytest.raises(NotFound, match="takes no part in run"):
            await gathered(lives[0], run, node="node-9")

    on_hostile_ground(tmp_path, test)


def test_only_who_has_to_do_with_a_run_reads_of_it_and_no_observer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """§8.25."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(4)
        _, member, proposer, outsider = lives
        await outsider.node.service.set_policy([])
        invitation = await lives[0].node.service.invite(None, "observer", 1, 86_400)
        observer = await ground.born()
        await observer.node.service.join(invitation["token"])
        for life in lives:
            await life.node.service.all_logs.set_policy("all")
        run = await ground.propose(proposer, rounds=LONG_RUN, nodes=3)
        known = member.node.runs.known
        await ground.settled(lambda: run in known and known[run].driver is not None, "the start")
        await ground.settled(lambda: all(run in life.node.runs.known for life in ground.lives), "the proposal")
        say(member, run, "INFO", "a word")
        await trio.sleep(1)  # virtual time: the record is written
        for reader in (lives[0], proposer):
            assert "a word" in [line.text for line in await answer(reader, member, run)]
        for stranger in (outsider, observer):
            with pytest.raises(Refused, match="shows you no log of this run"):
                await answer(stranger, member, run)
        with pytest.raises(Refused, match="shows you no log of this run"):
            await answer(proposer, outsider, run)  # which takes no part, and has nothing to say
        with pytest.raises(Refused, match="shows you no log of this run"):
            await answer(proposer, member, hash_of(b"no run"))
        state, mine = member.place.state(), proposer.node.identity.member_id
        demoted = replace(state, members={**state.members, mine: replace(state.members[mine], role="observer")})
        monkeypatch.setattr(member.place, "state", lambda: demoted)
        with pytest.raises(Refused, match="shows you no log of this run"):
            await answer(proposer, member, run)  # which takes part, and observes alone since
        ask = proposer.node.questions.ask(member.node.identity.node_id, LOGS_QUESTION, b"x", bytes_max=100)
        with pytest.raises(Refused, match="does not fit"):
            await anext(ask)

    on_hostile_ground(tmp_path, test)


def test_lines_are_followed_to_the_runs_end_and_a_policy_counts_at_once(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await run_under_way(ground, lives)
        for life in lives:
            await life.node.service.all_logs.set_policy("all")
        events: list[dict[str, Any]] = []

        async def take(batch: list[dict[str, Any]]) -> None:
            events.extend(batch)

        def heard(text: str) -> list[dict[str, Any]]:
            lines = [line for event in events if event["type"] == "logs" for line in event["logs"]]
            return [line for line in lines if text in line["message"]]

        gathering = await lives[0].node.service.all_logs.prepare(run, AllLogsQuery(follow=True))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gathering.run, take)
            await ground.settled(lambda: events, "the first lines")
            for number in range(2):
                for life in lives:
                    say(life, run, "INFO", f"word {number} of {life.number}")
                await ground.settled(lambda: len(heard("word")) == 3 * (number + 1), "the words", 5)  # noqa: B023
            await lives[2].node.service.all_logs.set_policy("none")
            say(lives[2], run, "INFO", "a secret")
            await ground.settled(lambda: any(event["type"] == "node" for event in events), "the refusal", 10)
            await lives[0].node.service.stop_run(run, "enough")
            await ground.ended(run, lives)
        assert not heard("a secret")
        assert [event["node_name"] for event in events if event["type"] == "node"] == ["node-2"]
        assert {line["node_name"] for line in heard("the run is stopped")} >= {"node-0", "node-1"}
        assert len({(line["node_id"], line["seq"]) for line in heard("")}) == len(heard(""))

    on_hostile_ground(tmp_path, test)


def test_nobody_holds_up_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that never answers, one that is not there and one that says nonsense, beside one that shares."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(5)
        run = await run_under_way(ground, lives)
        silent, gone, liar, honest = (life.node.identity.node_id for life in lives[1:])
        await lives[4].node.service.all_logs.set_policy("all")
        asker, real = lives[0].node.questions, lives[0].node.questions.ask

        async def ask(peer: NodeId, kind: str, request: bytes, *, bytes_max: int) -> AsyncGenerator[bytes, None]:
            if peer == silent:
                await trio.sleep_forever()
            if peer == gone:
                raise Unreachable("It is not there", remedy="wait")
            if peer == liar:
                raise RemoteProtocolError("It says nonsense")
            assert peer == honest
            async for frame in real(peer, kind, request, bytes_max=bytes_max):
                yield frame

        monkeypatch.setattr(asker, "ask", ask)
        began = trio.current_time()
        lines, reasons = await gathered(lives[0], run)
        assert trio.current_time() - began < ANSWER_DEADLINE_S + 1
        assert {line["node_name"] for line in lines} == {"node-0", "node-4"}
        assert reasons == {
            "node-1": "It has not answered within 10 s",
            "node-2": "It is not there",
            "node-3": "It says nonsense",
        }
        events: list[dict[str, Any]] = []

        async def take(batch: list[dict[str, Any]]) -> None:
            events.extend(batch)

        gathering = await lives[0].node.service.all_logs.prepare(run, AllLogsQuery(follow=True))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gathering.run, take)
            await ground.settled(lambda: any("logs" in event for event in events), "lines", ANSWER_DEADLINE_S + 1)
            await trio.sleep(2 * ASK_AGAIN_S)  # virtual time passes
            await lives[0].node.service.stop_run(run, "enough")
            await ground.ended(run, lives)
            with trio.fail_after(END_PATIENCE_S + ASK_AGAIN_S):
                while nursery.child_tasks:
                    await trio.sleep(0.5)  # virtual time passes
        assert sum(event["type"] == "node" for event in events) == 3  # each reason once

    on_hostile_ground(tmp_path, test)


def test_a_node_that_says_too_much_is_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(2)
        run = await run_under_way(ground, lives)
        flood = lives[1].node.identity.node_id

        async def ask(peer: NodeId, kind: str, request: bytes, *, bytes_max: int) -> AsyncGenerator[bytes, None]:
            assert peer == flood
            for number in range(0, 3 * LINES_MAX, FRAME_LINES_MAX):
                lines = tuple(
                    SharedLine(
                        sequence=place // 2,  # half of them say a number that was said before
                        time="2026-01-01T00:00:00.000000Z",
                        level="INFO",
                        logger="x",
                        text="x",
                    )
                    for place in range(2 * number, 2 * (number + FRAME_LINES_MAX), 2)
                )
                yield pack(SharedLines(lines=lines, is_through=False, is_part=False))

        monkeypatch.setattr(lives[0].node.questions, "ask", ask)
        lines, reasons = await gathered(lives[0], run, node="node-1", limit=LINES_MAX)
        assert len(lines) == LINES_MAX
        assert reasons == {"node-1": "It says too much: some of its lines are left out"}

    on_hostile_ground(tmp_path, test)


def test_an_answer_is_bounded_and_goes_on_no_faster_than_a_person_reads(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(2)
        run = await run_under_way(ground, lives)
        await lives[1].node.service.all_logs.set_policy("all")
        for number in range(400):
            say(lives[1], run, "ERROR", f"old {number} " + "x y" * LINE_CHARACTERS_MAX)
        await trio.sleep(1)  # virtual time: the record is written
        lines = await answer(lives[0], lives[1], run, level="ERROR", limit=LINES_MAX)
        assert 100 < len(lines) < 400  # the newest, of two million characters
        assert lines[-1].text.startswith("old 399 ")
        assert all(LINE_CHARACTERS_MAX - 9 < len(line.text) <= LINE_CHARACTERS_MAX for line in lines)
        assert len(await answer(lives[0], lives[1], run, level="ERROR", limit=10)) == 10

        follow = LogsWanted(run=run, level="CRITICAL", after=None, limit=1, follow=True)
        peer = lives[1].node.identity.node_id
        came: list[tuple[float, int]] = []
        ask = lives[0].node.questions.ask(peer, LOGS_QUESTION, pack(follow), bytes_max=ANSWER_BYTES_MAX)
        first = unpack(SharedLines, await anext(ask), FRAME_BYTES_MAX)
        assert (first.lines, first.is_through) == ((), True)
        for number in range(500):
            say(lives[1], run, "CRITICAL", f"new {number}")
        began = trio.current_time()
        while sum(count for _, count in came) < 500:
            lines = list(unpack(SharedLines, await anext(ask), FRAME_BYTES_MAX).lines)
            came.append((trio.current_time(), len(lines)))
        await ask.aclose()
        assert trio.current_time() - began > 300 / LINES_PER_S

    on_hostile_ground(tmp_path, test)


class Steps(trio.abc.Instrument):
    """Counts what is redacted, and the most of it in one step of a task."""

    def __init__(self) -> None:
        self.characters: list[int] = []
        self.most_in_a_step = self._in_this_step = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._in_this_step = 0

    def redact(self, text: str, private: frozenset[str] = frozenset()) -> str:
        self.characters.append(min(len(text), LINE_CHARACTERS_MAX))
        self._in_this_step += 1
        self.most_in_a_step = max(self.most_in_a_step, self._in_this_step)
        return redact(text, private)


def test_questions_keep_the_node_busy_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line in a step, and for one member so many characters and no more, however often its nodes ask."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(2)
        run = await run_under_way(ground, lives)
        await lives[1].node.service.all_logs.set_policy("all")
        for number in range(600):
            say(lives[1], run, "ERROR", f"{number} " + "'" * 2 * LINE_CHARACTERS_MAX)
        await trio.sleep(1)  # virtual time: the record is written
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        monkeypatch.setattr("node.logs.share.redact", steps.redact)
        began = trio.current_time()

        async def ask() -> None:
            assert len(await answer(lives[0], lives[1], run, level="ERROR", limit=LINES_MAX)) > 200

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
        took_s = trio.current_time() - began
        assert steps.most_in_a_step == 1
        redacted = sum(steps.characters)
        assert redacted > 2 * MEMBER_CHARACTERS_BURST
        held_up = 4 * LINE_CHARACTERS_MAX  # a line of each answer, for which is waited afterwards
        assert redacted <= MEMBER_CHARACTERS_BURST + took_s * MEMBER_CHARACTERS_PER_S + held_up
        assert took_s < 3 * 60  # of virtual time, and none was given up

    on_hostile_ground(tmp_path, test)


def test_what_has_become_private_goes_from_the_next_line_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(2)
        run = await run_under_way(ground, lives)
        await lives[1].node.service.all_logs.set_policy("all")
        follow = LogsWanted(run=run, level="CRITICAL", after=None, limit=1, follow=True)
        peer = lives[1].node.identity.node_id
        ask = lives[0].node.questions.ask(peer, LOGS_QUESTION, pack(follow), bytes_max=ANSWER_BYTES_MAX)
        unpack(SharedLines, await anext(ask), FRAME_BYTES_MAX)
        data = lives[1].node.data_sets.all()[0]
        object.__setattr__(data, "options", {"label": "diagnosis"})  # as when a data set is registered anew
        say(lives[1], run, "CRITICAL", "what about diagnosis")
        told = list(unpack(SharedLines, await anext(ask), FRAME_BYTES_MAX).lines)
        await ask.aclose()
        assert [line.text for line in told] == ["what about <private>"]

    on_hostile_ground(tmp_path, test)


def test_what_a_node_knows_to_be_private(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        (life,) = await ground.group(1)
        data = life.node.data_sets.all()[0]
        object.__setattr__(
            data, "options", {"label": "diagnosis", "bins": [3, 1850], "deep": {"key": "sick"}, "on": True}
        )
        words = private_words(life.node)
        assert {data.path, "diagnosis", "1850", "sick"} <= words
        assert {"3", "True", "", "/", "root"}.isdisjoint(words)

    on_hostile_ground(tmp_path, test)


def test_a_policy_outlives_a_restart(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        (life,) = await ground.group(1)
        await life.node.service.all_logs.set_policy("errors")
        await ground.restart(life)
        assert await life.node.service.all_logs.policy() == "errors"
        await life.disk.write("log-policy", b"everything")
        await ground.restart(life)
        assert await life.node.service.all_logs.policy() == "none"  # what is not understood allows nothing

    on_hostile_ground(tmp_path, test)
