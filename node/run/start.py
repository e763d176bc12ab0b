"""The proposer's part before a run goes on: answers are gathered, the starting model made, the start signed.

docs/protocol.md §6. From the start on the run does not need its proposer.
"""

from collections.abc import Awaitable, Callable

import trio

from node.run.known_run import KnownRun
from node.run.plan import task_spec
from node.seams import Disk, TaskSpec, Trainer, TrainerFailed
from protocol.errors import FednodeError, RemoteProtocolError
from protocol.fields import as_text
from protocol.group.operation_kinds import Payload, RunStop
from protocol.group.operation_kinds import RunStart as RunStartOperation
from protocol.keys import BlobId, NodeId
from protocol.limits import OPERATION_BYTES_MAX
from protocol.run.checkpoint import Checkpoint, RunStart, open_ready
from protocol.run.voters import trainers_of
from protocol.wire import pack

# Once enough nodes are ready, others that are here get so long to answer: policies answer at once, people later,
# and who is later still enters at the next round.
START_GRACE_S = 3.0

# How the reason begins when nobody wanted the run stopped: it then counts as failed.
COULD_NOT_START = "the run could not start: "
START_BYTES_MAX = OPERATION_BYTES_MAX - 4096  # with the operation's own fields and signature around it

Say = Callable[[KnownRun, Payload], Awaitable[None]]


async def see_to_start(
    known: KnownRun,
    *,
    me: NodeId,
    disk: Disk,
    trainer: Trainer,
    say: Say,
    task_path: str | None,
    now: Callable[[], float],
    news: Callable[[], trio.Event],
    present: Callable[[], frozenset[NodeId]],
    parent: Callable[[], Checkpoint | None],
) -> None:
    """Wait until enough nodes are ready and start the run; or stop it when its join deadline passes. Raises Refused and
    FednodeError when the group's log does not take that.

    `news()` is an event that is set when an answer comes; `present()` are the nodes that are here to answer; `parent()`
    is the newest checkpoint of the run that the manifest names as this one's parent, where that is held here.
    """
    roster = known.manifest.roster
    rest_s = known.entry.proposed_at + roster.join_deadline_s - now()
    with trio.move_on_after(max(0.0, rest_s)):
        while (lack := _lack(known)) and not known.over:
            known.chronicle.note(lack.format(are="are"))
            await news().wait()
        with trio.move_on_after(START_GRACE_S):
            while not present() <= {*known.answers, *known.declined} and not known.over:
                await news().wait()
    if known.over:
        return  # somebody stopped it meanwhile
    if lack := _lack(known):
        reason = f"{COULD_NOT_START}{lack.format(are='were')} when the join deadline passed"
        await say(known, RunStop(run=known.run_id, reason=reason))
        return
    known.starting = True
    try:
        schema, model = await _starting_model(known, me, disk, trainer, task_path, parent())
    except FednodeError as error:
        known.chronicle.log("ERROR", "fednode.run", f"The starting model could not be made: {error}")
        if isinstance(error, TrainerFailed) and error.traceback:
            known.chronicle.log("ERROR", "task.traceback", error.traceback)
        reason = f"{COULD_NOT_START}the starting model could not be made: {error.what}"
        await say(known, RunStop(run=known.run_id, reason=as_text(reason)))
        return
    await say(known, RunStartOperation(run=known.run_id, start=pack(_make_start(known, schema, model))))
    known.chronicle.note("")


def _lack(known: KnownRun) -> str:
    """What keeps the run from being started, for people, with {are} for the verb's tense; empty when nothing does."""
    ready, manifest = [open_ready(raw).body for raw in known.answers.values()], known.manifest
    if len(ready) < manifest.roster.nodes_min:
        return f"{len(ready)} of at least {manifest.roster.nodes_min} nodes {{are}} ready"
    trainers = [note.node for note in ready if note.role == "trainer"]
    drawn = len(trainers_of(known.run_id, 1, trainers, manifest.round.fraction))
    if drawn < manifest.round.updates_min:  # it would wait for its first round without end
        return (
            f"{len(ready)} nodes {{are}} ready, and {len(trainers)} of them train: a round has {drawn} updates then, "
            f"and round.updates_min asks for {manifest.round.updates_min}"
        )
    return ""


async def _starting_model(
    known: KnownRun, me: NodeId, disk: Disk, trainer: Trainer, task_path: str | None, parent: Checkpoint | None
) -> tuple[BlobId, BlobId]:
    """Schema and model of checkpoint 0, durable here: the parent's newest, or one that the task makes.

    Raises FednodeError when the task cannot make one, or the parent's is not here.
    """
    if known.manifest.parent:
        if parent is None:
            raise FednodeError(
                f"the checkpoints of the parent run {known.manifest.parent[:12]} are not on this node",
                remedy="propose from a node that took part in it",
            )
        return BlobId(parent.tensor_schema), BlobId(parent.model)
    spec: TaskSpec = task_spec(known.run_id, known.manifest, me, None, {}, task_path)
    session = await trainer.open(spec, known.chronicle.task_said)
    try:
        initial = await session.initial_model()
    finally:
        await session.close()
    return await disk.put_blob(initial.schema), await disk.put_blob(initial.model)


def check_start(known: KnownRun, start: RunStart) -> list[NodeId]:
    """The nodes that a start names, each with its own signed ready. Raises RemoteProtocolError."""
    nodes = []
    notes = [open_ready(raw).body for raw in start.roster]
    if all(note.role == "observer" for note in notes):
        raise RemoteProtocolError("all of its nodes only observe")
    state = known.place.state()
    members = {*state.nodes, *state.revoked, *(node for former in state.former.values() for node in former.nodes)}
    if len(notes) > known.manifest.roster.nodes_max or any(note.node not in members for note in notes):
        raise RemoteProtocolError("it names more nodes than the manifest allows, or one that never was a member's")
    for note in notes:
        if note.run != known.run_id or start.run != known.run_id:
            raise RemoteProtocolError("a ready note is for another run")
        nodes.append(NodeId(note.node))
    if len(set(nodes)) != len(nodes):
        raise RemoteProtocolError("a node is named twice")
    return nodes


def _make_start(known: KnownRun, schema: BlobId, model: BlobId) -> RunStart:
    """The start with all who are ready, or as many as fit into an operation: the others enter at the next round."""
    ready = tuple(known.answers.values())[: known.manifest.roster.nodes_max]
    while True:
        start = RunStart(run=known.run_id, roster=ready, tensor_schema=schema, model=model)
        if len(pack(start)) <= START_BYTES_MAX:
            return start
        ready = ready[: len(ready) * 9 // 10]
