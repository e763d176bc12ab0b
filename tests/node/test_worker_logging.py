"""What worker processes log: lines from everywhere in them, floods, and frames that were forged."""

from functools import partial
from pathlib import Path

import pytest
import trio
from test_worker import Ears, failing, given, go, train

from fednode_logging import METRIC_VALUES_MAX
from node.seams import TaskOutput
from node.training.staged_files import take_in
from node.training.worker_checks import LEVELS, PLACE_MAX, level_name, output_of
from node.training.worker_output import (
    ARTIFACTS_BURST,
    METRICS_BURST,
    RECORD_CHARACTERS_MAX,
    LineCutter,
    OutputGate,
    cut_record,
)
from node.training.worker_watch import WatchLimits
from protocol.errors import RemoteProtocolError

pytestmark = pytest.mark.real

# Writes a frame into the task's own pipe, as hostile code can.
FORGE = (
    "import msgpack, struct, socket",
    "frame = lambda **fields: msgpack.packb({'is': 'output', **fields})",
    "link = [n for n in range(3, 99) if os.path.islink(f'/proc/self/fd/{n}')"
    " and 'socket' in os.readlink(f'/proc/self/fd/{n}')][0]",
    "def forge(**fields): body = frame(**fields); os.write(link, struct.pack('<I', len(body)) + body)",
)


# --- lines -------------------------------------------------------------------------------------------------------
def test_lines_come_from_threads_subprocesses_and_c(tmp_path):
    lines = (
        "print('from python')",
        "subprocess.run(['sh', '-c', 'echo from a child; echo its error >&2'])",
        "libc = ctypes.CDLL(None)",
        "libc.puts(b'from c')",
        "libc.fflush(None)",
        "os.write(1, b'from the descriptor\\n')",
        "print('an error', file=sys.stderr)",
    )

    async def test(trainer):
        ears = Ears()
        session = await trainer.open(given(tmp_path, *lines), ears)
        await train(session)
        await session.close()
        assert ears.texts("stdout") == ["from python", "from a child", "from c", "from the descriptor"]
        assert ears.texts("stderr") == ["its error", "an error"]

    go(tmp_path, test)


def test_a_line_without_an_end_is_heard_while_the_task_hangs(tmp_path):
    async def test(trainer):
        ears = Ears()
        lines = ("print('waiting …', end='', flush=True)", "threading.Event().wait()")
        session = await trainer.open(given(tmp_path, *lines), ears)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(train, session)
            await ears.wait_for(lambda said: [output.text for output in said] == ["waiting …"])
            nursery.cancel_scope.cancel()
        await session.close()

    go(tmp_path, test, abort_s=0.2, beat_s=0.1)


def test_a_progress_bar_is_its_last_state():
    cutter = LineCutter()
    assert cutter.feed(b"\r 10%\r 20%") == []
    assert cutter.feed(b"\r 30%\r") == []
    assert cutter.feed(b"\r 90%\r100%\nnext\r\n") == ["100%", "next"]
    for percent in range(10_000):
        assert cutter.feed(b"\r%d%% |########|" % percent) == []
    assert cutter.end() == ["9999% |########|"]


def test_a_long_record_keeps_its_beginning_and_its_end():
    text = "\n".join(f"line {number}" for number in range(5000))
    cut = cut_record(text)
    assert len(cut) <= RECORD_CHARACTERS_MAX
    assert cut.splitlines()[0] == "line 0"
    assert cut.splitlines()[-1] == "line 4999"
    assert cut_record("short") == "short"


@pytest.mark.parametrize(
    ("number", "name"), [(0, "DEBUG"), (5, "DEBUG"), (10, "DEBUG"), (25, "INFO"), (99, "CRITICAL")]
)
def test_levels_of_ones_own_are_the_usual_one_below(number, name):
    assert level_name(number) == name


# --- floods ------------------------------------------------------------------------------------------------------
def test_a_flood_of_artifacts_is_cut_and_holds_nobody_up(tmp_path):
    kept: list[str] = []

    async def keep(artifact: TaskOutput, folder: Path) -> None:
        assert artifact.staged is not None
        content = await trio.to_thread.run_sync(partial(take_in, folder, artifact.staged.file, 1000, None))
        kept.append(content.decode())

    async def test(trainer):
        ears = Ears()
        lines = ("for n in range(500): fednode.log_text(str(n), f'{n}.txt')", "print('done')")
        session = await trainer.open(given(tmp_path, *lines), ears, keep)
        await train(session)
        assert kept[:ARTIFACTS_BURST] == [str(number) for number in range(ARTIFACTS_BURST)]
        assert len(kept) < 500
        await session.close()
        assert sum(int(text.split()[0]) for text in ears.texts("log")) == 500 - len(kept)
        assert list((tmp_path / "trainer" / "work").iterdir()) == []

    go(tmp_path, test)


def test_a_worker_that_waits_for_a_slow_disk_is_not_taken_for_hung(tmp_path):
    slow = trio.Event()
    patient = WatchLimits(beat_s=0.02)  # a busy machine may keep a worker from speaking before and after
    looks = 0

    async def test(trainer):
        async def keep(artifact: TaskOutput, folder: Path) -> None:
            watch._limits = WatchLimits(beat_s=0.02, silence_s=0.6, no_progress_s=0.6)
            watch.tick = counted
            await slow.wait()
            watch._limits = patient

        def counted() -> str:
            nonlocal looks
            looks += 1
            if looks >= 60:
                slow.set()
            return tick()

        # The disk takes twice as long as a worker may be silent: until the watch has looked so many times.
        session = await trainer.open(given(tmp_path, "fednode.log_text('x', 'x')"), Ears(), keep)
        watch = session._worker._watch
        tick = watch.tick
        result = await train(session)
        assert looks >= 60
        assert result.samples == 4

    go(tmp_path, test, beat_s=patient.beat_s)


def test_a_flood_of_parameters_and_spans_shares_the_rows_of_metrics(tmp_path):
    async def test(trainer):
        ears = Ears()
        lines = (
            "for n in range(3000): fednode.log_params({str(k): n for k in range(10)})",
            "for n in range(3000): fednode.event('x'); fednode.event('x', False)",
        )
        session = await trainer.open(given(tmp_path, *lines), ears)
        await train(session)
        rows = sum(len(output.parameters) or 1 for output in ears.said if output.kind in ("parameter", "span"))
        assert METRICS_BURST / 2 <= rows <= METRICS_BURST * 1.5
        assert ears.texts("log")[-1].endswith("a second are kept")

    go(tmp_path, test)


# --- forged frames -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "call",
    [
        "forge(kind='metric', values={'a': 1.0}, split='train', epoch=2**40)",
        "forge(kind='metric', values={'a': 'high'}, split='train')",
        "forge(kind='metric', values={'a': 1.0}, split='train', round=-1)",
        f"forge(kind='metric', values=dict.fromkeys(map(str, range({METRIC_VALUES_MAX + 1})), 1.0), split='train')",
        "forge(kind='parameter', parameters={'a': 'b'})",
        "forge(kind='parameter', parameters=5)",
        "forge(kind='span', name='x', seconds=float('nan'))",
        "forge(kind='span', name='x', seconds=-1)",
        "forge(kind='artifact', name='x', staged=5)",
        "forge(kind='artifact', name='x', staged={'file': 'a', 'kind': 'b'})",
        "forge(kind='nonsense')",
        "forge()",
    ],
)
def test_a_forged_frame_ends_the_worker_alone(tmp_path, call):
    async def test(trainer):
        ears = Ears()
        session = await trainer.open(given(tmp_path, *FORGE, call, "threading.Event().wait()"), ears)
        async with failing("garbled its pipe"):
            await train(session)
        assert ears.said == []

    go(tmp_path, test)


def test_forged_levels_and_names_are_made_ordinary(tmp_path):
    async def test(trainer):
        ears = Ears()
        calls = (
            "forge(kind='log', text='a', level='NOTICE')",
            "forge(kind='log', text='b', level=5)",
            "forge(kind='log', text='c' * 100_000, level='ERROR')",
            "forge(kind='metric', values={'k' * 500 + '@class=' + 'c' * 500: 1}, split='mine')",
            "forge(kind='parameter', parameters={'k' * 500: ['v' * 10_000, 't' * 500]})",
        )
        session = await trainer.open(given(tmp_path, *FORGE, *calls), ears)
        await train(session)
        first, second, third, metric, parameter = ears.said
        assert (first.level, second.level, third.level) == ("INFO", "INFO", "ERROR")
        assert len(third.text) <= RECORD_CHARACTERS_MAX
        assert (metric.values, metric.split) == ({"k" * 80 + "@class=" + "c" * 40: 1.0}, "train")
        assert parameter.parameters == {"k" * 250: ("v" * 6000, "t" * 40)}

    go(tmp_path, test)


def test_an_artifact_that_was_forged_reaches_no_other_file(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    troubles: list[str] = []

    async def keep(artifact: TaskOutput, folder: Path) -> None:
        assert artifact.staged is not None
        try:
            take_in(folder, artifact.staged.file, 1000, None)
        except RemoteProtocolError as error:
            troubles.append(type(error).__name__)

    async def test(trainer):
        lines = (
            *FORGE,
            f"os.symlink({str(secret)!r}, 'artifact-1')",
            "staged = lambda file: {'file': file, 'kind': 'x', 'details': '{}'}",
            *(
                f"forge(kind='artifact', name='x', staged=staged({file!r}))"
                for file in ("artifact-1", str(secret), "..")
            ),
        )
        session = await trainer.open(given(tmp_path, *lines), Ears(), keep)
        await train(session)
        assert troubles == ["RemoteProtocolError"] * 3
        assert secret.read_text() == "secret"

    go(tmp_path, test)


def test_places_in_the_record_have_room():
    ordinary = {
        "kind": "metric",
        "values": {"a": 1},
        "split": "eval",
        "round": PLACE_MAX,
        "epoch": PLACE_MAX,
        "step": 9,
    }
    told = output_of(ordinary)
    assert (told.round, told.epoch, told.step, told.split) == (PLACE_MAX, PLACE_MAX, 9, "eval")
    for key in ("round", "epoch"):
        with pytest.raises(ValueError, match="is no count"):
            output_of({**ordinary, key: PLACE_MAX + 1})
    assert {output_of({"kind": "log", "level": level}).level for level in LEVELS} == set(LEVELS)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"a": [1, {"b": null}]}', '{"a": [1, {"b": null}]}'),
        ('{"a": "\\ud800\\u0000"}', '{"a": "?\\u0000"}'),
        ("no JSON", "{}"),
        ("[1]", "{}"),
        ('{"a": "' + "x" * 9000 + '"}', "{}"),
        ('{"a": ' + "[" * 3000 + "]" * 3000 + "}", "{}"),
        ('{"a": ' + "[" * 30 + "]" * 30 + "}", "{}"),
    ],
)
def test_details_are_an_object_that_can_be_kept_and_read(text, kept):
    staged = {"file": "artifact-1", "kind": "k" * 99, "details": text}
    told = output_of({"kind": "artifact", "name": "x", "staged": staged}).staged
    assert told is not None
    assert (told.details, told.kind) == (kept, "k" * 40)


def test_the_gate_passes_all_of_a_call_or_nothing():
    said: list[TaskOutput] = []
    gate = OutputGate(said.append, now=0)
    much = TaskOutput("metric", values=dict.fromkeys(map(str, range(METRICS_BURST - 5)), 1.0))
    few = TaskOutput("parameter", parameters=dict.fromkeys(map(str, range(6)), ("a", "str")))
    assert [gate.take(much, 0), gate.take(few, 0), gate.take(TaskOutput("span"), 0)] == [True, False, False]
    assert said == [much]
    assert gate.take(few, 10)
