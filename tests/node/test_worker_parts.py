"""The pure parts around a worker: frames, lines, rates, and the watch."""

import pytest

from fednode_logging import METRIC_VALUES_MAX
from node.seams import TaskOutput
from node.training.worker_checks import clean_metrics
from node.training.worker_frames import INLINE_BYTES_MAX, FrameReader, encode_frame, from_field, to_field
from node.training.worker_output import (
    LINE_CHARACTERS_MAX,
    LINES_BURST,
    Bucket,
    LineCutter,
    OutputGate,
    ReadingSpeed,
)
from node.training.worker_process import describe_end, worker_environment
from node.training.worker_watch import Watch, WatchLimits
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.limits import FRAME_BYTES_MAX


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_frames_come_out_as_they_went_in_however_they_are_cut(step):
    frames = [{"do": "train", "call": 1, "model": b"\0" * 50}, {}, {"a": [1.5, None, "ü"]}]
    stream = b"".join(map(encode_frame, frames))
    reader, read = FrameReader(), []
    for start in range(0, len(stream), step):
        read += reader.feed(stream[start : start + step])
    assert read == frames


@pytest.mark.parametrize(
    "raw",
    [
        (FRAME_BYTES_MAX + 1).to_bytes(4, "little"),
        b"\x01\0\0\0\xc1",
        b"\x01\0\0\0\x05",
        b"\x02\0\0\0\xa5a",
        b"\xff" * 9,
        (3000).to_bytes(4, "little") + b"\x91" * 3000,  # nested too deep
        b"\x05\0\0\0\xdd\xff\xff\xff\xff",  # an array of four thousand million
    ],
)
def test_what_is_no_frame_is_refused(raw):
    with pytest.raises(RemoteProtocolError):
        FrameReader().feed(raw)


def test_a_frame_over_the_limit_is_not_sent():
    with pytest.raises(LocalProtocolError):
        encode_frame({"x": bytes(FRAME_BYTES_MAX)})


def test_large_fields_go_through_files(tmp_path):
    small, large = b"a" * INLINE_BYTES_MAX, b"b" * (INLINE_BYTES_MAX + 1)
    assert to_field(small, tmp_path / "f") == from_field(small, tmp_path / "f") == small
    assert not (tmp_path / "f").exists()
    assert from_field(to_field(large, tmp_path / "f"), tmp_path / "f") == tmp_path / "f"
    assert (tmp_path / "f").read_bytes() == large
    for nonsense in (1, "/etc/passwd", False, None):
        with pytest.raises(TypeError):
            from_field(nonsense, tmp_path / "f")


def test_lines_are_cut_at_their_ends_and_when_they_have_none():
    cutter = LineCutter()
    assert cutter.feed(b"one\r\ntw") == ["one"]
    assert cutter.feed(b"o\n\n") == ["two", ""]
    endless = cutter.feed(b"x" * 10_000)
    assert endless == ["x" * 10_000]
    assert cutter.feed(b"x" * 10_000) == []
    assert cutter.feed(b"xx\nback\n\xffodd") == ["back"]
    assert cutter.end() == ["\ufffdodd"]
    assert cutter.end() == []


def test_a_bucket_gives_its_burst_and_then_its_rate():
    bucket = Bucket(burst=10, rate=2, now=0)
    assert [bucket.take(8, 0), bucket.take(8, 0), bucket.take(8, 0), bucket.take(8, 1.5), bucket.take(99, 1000)] == [
        8, 2, 0, 3, 10,
    ]  # fmt: skip


def test_a_reader_is_held_down_to_its_speed():
    speed = ReadingSpeed(100, now=0)
    assert speed.pause_s(100, 0) == 0
    assert speed.pause_s(50, 0) == 0.5
    assert speed.pause_s(50, 0.5) == 0.5
    assert speed.pause_s(100, 60) == 0


def test_the_gate_counts_what_it_leaves_out_and_says_so_once():
    said: list[TaskOutput] = []
    gate = OutputGate(said.append, now=0)
    gate.round = 4
    gate.lines("stdout", ["x"] * LINES_BURST, 0)
    gate.lines("stdout", ["y"] * 7, 0)
    assert len(said) == LINES_BURST
    gate.lines("stderr", ["z" * 9999], 10)
    assert said[-2].text.startswith("7 lines or metrics were left out")
    assert (said[-2].kind, said[-2].level, said[-2].round) == ("log", "WARNING", 4)
    assert (said[-1].kind, len(said[-1].text)) == ("stderr", LINE_CHARACTERS_MAX)
    gate.settle()
    assert len(said) == LINES_BURST + 2


@pytest.mark.parametrize("values", [{"a": "high"}, {"a": None}, dict.fromkeys(range(METRIC_VALUES_MAX + 1), 0.0), 5])
def test_metrics_that_are_no_numbers_are_refused(values):
    with pytest.raises((ValueError, TypeError)):
        clean_metrics(values)


def test_metrics_become_plain_numbers_with_bounded_names():
    assert clean_metrics({"k" * 200: True, 7: "1.5"}) == {"k" * 80: 1.0, "7": 1.5}


LIMITS = WatchLimits(beat_s=1, silence_s=3, no_progress_s=6, abort_s=2)


def ticks_until_trouble(watch: Watch, most: int = 50) -> tuple[int, str]:
    for tick in range(1, most):
        if trouble := watch.tick():
            return tick, trouble
    return most, ""


def test_an_idle_worker_is_in_no_trouble():
    assert ticks_until_trouble(Watch(LIMITS)) == (50, "")


def test_silence_during_a_call_is_trouble():
    watch = Watch(LIMITS)
    watch.call_begins()
    assert ticks_until_trouble(watch) == (4, "gave no sign of life for 3 s, the limit worker_silence_s")


def test_signs_of_life_without_progress_are_trouble_later():
    watch = Watch(LIMITS)
    watch.call_begins()
    count = 0
    while not (trouble := watch.tick()):
        count += 1
        watch.beat(ticks=0, cpu_s=count * 0.01)
    assert (count, trouble) == (6, "hangs: it did nothing for 6 s, the limit worker_hang_s")


@pytest.mark.parametrize("beat", [lambda n: {"ticks": n, "cpu_s": 0.0}, lambda n: {"ticks": 0, "cpu_s": n * 0.5}])
def test_steps_or_computing_are_progress(beat):
    watch = Watch(LIMITS)
    watch.call_begins()
    for number in range(100):
        assert watch.tick() == ""
        watch.beat(**beat(number))


def test_output_is_progress():
    watch = Watch(LIMITS)
    watch.call_begins()
    for _ in range(100):
        assert watch.tick() == ""
        watch.beat(0, 0.0)
        watch.progress()


def test_an_abort_must_be_heeded_in_time():
    watch = Watch(LIMITS)
    watch.aborting(3)
    assert ticks_until_trouble(watch) == (3, "did not stop within 2 s after its call was given up")
    watch.ended(2)  # an earlier call's end is not this one's
    assert ticks_until_trouble(watch)[1]
    watch.ended(3)
    assert ticks_until_trouble(watch) == (50, "")


def test_ends_are_put_in_words():
    assert describe_end(0) == "ended by itself with status 0"
    assert describe_end(-15) == "crashed (SIGTERM)"
    assert "too much memory" in describe_end(-9)


def test_the_environment_keeps_what_is_needed_and_nothing_else(tmp_path):
    inherited = {"PATH": "/bin", "LC_ALL": "C", "CUDA_VISIBLE_DEVICES": "0", "AWS_SECRET": "s", "FEDNODE_HOME": "/h"}
    scrubbed = worker_environment(inherited | {"PYTHONPATH": "/elsewhere", "HOME": "/root"}, tmp_path, threads=3)
    assert (scrubbed["PATH"], scrubbed["LC_ALL"], scrubbed["CUDA_VISIBLE_DEVICES"]) == ("/bin", "C", "0")
    assert not {"AWS_SECRET", "FEDNODE_HOME"} & scrubbed.keys()
    assert scrubbed["HOME"] == str(tmp_path)
    assert "/elsewhere" not in scrubbed["PYTHONPATH"]
    assert scrubbed["OMP_NUM_THREADS"] == "3"
