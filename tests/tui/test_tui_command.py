"""The command: what it prints, how it ends, and what it does not import."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from tui_fakes import recorded

from fednode import NodeNotRunning
from tui import command

LIGHT = ("textual", "httpx", "duckdb", "numpy", "asyncio", "rich", "fednode", "torch")


def call(*arguments, obj=None):
    return CliRunner().invoke(command.tui, arguments, obj=obj)


@pytest.fixture
def snapshot(monkeypatch):
    homes = []

    def of_node(home):
        homes.append(home)
        return recorded()[0]

    monkeypatch.setattr(command, "_snapshot_of_node", of_node)
    return homes


def test_once_prints_how_things_are(snapshot):
    done = call("--once")
    assert done.exit_code == 0
    for words in ("ward-north in hospital-study", "digits-mlp", "▶ RUNNING", "♛ icu", "participants of digits-mlp"):
        assert words in done.output
    assert "\x1b" not in done.output


def test_once_as_json_is_the_snapshot(snapshot):
    done = call("--once", "--json")
    assert json.loads(done.output) == {key: value for key, value in recorded()[0].items() if key != "type"}


def test_options_before_the_commands_name_count_too(snapshot):
    class Given:
        home, json = "/somewhere", True

    assert json.loads(call("--once", obj=Given()).output)["status"]["name"] == "ward-north"
    assert snapshot == ["/somewhere"]


def test_without_a_node_the_error_says_so(tmp_path):
    assert isinstance(call("--once", "--home", str(tmp_path)).exception, NodeNotRunning)


def test_options_that_do_not_go_together_are_usage_errors(tmp_path):
    store = tmp_path / "s.duckdb"
    store.touch()
    assert call("--json").exit_code == 2
    assert call("--home", str(tmp_path), "--store", str(store)).exit_code == 2
    assert call("--store", str(tmp_path / "none")).exit_code == 2
    assert "needs a terminal" in call("--home", str(tmp_path)).output


def test_the_help_of_all_commands_loads_nothing_heavy():
    code = f"import sys, tui.command; print([name for name in {LIGHT!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
