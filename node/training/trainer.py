"""The real Trainer: one worker process per session, kept warm between rounds.

Below its directory, `state` keeps what a participant needs through a whole run, across crashes of worker and node;
`work` has a directory for each open session, with its large arrays.
"""

import logging
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import trio

from node.seams import Keep, TaskOutput, TaskSpec, TrainerFailed
from node.training.carried_files import name_next, offered_rounds, use_named
from node.training.staged_files import discard
from node.training.worker_attended import AttendedWorker
from node.training.worker_process import WorkerProcess
from node.training.worker_session import WorkerSession
from node.training.worker_watch import WatchLimits
from protocol.keys import BlobId, RunId

log = logging.getLogger("fednode.worker")

OFFLOAD_THREADS = 2  # sums and hashes use a core each; more threads would only stand in each other's way


class WorkerTrainer:
    """Opens sessions; make one with `worker_trainer`. Its directory is its own, and an absolute path."""

    def __init__(self, directory: Path, nursery: trio.Nursery, limits: WatchLimits) -> None:
        self._directory = directory
        self._nursery = nursery
        self._limits = limits
        self._threads = trio.CapacityLimiter(OFFLOAD_THREADS)
        self._running: dict[int, RunId] = {}

    async def open(self, spec: TaskSpec, say: Callable[[TaskOutput], None], keep: Keep | None = None) -> WorkerSession:
        """Start a worker and have it load the task and its data. Raises TrainerFailed."""
        state, work = await self._blocking(partial(self._make_directories, spec.run_id))
        try:
            process = WorkerProcess(work, spec.threads, self._limits.beat_s)
        except OSError as error:
            await self._blocking(partial(shutil.rmtree, work, ignore_errors=True))
            raise TrainerFailed(
                f"No worker process could be started ({error})", remedy="free memory or processes on this machine"
            ) from error
        keep_from = None if keep is None else partial(keep, folder=work)

        async def discard_staged(names: Sequence[str]) -> None:
            await self._blocking(partial(discard, work, names))

        worker = AttendedWorker(process, say, self._limits, keep_from, discard_staged)
        session = WorkerSession(worker, work, self._blocking)
        self._nursery.start_soon(self._supervise, session, process.pid, spec.run_id)
        try:
            await session.load(spec, state)
        except BaseException:
            await session.close()
            raise
        return session

    def workers(self) -> list[tuple[int, RunId]]:
        """The worker processes that are up, by pid, each with its run."""
        return list(self._running.items())

    async def offload(self, work: Callable[[], Any]) -> Any:
        return await self._blocking(work)

    async def forget(self, run_id: str) -> None:
        """Delete what this participant kept of a run that has ended."""
        await self._blocking(partial(shutil.rmtree, self._state_of(run_id), ignore_errors=True))

    async def carry_on(self, run_id: str, round_number: int, update: BlobId, *, used: bool) -> None:
        rename = use_named if used else name_next
        await self._blocking(partial(rename, self._state_of(run_id), round_number, update))

    async def offered_rounds(self, run_id: str) -> Sequence[int]:
        rounds: list[int] = await self._blocking(partial(offered_rounds, self._state_of(run_id)))
        return rounds

    async def _supervise(self, session: WorkerSession, pid: int, run_id: str) -> None:
        """What goes wrong with one worker, in ways that nobody foresaw, ends neither the node nor other workers."""
        self._running[pid] = RunId(run_id)
        try:
            await session.attend()
        except Exception:  # a supervisor, see above
            log.exception("the attendance of a worker failed; it is ended")
        finally:
            del self._running[pid]

    async def _blocking(self, work: Callable[[], Any]) -> Any:
        return await trio.to_thread.run_sync(work, limiter=self._threads)

    def _state_of(self, run_id: str) -> Path:
        # Hashed, for a run that is not proposed yet has no id but a name, and no name may lead out of the directory.
        return self._directory / "state" / blake2b(run_id.encode(), digest_size=16).hexdigest()

    def _make_directories(self, run_id: str) -> tuple[Path, Path]:
        """Where a participant's state lives for the whole run, and where one session's files go."""
        state, work = self._state_of(run_id), self._directory / "work"
        for directory in (state, work):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return state, Path(tempfile.mkdtemp(dir=work))


@asynccontextmanager
async def worker_trainer(directory: Path, limits: WatchLimits | None = None) -> AsyncIterator[WorkerTrainer]:
    """A trainer whose workers live in `directory` and end with this context. Clears what a crashed node left there."""
    prepared = await trio.to_thread.run_sync(_prepared, directory)
    async with trio.open_nursery() as nursery:
        yield WorkerTrainer(prepared, nursery, limits or WatchLimits())
        nursery.cancel_scope.cancel()


def _prepared(directory: Path) -> Path:
    """The directory as an absolute path, for workers have another working directory, and without leftovers."""
    shutil.rmtree(directory / "work", ignore_errors=True)
    return directory.absolute()
