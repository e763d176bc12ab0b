"""A task that prints without end: what is kept is bounded and says what it leaves out, the node's memory stays, and the
task itself is hardly held up."""

import os
from pathlib import Path
from typing import Any

import psutil
import pytest
from test_worker import Ears, given, go, train

from node.trainer import WorkerTrainer
from node.worker_output import LINES_BURST, LINES_PER_S

pytestmark = pytest.mark.real

PRINTED_BYTES = 200_000_000
GROWTH_BYTES_MAX = 20_000_000  # of the node, and independent of how much is printed
LINE_BYTES = 100


@pytest.mark.parametrize("how", ["lines", "one line"])
def test_a_task_that_prints_without_end_is_bounded_and_not_held_up(tmp_path: Path, how: str) -> None:
    end = "\\n" if how == "lines" else "x"
    lines = (
        f"block = ('x' * {LINE_BYTES - 1} + {end!r}) * 10_000".replace("\\\\", "\\"),
        "begun = time.monotonic()",
        f"for _ in range({PRINTED_BYTES // LINE_BYTES // 10_000}): print(block, end='', flush=True)",
        "print(file=sys.stderr)",
        "print('took', time.monotonic() - begun, file=sys.stderr)",
    )

    async def test(trainer: WorkerTrainer) -> None:
        import time, trio
        ears = Ears()
        session = await trainer.open(given(tmp_path, *lines), ears)
        node = psutil.Process(os.getpid())
        before = node.memory_info().rss
        cpu, begun = time.process_time(), trio.current_time()
        assert (await train(session)).samples == 4
        await session.close()
        grown = node.memory_info().rss - before
        print(how, "cpu", time.process_time() - cpu, "wall", trio.current_time() - begun, "grown", grown, ears.texts("stderr"), len(ears.texts("stdout")), ears.texts("log"))
        assert grown < GROWTH_BYTES_MAX
        kept = ears.texts("stdout")
        assert len(kept) <= LINES_BURST + LINES_PER_S * (trio.current_time() - begun + 1)

    go(tmp_path, test)
