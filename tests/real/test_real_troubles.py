"""What a person sees of a real node in trouble: a task that fails in each of its ways, files that went, a full disk, a
store that is locked or damaged. Every one ends in a status with a reason; the node goes on, and no committed round is
lost."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes import MEAN_TASK, RealNode, Study, real_nodes, wait_until
from real_node import ROOT

HANG_S = 2
ROOM_BYTES = 10_000  # of the store, before its disk is full
CHAT = "        print(*('x' * 200 for _ in range(200)), sep='\\n')\n"  # so that the store grows faster than all else


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """One node, with a group and data, that gives a hanging worker up soon."""
    base = tmp_path_factory.mktemp("troubles")
    settings = base / "alpha" / "settings.json"
    settings.parent.mkdir(mode=0o700)
    settings.write_text(json.dumps({"worker_hang_s": str(HANG_S)}))
    with real_nodes(base, "alpha") as nodes:
        study = Study(nodes, base)
        study.form()
        yield study


def propose(study: Study, name: str, old: str, new: str, rounds: int = 3) -> str:
    """A run of mean_task.py with a line changed."""
    source = MEAN_TASK.read_text()
    assert old in source
    task = study.base / f"{name}_task.py"
    task.write_text(source.replace(old, new))
    return study.propose(study.nodes[0], rounds, f'[task]\npath = "{task}"\n[task.parameters]\npause_s = 0.3\n')


def shown(node: RealNode, *command: str) -> str:
    """What a command prints for people, on one line."""
    done = node.cli(*command)
    assert done.returncode == 0, done.stderr
    return " ".join((done.stdout + done.stderr).split())


def test_the_stores_disk_is_full_while_a_run_goes_on(lone: Study) -> None:
    """Told once, and in the status; the run goes on; when there is room all of it is recorded."""
    (alpha,) = lone.nodes
    run = propose(lone, "chatty", "        target =", CHAT + "        target =", 100_000)
    alpha.wait_for_round(run, 2)
    size = max(path.stat().st_size for path in alpha.home.glob("record*"))
    assert size + ROOM_BYTES > (alpha.home / "node.log").stat().st_size
    unlimited = resource.RLIM_INFINITY
    resource.prlimit(alpha.pid, resource.RLIMIT_FSIZE, (size + ROOM_BYTES, unlimited))
    try:
        trouble = wait_until(lambda: alpha.client.status()["trouble"], "the trouble")
        assert "the record takes nothing now: The store" in trouble
        assert "make room on its disk" in shown(alpha, "status")
        assert "state RUNNING" in shown(alpha, "run", "show", run)
    finally:
        resource.prlimit(alpha.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
    wait_until(lambda: not alpha.client.status()["trouble"], "the record is written again")
    alpha.client.stop_run(run, "enough")
    alpha.wait_for_end(run)
    rounds = [row["round"] for row in alpha.client.rounds(run)["rounds"]]
    assert rounds == list(range(1, len(rounds) + 1))
    log = (alpha.home / "node.log").read_text()
    assert log.count("the record takes nothing now") == 1
    assert "the record is written again; nothing was lost" in log


@pytest.mark.parametrize(
    ("name", "old", "new", "why", "said"),
    [
        (
            "data",
            "            return fednode.Data.split",
            "            raise OSError('it is gone')\n            return fednode.Data.split",
            "Loading the data failed at data_task.py, line 32, in data: OSError: it is gone",
            "raise OSError('it is gone')",
        ),
        (
            "killed",
            "        target =",
            "        import os; os.kill(os.getpid(), 9)\n        target =",
            "The worker process was killed (SIGKILL), as the system does to what takes too much memory",
            "To fix: free memory on this machine, or have the task take less",
        ),
        (
            "stuck",
            "        target =",
            "        threading.Event().wait()\n        target =",
            f"The worker process hangs: it did nothing for {HANG_S} s, the limit worker_hang_s, and was killed",
            "raise the limit in settings.json",
        ),
    ],
)
def test_a_task_that_fails_ends_its_part_with_the_reason(
    lone: Study, name: str, old: str, new: str, why: str, said: str
) -> None:
    (alpha,) = lone.nodes
    run = propose(lone, name, old, new)
    alpha.wait_for_run(run, lambda seen: alpha.state_in(seen) == "FAILED", "the failure")
    seen = shown(alpha, "run", "show", run)
    assert why in seen
    wait_until(lambda: "no more can come (nodes that failed: 1" in shown(alpha, "run", "show", run), "the note")
    assert said in shown(alpha, "run", "logs", run)
    alpha.client.stop_run(run, "mended elsewhere")
    alpha.wait_for_end(run)


def test_a_task_that_cannot_be_imported_fails_the_run(lone: Study) -> None:
    (alpha,) = lone.nodes
    run = propose(lone, "lacking", "import numpy as np", "import numpy as np\nimport no_such_module")
    alpha.wait_for_end(run)
    reason = "Loading the task failed at lacking_task.py, line 14, in <module>: ModuleNotFoundError"
    assert f"FAILED (the run could not start: the starting model could not be made: {reason}" in shown(
        alpha, "run", "show", run
    )
    assert "import no_such_module" in shown(alpha, "run", "logs", run)


def test_files_that_went_in_the_middle_of_a_run(lone: Study) -> None:
    """A worker that has loaded them goes on; after a restart the node's part ends with the reason. What was committed
    is there, and with the file put back the run goes on."""
    (alpha,) = lone.nodes
    run = propose(lone, "passing", "import numpy as np", "import numpy as np  # as ever", 100_000)
    alpha.wait_for_round(run, 2)
    task = lone.base / "passing_task.py"
    text = task.read_text()
    task.unlink()
    alpha.wait_for_round(run, 4)
    before = alpha.committed(run)
    alpha.end()
    alpha.start()
    alpha.wait_for_run(run, lambda seen: alpha.state_in(seen) == "FAILED", "the failure")
    assert "The file of the run's task is not where it was" in shown(alpha, "run", "show", run)
    assert "put the very same file back, and restart the node" in shown(alpha, "run", "logs", run)
    assert before.items() <= alpha.committed(run).items()
    task.write_text(text)
    alpha.end()
    alpha.start()
    alpha.wait_for_round(run, max(before) + 2)
    alpha.client.stop_run(run, "enough")
    alpha.wait_for_end(run)


def test_a_store_that_is_locked_or_damaged_keeps_the_node_from_starting(lone: Study) -> None:
    """With the reason and the remedy; moved away, the node begins a new one, and its runs go on."""
    (alpha,) = lone.nodes
    run = propose(lone, "steady", "import numpy as np", "import numpy as np  # as ever", 100_000)
    alpha.wait_for_round(run, 2)
    store = alpha.home / "record.duckdb"
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, str(store)]
    other = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert "Could not set lock" in other.stderr  # the node has it
    before = alpha.committed(run)
    alpha.end()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        refused = alpha.cli("start")
        assert f"is in use by the process {holder.pid}; it can be open in one process only" in refused.stderr
        assert "To fix: ask that process where it is the node, else end it first" in refused.stderr
        holder.communicate()
    content = store.read_bytes()
    for damage in (b"no store" * 4096, content[:12_288] + b"\0" * (len(content) - 12_288)):
        if damage == content:
            continue
        store.write_bytes(damage)
        refused = alpha.cli("start")
        assert "is not a store" in refused.stderr or "is damaged" in refused.stderr, refused.stderr
        assert "move it away: the node begins a new one" in refused.stderr
    store.rename(store.with_suffix(".bad"))
    store.with_suffix(".duckdb.wal").unlink(missing_ok=True)
    forget_refusals(alpha)
    alpha.start()
    alpha.wait_for_round(run, max(before) + 2)
    assert len(alpha.workers()) == 1
    alpha.client.stop_run(run, "enough")
    alpha.wait_for_end(run)


def forget_refusals(node: RealNode) -> None:
    """Their tracebacks are in the node's log on purpose; of others the fixture complains."""
    (Path(node.home) / "node.log").write_text("")
