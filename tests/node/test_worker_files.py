"""What a worker leaves in its session's folder: only plain files within bounds are read, and none lies about."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
from test_worker import TEMPLATE, Ears, failing, given, go, train
from test_worker_logging import FORGE

import node.training.staged_files as staged_module
from fednode import Interrupted
from fednode_logging import LoggedArtifact
from node.seams import TaskOutput
from node.training.sgd import Progress
from node.training.staged_files import Staging, discard, move_left, open_left, read_left, take_in
from node.training.task_voice import TaskVoice
from node.training.worker_checks import failure_of, output_of
from node.training.worker_frames import INLINE_BYTES_MAX, to_field
from node.training.worker_output import ARTIFACTS_BURST
from protocol.errors import FednodeError, RemoteProtocolError

WHEN_MADE = 'return {"w": np.zeros(1, "f4")}'
BYTES_MAX = 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "session"
    made.mkdir()
    (tmp_path / "secret").write_text("secret")
    return made


# --- opening -----------------------------------------------------------------------------------------------------
def moved(folder: Path, name: str, bytes_max: int) -> None:
    target = folder.parent / f"taken-{name}"
    move_left(folder, name, bytes_max, target)


@pytest.mark.parametrize("take", [open_left, read_left, moved])
@pytest.mark.parametrize(
    ("kind", "trouble"),
    [
        ("absent", "cannot be"),
        ("pipe", "is no plain file"),
        ("folder", "is no plain file"),
        ("link", "cannot be opened"),
        ("endless", "cannot be opened"),
        ("second name", "is no plain file"),
        ("large", "left has 11 bytes, and 10 may be kept"),
    ],
)
def test_nothing_but_plain_files_within_the_bound(folder, take: Callable[..., object], kind, trouble):
    left, secret = folder / "left", folder.parent / "secret"
    match kind:
        case "pipe":
            os.mkfifo(left)  # whoever opened it for reading would wait for a writer
        case "folder":
            left.mkdir()
        case "link":
            left.symlink_to(secret)
        case "endless":
            left.symlink_to("/dev/zero")
        case "second name":
            os.link(secret, left)
        case "large":
            left.write_bytes(b"x" * (BYTES_MAX + 1))
    with pytest.raises(FednodeError, match=trouble):
        take(folder, "left", BYTES_MAX)
    assert secret.read_text() == "secret"


def test_what_is_as_it_should_be_is_read_or_moved(folder, tmp_path):
    (folder / "left").write_bytes(b"x" * BYTES_MAX)
    assert read_left(folder, "left", BYTES_MAX) == b"x" * BYTES_MAX
    move_left(folder, "left", BYTES_MAX, tmp_path / "taken")
    assert (tmp_path / "taken").read_bytes() == b"x" * BYTES_MAX
    assert list(folder.iterdir()) == []


def test_the_node_writes_through_no_link_either(folder, tmp_path):
    (folder / "base.fresh").symlink_to(tmp_path / "secret")
    (folder / "base").symlink_to(tmp_path / "secret")
    assert to_field(b"x" * (INLINE_BYTES_MAX + 1), folder / "base") is True
    assert (tmp_path / "secret").read_text() == "secret"
    assert (folder / "base").stat().st_size == INLINE_BYTES_MAX + 1


# --- a session's answers -----------------------------------------------------------------------------------------
ANSWER = (
    "def say(**fields): b = msgpack.packb({'is': 'answer', **fields}); os.write(link, struct.pack('<I', len(b)) + b)",
)
TRAINED = (
    "[say(call=n, update=True, samples=1, steps=1, metrics={}, encode_s=0.0, usage={}) for n in range(1, 5)]",
    "threading.Event().wait()",
)


@pytest.mark.real
@pytest.mark.parametrize(
    ("line", "trouble"),
    [
        ("os.mkfifo('update')", "update is no plain file"),
        ("os.symlink('/dev/zero', 'update')", "update cannot be opened"),
        ("os.symlink('../../secret', 'update')", "update cannot be opened"),
        ("os.mkdir('update')", "update is no plain file"),
        ("open('update', 'wb').truncate(5)", "update has 5 bytes, and 4 may be kept"),
        ("pass", "update cannot be taken"),
    ],
)
def test_an_update_that_is_no_file_of_the_workers_ends_the_session(tmp_path, line, trouble):
    (tmp_path / "secret").write_text("secret")

    async def test(trainer):
        session = await trainer.open(given(tmp_path, *FORGE, *ANSWER, line, *TRAINED), Ears())
        async with failing(trouble):
            await train(session)
        async with failing(trouble):
            await session.initial_model()
        await session.close()
        assert list((tmp_path / "trainer" / "work").iterdir()) == []

    go(tmp_path, test)


@pytest.mark.real
@pytest.mark.parametrize(
    ("lines", "trouble"),
    [
        (("os.symlink('../../secret', 'schema')", "say(call=2, schema=True, model=b'')"), "schema cannot be opened"),
        (("os.mkfifo('model')", "say(call=2, schema=schema, model=True)"), "model is no plain file"),
        (
            ("open('model', 'wb').truncate(5)", "say(call=2, schema=schema, model=True)"),
            "model has 5 bytes, and 4 may be kept",
        ),
    ],
)
def test_a_first_model_that_is_no_file_of_the_workers_ends_the_session(tmp_path, lines, trouble):
    (tmp_path / "secret").write_text("secret")
    spec = given(tmp_path)
    schema = (
        "from aggregation.tensors.schema import Schema",
        "schema = Schema.of_arrays({'w': np.zeros(1, 'f4')}).to_bytes()",
    )
    text = ("\n" + 8 * " ").join((*FORGE, *ANSWER, *schema, *lines, "threading.Event().wait()"))
    Path(spec.task).write_text(TEMPLATE.replace("LINES", "pass").replace(WHEN_MADE, text))

    async def test(trainer):
        session = await trainer.open(spec, Ears())
        async with failing(trouble):
            await session.initial_model()
        await session.close()

    go(tmp_path, test)


@pytest.mark.real
def test_a_large_update_lies_where_its_worker_does_not_write(tmp_path):
    spec = given(tmp_path)
    large = WHEN_MADE.replace("zeros(1,", "zeros(500_000,")
    Path(spec.task).write_text(TEMPLATE.replace("LINES", "model['w'] += 1").replace(WHEN_MADE, large))

    async def test(trainer):
        session = await trainer.open(spec, Ears())
        first = await session.initial_model()
        assert len(first.model) == 2_000_000
        (folder,) = (tmp_path / "trainer" / "work").iterdir()
        for round_number in (1, 2):
            trained = await session.train(round_number, first.schema, first.model)
            assert isinstance(trained.update, Path)
            assert trained.update.parent != folder
            assert trained.update.stat().st_size == 2_000_000
            assert not (folder / "update").exists()
        (folder / "base.fresh").mkdir()
        async with failing("base cannot be written for the worker"):
            await session.train(3, first.schema, first.model)
        await session.close()
        assert list((tmp_path / "trainer" / "work").iterdir()) == []

    go(tmp_path, test)


# --- staged files that are not taken -----------------------------------------------------------------------------
async def takes(artifact: TaskOutput, folder: Path) -> None:
    assert artifact.staged is not None
    await trio.to_thread.run_sync(partial(take_in, folder, artifact.staged.file, 1000, None))


async def refuses(artifact: TaskOutput, folder: Path) -> None:
    """As a keeper whose run has all that it may have."""
    await trio.lowlevel.checkpoint()


@pytest.mark.real
@pytest.mark.parametrize("keep", [takes, refuses, None])
def test_no_staged_file_outlasts_the_call_that_made_it(tmp_path, keep):
    async def test(trainer):
        lines = (f"for n in range({2 * ARTIFACTS_BURST}): fednode.log_text('x', f'{{n}}.txt')",)
        session = await trainer.open(given(tmp_path, *lines), Ears(), keep)
        await train(session)
        await train(session, round_number=2)  # logs nothing; all that was said before is dealt with by then
        (folder,) = (tmp_path / "trainer" / "work").iterdir()
        assert [path.name for path in folder.iterdir() if path.name.startswith("artifact-")] == []
        await session.close()

    go(tmp_path, test)


def test_what_waits_to_be_kept_is_bounded(folder, monkeypatch):
    monkeypatch.setattr(staged_module, "STAGED_BYTES_MAX", 100)
    staging = Staging(folder)
    names = [staging.put(b"x" * 40), staging.put(b"x" * 40)]
    with pytest.raises(FednodeError, match="80 bytes of artifacts still wait to be kept, and 100 may"):
        staging.put(b"x" * 40)
    assert sorted(path.name for path in folder.iterdir()) == names
    take_in(folder, names[0], 100, None)
    staging.put(b"x" * 60)
    discard(folder, names)
    staging.put(b"x" * 40)
    assert sum(path.stat().st_size for path in folder.iterdir()) == 100


def test_what_cannot_be_copied_or_told_leaves_nothing_behind(folder, tmp_path, monkeypatch):
    def say(output: TaskOutput) -> None:
        raise Interrupted

    staging = Staging(folder)
    voice = TaskVoice(say, Progress(), staging)
    with pytest.raises(Interrupted):
        voice(LoggedArtifact("x", "file", b"x", "{}"))

    def half(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(staged_module.shutil, "copyfile", half)
    with pytest.raises(OSError, match="the disk is full"):
        staging.put(tmp_path / "secret")
    assert list(folder.iterdir()) == []


def test_a_name_that_is_refused_is_not_removed_elsewhere(folder, tmp_path):
    discard(folder, ["../secret", str(tmp_path / "secret"), "artifact-1"])
    with pytest.raises(RemoteProtocolError):
        take_in(folder, "../secret", 100, None)
    assert (tmp_path / "secret").exists()
    discard(tmp_path / "gone", ["artifact-1"])


# --- texts of frames ---------------------------------------------------------------------------------------------
class Unshown(list[int]):
    """Stands for something nested of four megabytes, which takes a while to be turned into a text."""

    def __str__(self) -> str:
        raise AssertionError("it was turned into a text")

    __repr__ = __str__


@pytest.mark.parametrize(
    "frame",
    [
        {"kind": "log", "text": Unshown()},
        {"kind": Unshown()},
        {"kind": "log", "round": Unshown()},
        {"kind": "span", "name": Unshown(), "seconds": 1.0},
        {"kind": "span", "name": "x", "seconds": Unshown()},
        {"kind": "parameter", "parameters": {"a": [Unshown(), "int"]}},
        {"kind": "parameter", "parameters": {"a": ["1", Unshown()]}},
        {"kind": "metric", "split": "train", "values": {"a": Unshown()}},
        {"kind": "artifact", "name": Unshown(), "staged": {"file": "artifact-1", "kind": "x", "details": "{}"}},
        {"kind": "artifact", "name": "x", "staged": {"file": "artifact-1", "kind": "x", "details": Unshown()}},
    ],
)
def test_what_is_no_text_is_not_made_one(frame):
    with pytest.raises((TypeError, ValueError)):
        output_of(frame)


def test_what_is_no_text_in_a_failure_is_not_made_one():
    assert failure_of({"what": "w"}) == {"what": "w", "remedy": "", "traceback": "", "brief": ""}
    with pytest.raises(TypeError, match="a Unshown is no text"):
        failure_of({"what": Unshown()})
