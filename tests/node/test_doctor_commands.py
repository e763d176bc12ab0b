"""fednode doctor on the command line, with the node running and stopped, and its endpoint."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from memory_service import MemoryService

from fednode import Client
from node.cli import cli
from node.home.doctor import home_checks
from node.home.home import Home


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", *arguments], prog_name="fednode")


def test_a_line_each_with_a_mark_and_a_word(service: MemoryService) -> None:
    result = doctor()
    assert result.exit_code == 0  # warnings alone are no failure
    assert "✓ ok     keys   all is well\n" in result.output
    assert "! look   reach  b�[2Jeta: away now\n" in result.output  # a peer's name cannot move our cursor
    assert "To fix: wait.\n" in result.output
    assert result.output.endswith("1 to look at.\n")
    assert "\x1b" not in result.output


def test_what_is_wrong_is_in_the_exit_code(service: MemoryService) -> None:
    service.doctor.checks.append({"name": "disk", "state": "wrong", "text": "no room", "remedy": "make some"})
    result = doctor()
    assert result.exit_code == 1
    assert "✗ WRONG  disk" in result.output
    assert result.output.endswith("1 wrong, 1 to look at.\n")
    told = doctor("--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout)["checks"] == service.doctor.checks


def test_the_api_hands_it_on(service: MemoryService) -> None:
    assert Client(service.home).doctor() == {"checks": service.doctor.checks}
    assert ("doctor",) in service.calls


def test_what_cannot_be_looked_into_is_not_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of journals that is another's looks empty to who does not ask."""
    home = tmp_path / "home"
    Home(home).close()
    (home / "journals" / "votes").mkdir(parents=True)
    iterdir = Path.iterdir

    def refusing(path: Path) -> Iterator[Path]:
        if path.name == "votes":
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refusing)
    [check] = [check for check in home_checks(home) if check.name == "journals"]
    assert (check.state, check.text) == ("wrong", "a journal cannot be read (Permission denied)")


def test_a_stopped_node_is_looked_at_too(tmp_path: Path) -> None:
    home = tmp_path / "home"
    Home(home).close()
    result = doctor("--home", str(home))
    assert result.exit_code == 0
    assert f"fednode start --detach --home {home}" in result.output
    (home / "node.key").chmod(0o640)
    assert doctor("--home", str(home)).exit_code == 1
    told = json.loads(doctor("--home", str(home), "--json").stdout)["checks"]
    assert [check["name"] for check in told if check["state"] == "wrong"] == ["keys"]
    assert doctor("--home", str(tmp_path / "nowhere")).exit_code == 1
