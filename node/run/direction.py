"""What an owner asks of a run after its start: to stop, to go on from where it was stopped, to last longer.

The wish goes into the group's log, and the run's voters make it an entry of the chain of checkpoints
(docs/protocol.md §8.9, §8.14). What would come to nothing is refused here, with the way that leads on.
"""

from typing import Literal

from node.run.known_run import KnownRun
from node.run.runs import Runs
from protocol.errors import Refused
from protocol.fields import as_text
from protocol.group.operation_kinds import RunExtend, RunResume, RunStop
from protocol.keys import Hash
from protocol.limits import RUN_ROUNDS_MAX
from protocol.run.ledger import Ledger

_START_ANEW = "propose a new run with this one as its parent"


async def stop_run(runs: Runs, known: KnownRun, reason: str) -> bool:
    """Ask the group to stop the run. False when that is what comes anyway, so nothing was asked: it has ended, or was
    told to stop. As everything here, raises Refused when that is not ours to ask."""
    if known.is_over or known.entry.stop is not None:
        return False
    await runs.say(known, RunStop(run=known.run_id, reason=as_text(reason)))
    return True


async def resume_run(runs: Runs, known: KnownRun) -> None:
    """Let a stopped run go on from its newest checkpoint. Raises Refused when nothing has stopped it."""
    ledger, stop = _ledger_of(known), known.entry.stop
    held = ledger.committed
    stopped_at: Hash | Literal[""] = ""
    if held is not None and held.checkpoint.outcome == "stopped" and ledger.has_ended:
        stopped_at = held.name
    if not stopped_at and stop is None:
        raise Refused("not-stopped", f"The run {known.name} is not stopped", remedy=_way_on(known, ledger))
    await runs.say(known, RunResume(run=known.run_id, stop=stop.operation if stop else "", checkpoint=stopped_at))


async def extend_run(runs: Runs, known: KnownRun, rounds: int) -> None:
    """Let the run last `rounds` more, also when it has finished. Raises Refused when it is stopped."""
    ledger = _ledger_of(known)
    if known.entry.stop is not None or (ledger.has_ended and ledger.newest.outcome == "stopped"):
        remedy = f"let it go on first: fednode run resume {known.name}"
        raise Refused("stopped", f"The run {known.name} is stopped", remedy=remedy)
    last = max(ledger.newest.rounds, known.entry.rounds) + rounds
    if last > RUN_ROUNDS_MAX:
        what = f"The run would have {last} rounds; {RUN_ROUNDS_MAX} are the most"
        raise Refused("too-many-rounds", what, remedy=_START_ANEW)
    await runs.say(known, RunExtend(run=known.run_id, rounds=last))


def _ledger_of(known: KnownRun) -> Ledger:
    ledger = known.ledger
    if ledger is None:
        raise Refused("not-started", f"The run {known.name} has not started", remedy="propose it again if it is over")
    return ledger


def _way_on(known: KnownRun, ledger: Ledger) -> str:
    if not ledger.has_ended:
        return f"it goes on by itself while its nodes are up: see fednode run show {known.name}"
    return f"it has finished; give it more rounds: fednode run extend {known.name} --rounds N"
