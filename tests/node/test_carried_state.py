"""What a participant carries from round to round: it moves on only when a committed checkpoint used its update.

docs/protocol.md §8.27.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from aggregation.server_optimizers import STATE_VALUE_END
from node.training import carried_files
from node.training.carried_files import CARRIED_FILE, NEXT_FILE, name_next, use_named
from node.training.participant_state import carries_state, read_state, write_next
from protocol.errors import FednodeError

ARRAYS = {"residual": 3, "control": 2}
ZEROS = [0.0] * 5
A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def write(directory: Path, value: float) -> None:
    write_next(directory, {name: np.full(length, value, np.float32) for name, length in ARRAYS.items()})


def read(directory: Path) -> list[float]:
    told: list[str] = []
    state = read_state(directory, ARRAYS, told.append)
    assert list(state) == list(ARRAYS)
    assert told == []
    return [float(value) for values in state.values() for value in values]


def trained(directory: Path, round_number: int, update: str, value: float) -> None:
    write(directory, value)
    name_next(directory, round_number, update)


def test_who_has_nothing_begins_with_zeros(tmp_path: Path) -> None:
    assert read(tmp_path) == ZEROS


def test_an_update_that_was_used_moves_the_state_on(tmp_path: Path) -> None:
    trained(tmp_path, 1, A, 1.0)
    assert read(tmp_path) == ZEROS
    use_named(tmp_path, 1, A)
    assert read(tmp_path) == [1.0] * 5


def test_an_update_that_was_not_used_leaves_it(tmp_path: Path) -> None:
    trained(tmp_path, 1, A, 1.0)
    use_named(tmp_path, 1, A)
    trained(tmp_path, 2, B, 2.0)  # refused, or never fetched
    trained(tmp_path, 3, C, 3.0)
    assert read(tmp_path) == [1.0] * 5
    use_named(tmp_path, 3, C)
    assert read(tmp_path) == [3.0] * 5
    use_named(tmp_path, 2, B)  # its state is gone, and would be older
    assert read(tmp_path) == [3.0] * 5


def test_an_update_that_was_used_a_round_late(tmp_path: Path) -> None:
    """docs/protocol.md §8.20: while the next one is being trained."""
    trained(tmp_path, 4, A, 4.0)
    trained(tmp_path, 5, B, 5.0)
    use_named(tmp_path, 4, A)
    assert read(tmp_path) == [4.0] * 5
    use_named(tmp_path, 5, B)
    assert read(tmp_path) == [5.0] * 5


def test_saying_it_twice_changes_nothing(tmp_path: Path) -> None:
    trained(tmp_path, 1, A, 1.0)
    use_named(tmp_path, 1, A)
    trained(tmp_path, 2, B, 2.0)
    use_named(tmp_path, 1, A)
    use_named(tmp_path, 1, A)
    assert read(tmp_path) == [1.0] * 5
    use_named(tmp_path, 2, B)
    assert read(tmp_path) == [2.0] * 5


def test_a_round_that_is_trained_again_gives_its_state_again(tmp_path: Path) -> None:
    """A crash after training and before the offer was durable."""
    write(tmp_path, 9.0)  # never named: nobody has heard of its update
    assert read(tmp_path) == ZEROS
    trained(tmp_path, 1, A, 1.0)
    trained(tmp_path, 1, A, 1.0)
    use_named(tmp_path, 1, A)
    assert read(tmp_path) == [1.0] * 5


def test_what_nobody_will_use_does_not_pile_up(tmp_path: Path) -> None:
    for number in range(1, 30):
        trained(tmp_path, number, f"{number:064x}", float(number))
    (tmp_path / f"{NEXT_FILE}-killed").write_bytes(b"half")
    (tmp_path / "of-the-task").write_bytes(b"its own")
    trained(tmp_path, 30, A, 30.0)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"carried.00000029.{29:064x}", f"carried.00000030.{A}", "of-the-task"]
    use_named(tmp_path, 30, A)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CARRIED_FILE, "of-the-task"]


def test_a_crash_at_any_moment_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the n-th call of the operating system: what counts is whole, and of a used update or the one
    before it."""

    class Killed(BaseException):
        pass

    crashes = 0
    for at in range(1, 20):
        folder = tmp_path / str(at)
        folder.mkdir()
        trained(folder, 1, A, 1.0)
        use_named(folder, 1, A)
        left = [at]
        with monkeypatch.context() as patched:
            for place, name in ((os, "replace"), (os, "fdatasync"), (os, "open"), (Path, "unlink"), (Path, "glob")):
                _die_after(patched, place, name, left, Killed)
            try:
                trained(folder, 2, B, 2.0)
                use_named(folder, 2, B)
            except Killed:
                crashes += 1
        assert read(folder) in ([1.0] * 5, [2.0] * 5)
        use_named(folder, 2, B)  # said again after the restart
        if read(folder) != [2.0] * 5:  # its update was never offered: the round is trained again
            trained(folder, 2, B, 2.0)
            use_named(folder, 2, B)
        assert read(folder) == [2.0] * 5
    assert crashes >= 6


def _die_after(patched: pytest.MonkeyPatch, place: object, name: str, left: list[int], killed: type) -> None:
    real = getattr(place, name)

    def call(*arguments: object, **options: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise killed
        return real(*arguments, **options)

    patched.setattr(place, name, call)


def test_damage_is_told_and_taken_for_zeros(tmp_path: Path) -> None:
    trained(tmp_path, 1, A, 1.0)
    use_named(tmp_path, 1, A)
    file = tmp_path / CARRIED_FILE
    whole = file.read_bytes()
    flipped = bytes([*whole[:40], whole[40] ^ 1, *whole[41:]])
    for content in (b"", whole[:-1], whole + b"\0", flipped, whole[::-1]):
        file.write_bytes(content)
        told: list[str] = []
        state = read_state(tmp_path, ARRAYS, told.append)
        assert all((values == 0).all() for values in state.values())
        assert told == ["what this node carries from round to round is damaged; it begins with zeros"]


def test_a_state_of_another_model_is_not_taken(tmp_path: Path) -> None:
    trained(tmp_path, 1, A, 1.0)
    use_named(tmp_path, 1, A)
    told: list[str] = []
    assert (read_state(tmp_path, {"residual": 4}, told.append)["residual"] == 0).all()
    assert len(told) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, STATE_VALUE_END])
def test_numbers_that_no_training_leaves_are_not_taken(tmp_path: Path, value: float) -> None:
    trained(tmp_path, 1, A, value)
    use_named(tmp_path, 1, A)
    told: list[str] = []
    assert (read_state(tmp_path, ARRAYS, told.append)["control"] == 0).all()
    assert len(told) == 1


def test_what_lies_in_the_way_is_told_and_no_crash(tmp_path: Path) -> None:
    """A task's code may put anything there."""
    (tmp_path / CARRIED_FILE).mkdir()
    told: list[str] = []
    read_state(tmp_path, ARRAYS, told.append)
    assert "cannot be read" in told[0]
    trained(tmp_path, 1, A, 1.0)
    with pytest.raises(FednodeError, match="carry this node's state on"):
        use_named(tmp_path, 1, A)


def test_most_runs_carry_nothing(tmp_path: Path) -> None:
    assert not carries_state("bf16", "fedavg")
    assert not carries_state("fp32", "fednova")
    assert carries_state("int8", "fedavg")
    assert carries_state("fp32", "scaffold")
    name_next(tmp_path, 1, A)
    use_named(tmp_path, 1, A)
    assert not list(tmp_path.iterdir())
    assert carried_files.NAMED_MAX == 2
