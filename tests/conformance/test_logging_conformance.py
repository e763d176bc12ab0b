"""What a task logs, over both trainers: metrics by class, parameters, spans, artifacts, lines of all kinds."""

import json
import logging
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import trio
from test_trainer_conformance import LINE, line_spec, run  # noqa: F401 - `run` is a fixture

from node.seams import TaskOutput, TrainerFailed
from node.training.staged_files import take_in

TALKS = LINE.replace(
    "        x, y = data.train\n",
    """        x, y = data.train
        self.talk(this_round)
""",
).replace(
    "        x, y = data.evaluation\n",
    """        x, y = data.evaluation
        fednode.log({"seen": {"left": 1, "right": 2}}, step=4)
        fednode.log_dict({"rows": len(x)}, "evaluation.json")
""",
)

EVERYTHING = """
    def talk(self, this_round):
        fednode.log({"recall": {"cat": 0.5, "dog": np.float32(0.25)}, "hits@10": np.array(3)}, step=7, epoch=2)
        fednode.log_params({"rows": 40, "shape": (2, 3), "name": "line", "rate": np.float64(0.5)})
        with fednode.span("look"):
            pass
        file = this_round.directory / "weights.bin"
        file.write_bytes(b"w" * 3_000_000)
        fednode.log_artifact(file, kind="model", details={"round": this_round.number})
        fednode.log_text("first", "notes/a.txt")
        fednode.log_text("second", "notes/a.txt")
        file.write_bytes(b"changed after it was logged")
"""


class Kept:
    """Takes artifacts in as a node does, and keeps their contents."""

    def __init__(self) -> None:
        self.found: list[tuple[TaskOutput, bytes]] = []
        self.left: list[str] = []

    async def __call__(self, artifact: TaskOutput, folder: Path) -> None:
        await trio.lowlevel.checkpoint()
        assert artifact.staged is not None
        taken = take_in(folder, artifact.staged.file, 10_000_000, None)
        assert isinstance(taken, bytes)
        self.found.append((artifact, taken))
        self.left = sorted(path.name for path in folder.iterdir() if path.name.startswith("artifact"))


@pytest.fixture
def kept() -> Kept:
    return Kept()


async def talk(trainer: Any, directory: Path, said: list[TaskOutput], kept: Kept | None, body: str) -> Any:
    session = await trainer.open(line_spec(directory, TALKS + body), said.append, kept)
    first = await session.initial_model()
    result = await session.train(3, first.schema, first.model)
    return session, first, result


def of_kind(said: list[TaskOutput], *kinds: str) -> list[TaskOutput]:
    return [output for output in said if output.kind in kinds]


def test_metrics_parameters_and_spans_arrive_with_their_place(run, tmp_path):  # noqa: F811
    async def test(trainer):
        said: list[TaskOutput] = []
        session, first, _ = await talk(trainer, tmp_path, said, Kept(), EVERYTHING)
        told = of_kind(said, "metric")[0]
        assert told.values == {"recall@class=cat": 0.5, "recall@class=dog": 0.25, "hits@10": 3.0}
        assert (told.round, told.epoch, told.step, told.split) == (3, 2, 7, "train")
        assert {key: tuple(entry) for key, entry in of_kind(said, "parameter")[0].parameters.items()} == {
            "rows": ("40", "int"), "shape": ("[2, 3]", "tuple"), "name": ("line", "str"), "rate": ("0.5", "float"),
        }  # fmt: skip
        [span] = of_kind(said, "span")
        assert (span.name, span.round) == ("look", 3)
        assert 0 <= span.seconds < 5
        said.clear()
        await session.evaluate(3, first.schema, first.model)
        [told] = of_kind(said, "metric")
        assert (told.values, told.step, told.split) == ({"seen@class=left": 1.0, "seen@class=right": 2.0}, 4, "eval")

    run(test)


def test_artifacts_are_kept_before_the_call_ends_as_they_were_when_they_were_logged(run, tmp_path, kept):  # noqa: F811
    async def test(trainer):
        session, first, _ = await talk(trainer, tmp_path, [], kept, EVERYTHING)
        assert [(artifact.name, artifact.round, content) for artifact, content in kept.found] == [
            ("weights.bin", 3, b"w" * 3_000_000),
            ("notes/a.txt", 3, b"first"),
            ("notes/a.txt", 3, b"second"),
        ]
        staged = kept.found[0][0].staged
        assert staged is not None
        assert (staged.kind, json.loads(staged.details)) == ("model", {"round": 3})
        assert await session.evaluate(3, first.schema, first.model) is not None
        assert [(artifact.name, content) for artifact, content in kept.found[3:]] == [
            ("evaluation.json", b'{\n  "rows": 8\n}')
        ]
        assert kept.left == []
        await session.close()

    run(test)


def test_artifacts_of_a_call_that_fails_are_kept_too(run, tmp_path, kept):  # noqa: F811
    body = "\n    def talk(self, this_round):\n        fednode.log_text('why', 'why.txt')\n        1 / 0\n"

    async def test(trainer):
        with pytest.raises(TrainerFailed, match="ZeroDivisionError"):
            await talk(trainer, tmp_path, [], kept, body)
        assert [(artifact.name, content) for artifact, content in kept.found] == [("why.txt", b"why")]

    run(test)


def test_without_anybody_to_keep_them_artifacts_are_left_out(run, tmp_path):  # noqa: F811
    async def test(trainer):
        said: list[TaskOutput] = []
        _, _, result = await talk(trainer, tmp_path, said, None, EVERYTHING)
        assert result.samples == 32
        assert of_kind(said, "artifact") == []

    run(test)


def test_what_cannot_be_kept_is_left_out_with_one_line_and_training_goes_on(run, tmp_path, kept):  # noqa: F811
    body = """
    def talk(self, this_round):
        import os
        for _ in range(3):
            fednode.log_artifact("/nowhere/at/all.png")
        os.mkfifo(this_round.directory / "pipe")
        fednode.log_artifact(this_round.directory / "pipe")
        fednode.log_artifact("/dev/zero", "zero")
        large = this_round.directory / "large"
        large.touch()
        os.truncate(large, 300 * 1024**2)
        fednode.log_artifact(large)
    """

    async def test(trainer):
        said: list[TaskOutput] = []
        _, _, result = await talk(trainer, tmp_path, said, kept, body)
        assert result.samples == 32
        assert kept.found == []
        warnings = [output.text for output in of_kind(said, "log") if "left out" in output.text]
        assert [text.split(" left out: ")[0] for text in warnings] == [
            f"fednode: The artifact {name}" for name in ("all.png", "pipe", "zero", "large")
        ]
        assert "it has 314,572,800 bytes, and 268,435,456 may be kept" in warnings[-1]

    run(test)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ("fednode.log({'loss': 'high'})", "The metric 'loss' is 'high', which is no number"),
        ("fednode.log_artifact(b'x')", "log_artifact was given bytes without a name"),
        ("fednode.log_artifact(b'x', '../up')", "'../up' cannot be kept as an artifact"),
        ("fednode.log_figure(7, 'seven.png')", "log_figure was given a int"),
    ],
)
def test_misuse_is_an_error_that_says_what_and_where(run, tmp_path, kept, call, what):  # noqa: F811
    body = f"\n    def talk(self, this_round):\n        {call}\n"

    async def test(trainer):
        with pytest.raises(TrainerFailed) as failure:
            await talk(trainer, tmp_path, [], kept, body)
        assert failure.value.what.startswith(what)
        assert failure.value.remedy
        assert "line_task.py" in failure.value.traceback

    run(test)


LINES = r"""
    def talk(self, this_round):
        import logging, os, sys, threading, warnings
        logging.basicConfig(level=logging.DEBUG, format="mine %(message)s")
        logging.getLogger("line").debug("a detail")
        logging.addLevelName(25, "NOTICE")
        logging.log(25, "a notice")
        logging.critical("the worst")
        logging.info("two\nlines")
        logging.info("broken %d", "text")
        logging.info("lone \ud800 surrogate")
        try:
            1 / 0
        except ZeroDivisionError:
            logging.exception("it broke")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("careful")
        thread = threading.Thread(target=lambda: print("from a thread"))
        thread.start()
        thread.join()
        failing = threading.Thread(target=lambda: 1 / 0, name="failing")
        failing.start()
        failing.join()
        print("a\nb", "c", sep="\r\n")
        print("\r10%\r100%")
"""


def test_lines_of_all_kinds_arrive_once_with_level_and_logger(run, tmp_path):  # noqa: F811
    async def test(trainer):
        said: list[TaskOutput] = []
        printed_all = trio.Event()

        def say(output: TaskOutput) -> None:
            said.append(output)
            if output.text.startswith("the first of"):
                printed_all.set()

        session = await trainer.open(line_spec(tmp_path, TALKS + LINES), say)
        first = await session.initial_model()
        await session.train(1, first.schema, first.model)
        await printed_all.wait()
        logs = [(output.level, output.text) for output in of_kind(said, "log")]
        assert logs[:5] == [
            ("DEBUG", "line: a detail"),
            ("INFO", "root: a notice"),
            ("CRITICAL", "root: the worst"),
            ("INFO", "root: two\nlines"),
            ("INFO", "root: lone ? surrogate"),
        ]
        level, broke = logs[5]
        assert (level, broke.splitlines()[0], broke.splitlines()[-1]) == (
            "ERROR", "root: it broke", "ZeroDivisionError: division by zero",
        )  # fmt: skip
        level, warned = logs[6]
        assert level == "WARNING"
        assert warned.startswith("py.warnings: ")
        assert "UserWarning: careful" in warned
        level, failing = logs[7]
        assert (level, failing.splitlines()[0]) == ("ERROR", "threading: failing ended")
        assert failing.endswith("ZeroDivisionError: division by zero")
        assert logs[8:] == [("WARNING", "line: a warning")]  # the task's own, after its talk
        printed = [output.text for output in of_kind(said, "stdout")]
        assert printed == ["from a thread", "a", "b", "c", "100%", "the first of 32"]
        assert [text for text in printed if "mine" in text] == []
        assert "--- Logging error ---" in [output.text for output in of_kind(said, "stderr")]

    run(test)


def test_a_line_that_does_not_end_arrives_too(run, tmp_path):  # noqa: F811
    source = TALKS.replace(
        "        x, y = data.evaluation\n", "        x, y = data.evaluation\n        print(1, end='')\n"
    )

    async def test(trainer):
        arrived = trio.Event()
        session = await trainer.open(
            line_spec(tmp_path, source), lambda output: arrived.set() if output.text == "1" else None
        )
        first = await session.initial_model()
        await session.evaluate(1, first.schema, first.model)
        await arrived.wait()

    run(test)


def test_capturing_leaves_nothing_behind(run, tmp_path):  # noqa: F811
    before = (logging.basicConfig, warnings.showwarning, threading.excepthook, logging.getLogger().handlers[:])

    async def test(trainer):
        await talk(trainer, tmp_path, [], None, LINES)

    run(test)
    assert (logging.basicConfig, warnings.showwarning, threading.excepthook, logging.getLogger().handlers[:]) == before
