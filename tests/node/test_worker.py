"""Worker processes: how they end, what they may see, and that nothing they do hurts the node."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from node.seams import TaskOutput, TaskSpec, TrainerFailed
from node.training.trainer import WorkerTrainer, worker_trainer
from node.training.worker_output import LINE_CHARACTERS_MAX, LINES_BURST, LINES_PER_S, METRICS_BURST
from node.training.worker_watch import Watch, WatchLimits

pytestmark = pytest.mark.real

DEADLINE_S = 60

# `model` and the named arrays are of no interest here; `train` runs the lines that a test gives.
TEMPLATE = """
import os, sys, time, ctypes, signal, subprocess, threading
import fednode
import numpy as np

class Given(fednode.Task):
    def model(self):
        return {"w": np.zeros(1, "f4")}
    def data(self, source):
        return fednode.Data((np.zeros(4),))
    def arrays(self, model):
        return model
    def load(self, model, arrays):
        return {name: np.array(array) for name, array in arrays.items()}
    def train(self, model, data, this_round):
        if this_round.number == 1:
            LINES
        return fednode.Result(4)
"""


class Ears:
    """What a task said, and a way to wait for more of it."""

    def __init__(self) -> None:
        self.said: list[TaskOutput] = []
        self._more = trio.Condition()
        self._changed = trio.Event()

    def __call__(self, output: TaskOutput) -> None:
        self.said.append(output)
        self._changed.set()

    def texts(self, kind: str) -> list[str]:
        return [output.text for output in self.said if output.kind == kind]

    async def wait_for(self, found: Callable[[list[TaskOutput]], bool]) -> None:
        while not found(self.said):
            self._changed = trio.Event()
            await self._changed.wait()


def given(directory: Path, *lines: str) -> TaskSpec:
    """A spec of a task that runs `lines` in round 1 and does nothing in other rounds."""
    file = directory / "given_task.py"
    file.write_text(TEMPLATE.replace("LINES", ("\n" + 12 * " ").join(lines)))
    (directory / "data").touch()
    return TaskSpec("run", "node", str(file), {}, {}, "fp32", str(directory / "data"), {}, 0)


def go(directory: Path, test: Callable[[WorkerTrainer], Awaitable[None]], **limits: float) -> None:
    async def main() -> None:
        with trio.fail_after(DEADLINE_S):
            async with worker_trainer(directory / "trainer", WatchLimits(**limits)) as trainer:
                await test(trainer)

    trio.run(main)


async def train(session: Any, round_number: int = 1) -> Any:
    first = await session.initial_model()
    return await session.train(round_number, first.schema, first.model)


@asynccontextmanager
async def failing(reason: str) -> AsyncIterator[list[TrainerFailed]]:
    """The block must raise a TrainerFailed whose text has `reason`."""
    seen: list[TrainerFailed] = []
    try:
        yield seen
    except TrainerFailed as failure:
        seen.append(failure)
    assert seen, f"nothing failed; expected {reason!r}"
    assert reason in seen[0].what


@pytest.mark.parametrize(
    ("line", "reason", "traceback"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed (SIGKILL)", ""),
        ("print('last words', file=sys.stderr); os._exit(3)", "ended by itself with status 3", "last words"),
        ("ctypes.string_at(0)", "crashed (SIGSEGV)", "given_task.py"),
        ("os.abort()", "crashed (SIGABRT)", "Fatal Python error"),
        (
            "[os.write(n, b'x' * 99) for n in range(3, 99) if os.path.islink(f'/proc/self/fd/{n}')]",
            "garbled its pipe",
            "",
        ),
    ],
)
def test_a_dead_worker_is_reported_and_replaced(tmp_path, line, reason, traceback):
    async def test(trainer):
        session = await trainer.open(given(tmp_path, line), Ears())
        async with failing(reason) as seen:
            await train(session)
        assert traceback in seen[0].traceback
        async with failing(reason):
            await session.initial_model()
        await session.close()
        another = await trainer.open(given(tmp_path, "pass"), Ears())
        assert (await train(another)).samples == 4

    go(tmp_path, test)


def test_running_out_of_memory_is_named_and_survived(tmp_path):
    async def test(trainer):
        session = await trainer.open(given(tmp_path, "np.ones(10**15)"), Ears())
        async with failing("Training failed at given_task.py, line 17, in train: memory ran out"):
            await train(session)
        assert (await train(session, 2)).samples == 4

    go(tmp_path, test)


def test_calls_take_turns(tmp_path):
    async def test(trainer):
        session = await trainer.open(given(tmp_path, "pass"), Ears())
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(train, session)

    go(tmp_path, test)


@pytest.mark.parametrize(
    ("line", "limits", "reason"),
    [
        (
            "threading.Event().wait()",
            {"no_progress_s": 0.5},
            "hangs: it did nothing for 0.5 s, the limit worker_hang_s",
        ),
        (
            "os.kill(os.getpid(), signal.SIGSTOP)",
            {"silence_s": 0.5},
            "gave no sign of life for 0.5 s, the limit worker_silence_s",
        ),
        (
            "ctypes.PyDLL(None).usleep(1000_000_000)",
            {"silence_s": 0.5},
            "gave no sign of life for 0.5 s, the limit worker_silence_s",
        ),
    ],
    ids=["deadlock", "stopped", "stuck-with-the-lock"],
)
def test_a_worker_that_hangs_is_given_up(tmp_path, line, limits, reason):
    async def test(trainer):
        session = await trainer.open(given(tmp_path, line), Ears())
        # Only now, for starting a process takes its time on a busy machine.
        session._worker._watch = Watch(WatchLimits(beat_s=0.1, **limits))
        async with failing(reason):
            await train(session)

    go(tmp_path, test, beat_s=0.1)


def test_a_call_that_does_not_heed_its_abort_ends_the_worker(tmp_path):
    async def test(trainer):
        ears = Ears()
        session = await trainer.open(given(tmp_path, "print('here')", "threading.Event().wait()"), ears)
        first = await session.initial_model()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.train, 1, first.schema, first.model)
            await ears.wait_for(lambda said: any(output.text == "here" for output in said))
            nursery.cancel_scope.cancel()
        async with failing("did not stop within 0.3 s"):
            await session.train(2, first.schema, first.model)

    go(tmp_path, test, beat_s=0.1, abort_s=0.3)


def test_a_flood_of_lines_is_cut_and_counted(tmp_path):
    async def test(trainer):
        ears = Ears()
        session = await trainer.open(given(tmp_path, "print('x' * 50_000)", "for n in range(100_000): print(n)"), ears)
        began = trio.current_time()
        await train(session)
        await session.close()
        lines = ears.texts("stdout")
        assert len(lines) <= LINES_BURST + LINES_PER_S * (trio.current_time() - began + 1)
        assert lines[0] == "x" * (LINE_CHARACTERS_MAX - 1) + "…"
        assert lines[1:4] == ["0", "1", "2"]
        assert sum(int(text.split()[0]) for text in ears.texts("log")) == 100_001 - len(lines)

    go(tmp_path, test)


def test_a_flood_of_metrics_is_cut_and_counted(tmp_path):
    async def test(trainer):
        ears = Ears()
        lines = ("for n in range(2000): fednode.log({str(k): k for k in range(10)})",)
        session = await trainer.open(given(tmp_path, *lines), ears)
        await train(session)
        kept = sum(output.kind == "metric" for output in ears.said)
        assert METRICS_BURST / 10 <= kept < 2000
        assert sum(int(text.split()[0]) for text in ears.texts("log")) == 2000 - kept

    go(tmp_path, test)


def test_a_worker_sees_neither_secrets_nor_handles(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    held = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(held, True)

    async def test(trainer):
        ears = Ears()
        lines = (
            "print(sorted(os.environ))",
            "fds = [f'/proc/self/fd/{n}' for n in range(100)]",
            "print(*(os.readlink(fd).split(':')[0] for fd in fds if os.path.islink(fd)))",
            "print(os.getcwd(), os.environ['HOME'], os.getsid(0) == os.getpid(), os.environ['OMP_NUM_THREADS'])",
        )
        session = await trainer.open(given(tmp_path, *lines), ears)
        await train(session)
        await ears.wait_for(lambda said: sum(output.kind == "stdout" for output in said) == 3)
        names, handles, places = ears.texts("stdout")
        assert "SECRET_TOKEN" not in names
        assert handles == "/dev/null pipe pipe socket"
        cwd, home, leads, threads = places.split()
        assert cwd == home
        assert Path(cwd).parent == tmp_path / "trainer" / "work"
        assert (leads, threads) == ("True", "1")

    try:
        go(tmp_path, test)
    finally:
        os.close(held)


def test_closing_ends_all_that_a_worker_started_and_leaves_no_files(tmp_path):
    async def test(trainer):
        ears = Ears()
        session = await trainer.open(
            given(tmp_path, "print(subprocess.Popen(['sleep', '1000']).pid, flush=True)"), ears
        )
        await train(session)
        await ears.wait_for(lambda said: bool(said))
        child = psutil.Process(int(ears.said[0].text))
        worker = child.parent()
        await session.close()
        _, alive = await trio.to_thread.run_sync(lambda: psutil.wait_procs([child, worker], timeout=10))
        assert not alive
        assert list((tmp_path / "trainer" / "work").iterdir()) == []

    go(tmp_path, test)


def test_workers_end_with_their_trainer_and_leftovers_are_cleared(tmp_path):
    left = tmp_path / "trainer" / "work" / "left"
    left.mkdir(parents=True)
    workers: list[psutil.Process] = []

    async def test(trainer):
        assert not left.exists()
        before = psutil.Process().children()
        for _ in range(2):
            await trainer.open(given(tmp_path, "pass"), Ears())
        workers.extend(set(psutil.Process().children()) - set(before))
        assert len(workers) == 2

    go(tmp_path, test)
    assert not any(worker.is_running() for worker in workers)


NODE = """
import sys, trio
from pathlib import Path
from node.seams import TaskSpec
from node.training.trainer import worker_trainer

async def main():
    async with worker_trainer(Path(sys.argv[1])) as trainer:
        spec = TaskSpec("run", "node", sys.argv[2], {}, {}, "fp32", sys.argv[3], {}, 0)
        session = await trainer.open(spec, lambda output: print(output.text, flush=True))
        first = await session.initial_model()
        await session.train(int(sys.argv[4]), first.schema, first.model)
        print("idle", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.parametrize("round_number", [1, 2], ids=["busy", "idle"])
def test_workers_die_with_a_node_that_is_killed(tmp_path, round_number):
    spec = given(tmp_path, "print(os.getpid(), flush=True)", "ctypes.PyDLL(None).usleep(1000_000_000)")
    arguments = [tmp_path / "trainer", spec.task, spec.data_path, round_number]
    command = [sys.executable, "-c", NODE, *map(str, arguments)]
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}) as node:
        assert node.stdout is not None
        first = node.stdout.readline().strip()
        assert first == "idle" if round_number == 2 else first.isdigit()
        [worker] = psutil.Process(node.pid).children()
        node.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs([worker], timeout=10)
    assert not alive


def test_the_nodes_process_loads_neither_torch_nor_numpy():
    code = (
        "import node.training.trainer, node.data.datasets, sys; "
        "print(sorted({'torch', 'numpy', 'duckdb'} & set(sys.modules)))"
    )
    root = str(Path(__file__).parents[2])
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert ran.stdout.strip() == "[]"
