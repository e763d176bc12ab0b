"""A task that fails: all of it for its owner, one line without data for the run's proposer, whatever the policy."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import trio
from hostile_ground import HostileGround, Life, on_hostile_ground

from fednode import TaskError
from node.run.chronicle import Chronicle, Numbers
from node.run.failures import AGAIN_FIRST_S, AGAIN_LAST_S, FAILURES_MAX, in_one_line
from node.seams import TrainerFailed
from node.training.task_loading import telling_failures
from node.training.training import LoadedTask
from protocol.errors import RemoteProtocolError
from protocol.keys import NodeId, RunId
from protocol.limits import FRAME_BYTES_MAX
from protocol.run.events import ParticipantState
from protocol.run.messages import FAILURE_CHARACTERS_MAX, Failure, FailureHeard, RunMessage
from protocol.wire import Wire, hash_of, pack, unpack
from simulations.world.record import SimulatedRecord
from tracker.tables.rows import Row, StatusRow

SECRET = "patient Alice of /srv/cohort/alice.csv"
RUN = hash_of(b"a run")


def break_task(monkeypatch: pytest.MonkeyPatch, life: Life, method: str, round_number: int) -> None:
    """From now on the task raises at this node, in this round."""
    real, node_id = getattr(LoadedTask, method), life.node.identity.node_id

    def failing(self: LoadedTask, number: int, *arguments: Any, **options: Any) -> Any:
        if self._spec.node_id == node_id and number == round_number:
            with telling_failures(method, __file__):
                raise ValueError(SECRET)
        return real(self, number, *arguments, **options)

    monkeypatch.setattr(LoadedTask, method, failing)


async def lines_of(life: Life, run: RunId, level: str = "WARNING") -> list[str]:
    await trio.sleep(1)  # virtual time: the record is written
    me = life.node.identity.node_id
    return [row["message"] for row in await life.node.record.query("logs", run_id=run, node=me, level=level)]


async def told_in(life: Life, run: RunId) -> list[str]:
    return [line for line in await lines_of(life, run) if "the task failed at" in line]


def test_the_owner_sees_the_traceback_and_the_proposer_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """§8.23: though the owner shares no logs; and nobody else is told."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        break_task(monkeypatch, lives[2], "train", 2)
        run = await ground.propose(lives[0], rounds=4, nodes=3)
        await ground.settled(lambda: run in lives[0].node.runs.known, "the proposal")
        states: list[tuple[str, str, str]] = []
        monkeypatch.setattr(
            lives[0].node.runs.known[run].chronicle,
            "state",
            lambda node, state, reason, round_number=0: states.append((node, state, reason)),
        )
        await ground.ended(run, lives)
        (line,) = await told_in(lives[0], run)
        assert line.startswith("the task failed at node-2: ValueError in test_run_failures.py line ")
        assert line.endswith(" (round 2)")
        assert SECRET not in "".join(await lines_of(lives[0], run))
        failed = {(state, reason) for node, state, reason in states if node == lives[2].node.identity.node_id}
        assert ("FAILED", line.removeprefix("the task failed at node-2: ")) in failed
        assert ("FAILED", "") not in failed  # the letter that comes with heartbeats takes no reason away
        own = "\n".join(await lines_of(lives[2], run, "ERROR"))
        assert f"raise ValueError(SECRET)\nValueError: {SECRET}" in own
        assert not await told_in(lives[1], run)
        assert await lives[2].disk.read(f"run-{run}.failure") is None

    on_hostile_ground(tmp_path, test)


def test_a_measurement_that_fails_is_told_too_and_ends_nobodys_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """§8.23."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        break_task(monkeypatch, lives[1], "evaluate", 1)
        run = await ground.propose(lives[0], rounds=3, nodes=3)
        await ground.ended(run, lives)
        (line,) = await told_in(lives[0], run)
        assert line.startswith("the task failed at node-1: ValueError in ")
        assert line.endswith(" (measuring round 1)")
        rows = await lives[0].node.service.rounds(run)
        assert [row["updates_used"] for row in rows] == [3, 3, 3]

    on_hostile_ground(tmp_path, test)


def test_a_proposer_that_was_away_hears_of_it_when_it_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """§8.23: over a restart of the node that failed too."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(4)
        proposer, *others = lives
        break_task(monkeypatch, others[2], "train", 8)
        run = await ground.propose(proposer, rounds=10, nodes=4)
        await ground.settled(lambda: run in others[2].node.runs.known, "the proposal")
        known = others[2].node.runs.known[run]
        await ground.settled(lambda: known.ledger is not None and known.ledger.committed_round >= 1, "a round")
        proposer.scope.cancel()
        await proposer.ended.wait()
        await ground.ended(run, others)
        await ground.restart(others[2])
        assert await others[2].disk.read(f"run-{run}.failure") is not None
        await trio.sleep(2 * AGAIN_LAST_S)  # virtual time passes
        await ground.restart(proposer)
        await trio.sleep(2 * AGAIN_LAST_S)  # virtual time passes
        (line,) = await told_in(proposer, run)
        assert "the task failed at node-3: ValueError in test_run_failures.py line " in line
        assert await others[2].disk.read(f"run-{run}.failure") is None

    on_hostile_ground(tmp_path, test)


def test_of_others_and_of_floods_nothing_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """§8.24."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        outsider = lives[2]
        await outsider.node.service.set_policy([])
        run = await ground.propose(lives[0], rounds=2, nodes=2)
        await ground.ended(run, lives[:2])
        runs, sent = lives[0].node.runs, list[tuple[NodeId, RunMessage]]()
        monkeypatch.setattr(runs.failures, "_send", lambda peer, message: sent.append((peer, message)))

        async def tell(life: Life, round_number: int, goes_on: bool = True) -> None:
            failure = Failure(run=run, round=round_number, goes_on=goes_on, reason=f"it broke ({round_number})")
            await runs.on_message(life.node.identity.node_id, pack(failure))

        await tell(outsider, 1)
        assert (sent, await told_in(lives[0], run)) == ([], [])
        for _ in range(2):
            await tell(lives[1], 1)
        answer = FailureHeard(run=run, round=1, goes_on=True)
        assert sent == [(lives[1].node.identity.node_id, answer)] * 2
        assert await told_in(lives[0], run) == ["the task failed at node-1: it broke (1)"]
        for number in range(2, 3 * FAILURES_MAX):
            await tell(lives[1], number)
        assert len(await told_in(lives[0], run)) == FAILURES_MAX
        await lives[1].node.runs.on_message(lives[0].node.identity.node_id, pack(answer))  # an answer to nothing
        failure = Failure(run=run, round=1, goes_on=False, reason="not ours")
        await lives[1].node.runs.on_message(lives[0].node.identity.node_id, pack(failure))  # it did not propose the run
        assert not await told_in(lives[1], run)

    on_hostile_ground(tmp_path, test)


def test_only_the_proposers_answer_to_the_very_failure_ends_its_telling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """§8.23: and the newest failure is told in place of an earlier one."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await ground.propose(lives[0], rounds=2, nodes=3)
        await ground.ended(run, lives)
        runs = lives[1].node.runs
        known, sent = runs.known[run], list[tuple[float, int]]()
        monkeypatch.setattr(
            runs.failures, "_send", lambda peer, message: sent.append((trio.current_time(), message.round))
        )
        began = trio.current_time()
        await runs.failures.tell(known, 1, TrainerFailed("one", remedy="mend it"), True)
        await trio.sleep(AGAIN_FIRST_S + 1)  # virtual time passes
        proposer, other = lives[0].node.identity.node_id, lives[2].node.identity.node_id
        heard = FailureHeard(run=run, round=2, goes_on=False)
        runs.failures.on_message(known, proposer, heard)
        await runs.failures.tell(known, 2, TrainerFailed("two", remedy="mend it"), False)
        runs.failures.on_message(known, other, heard)
        await trio.sleep(3 * AGAIN_LAST_S)  # virtual time passes
        assert [number for _, number in sent[:3]] == [1, 1, 2]
        pauses = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(sent[2:])]
        assert pauses[:3] == pytest.approx([AGAIN_FIRST_S, 2 * AGAIN_FIRST_S, 4 * AGAIN_FIRST_S])
        assert max(pauses) == pytest.approx(AGAIN_LAST_S)
        runs.failures.on_message(known, proposer, heard)
        count = len(sent)
        await trio.sleep(2 * AGAIN_LAST_S)  # virtual time passes
        assert len(sent) == count
        assert sent[0][0] - began < 1
        assert await lives[1].disk.read(f"run-{run}.failure") is None

    on_hostile_ground(tmp_path, test)


def test_a_full_disk_keeps_nobody_from_telling(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(2)
        run = await ground.propose(lives[0], rounds=1, nodes=2)
        await ground.ended(run, lives)
        lives[1].disk.is_full = True
        known = lives[1].node.runs.known[run]
        await lives[1].node.runs.failures.tell(known, 1, TrainerFailed("it broke", remedy="mend it"), False)
        await ground.settled(lambda: not lives[1].node.runs.failures._untold, "the answer", AGAIN_FIRST_S)
        assert await told_in(lives[0], run) == ["the task failed at node-1: it broke (round 1)"]
        own = lives[0].node.runs
        await own.failures.tell(own.known[run], 1, TrainerFailed("mine", remedy="mend it"), False)
        assert not own.failures._untold  # who proposed the run itself knows

    on_hostile_ground(tmp_path, test)


# --- one line ----------------------------------------------------------------------------------------------------
class Oddly(Exception):
    pass


Oddly.__name__ = "Alice is 34"


def raising(error: Exception) -> TrainerFailed:
    with pytest.raises(TrainerFailed) as failed, telling_failures("Training", __file__):
        raise error
    return failed.value


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError(SECRET), "ValueError in test_run_failures.py line {} (round 3)"),
        (TaskError(SECRET, remedy="none"), "TaskError in test_run_failures.py line {} (round 3)"),
        (MemoryError(), "MemoryError in test_run_failures.py line {} (round 3)"),
        (Oddly(SECRET), "an exception in test_run_failures.py line {} (round 3)"),
        (SyntaxError("bad", ("/srv/cohort/my_task.py", 7, 1, SECRET)), "SyntaxError in my_task.py line 7 (round 3)"),
    ],
)
def test_an_exception_is_told_by_its_kind_and_place(error: Exception, line: str) -> None:
    told = raising(error)
    assert "line" in told.brief
    number = told.brief.rpartition(" ")[2]
    assert in_one_line(told, 3, goes_on=False) == line.format(number)
    assert SECRET in told.traceback or isinstance(error, MemoryError | SyntaxError)


def test_fednodes_own_words_are_told_without_what_is_private() -> None:
    killed = TrainerFailed("The worker process was killed (SIGKILL), as the system does", remedy="less")
    assert in_one_line(killed, 3, goes_on=True) == (
        "The worker process was killed (SIGKILL), as the system does (measuring round 3)"
    )
    unread = TrainerFailed("The base model /home/alice/work/base cannot be read\n(no)", remedy="look")
    assert in_one_line(unread, 3, goes_on=False) == "The base model <path> cannot be read (no) (round 3)"
    assert len(in_one_line(TrainerFailed("long " * 500, remedy="look"), 10_000_000, True)) <= FAILURE_CHARACTERS_MAX
    Failure(run=RUN, round=1, goes_on=True, reason=in_one_line(TrainerFailed("", remedy=""), 1, True))


class Unchecked(Wire):
    kind: str = "failure"
    run: str = RUN
    round: int = 1
    goes_on: bool = False
    reason: str


@pytest.mark.parametrize("reason", ["", "two\nlines", "a\x1b[31m colour", "x" * (FAILURE_CHARACTERS_MAX + 1)])
def test_a_line_that_is_none_is_refused(reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=r"does not fit at failure\.reason"):
        unpack(RunMessage, pack(Unchecked(reason=reason)), FRAME_BYTES_MAX)  # type: ignore[arg-type]


def test_a_state_that_is_told_again_without_a_reason_keeps_the_one_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Row] = []
    record = SimulatedRecord("me")
    monkeypatch.setattr(record, "add", lambda *added: rows.extend(added))

    def chronicle() -> Chronicle:
        return Chronicle(
            RunId(RUN), NodeId("me"), record, now=lambda: 1.0, sequence=Numbers(lambda: 1.0), changed=lambda *_: None
        )

    def reasons() -> list[str]:
        return [f"{row.state} {row.reason}" for row in rows if isinstance(row, StatusRow)]

    first = chronicle()
    first.failure("other", "Other", Failure(run=RUN, round=1, goes_on=False, reason="it broke"))
    for state in ("TRAINING", "FAILED", "FAILED"):
        first.participant(ParticipantState(NodeId("other"), state, 1))
    assert reasons() == ["FAILED it broke", "TRAINING ", "FAILED it broke"]
    again = chronicle()
    monkeypatch.setattr(again, "_row", None, raising=False)
    again._failed["other"] = "it broke"
    again.participant(ParticipantState(NodeId("other"), "FAILED", 1, "another"))
    assert reasons()[-1] == "FAILED another"
