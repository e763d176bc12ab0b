"""The command: what it prints, how it ends, and what it does not import."""

import json
import subprocess
import sys

from click.testing import CliRunner
from tui_fakes import FakeClient, recorded

from tui import command
from tui.feed import LiveFeed

LIGHT = ("textual", "httpx", "duckdb", "numpy", "asyncio", "rich", "fednode", "torch")


def call(*arguments, client=None, monkeypatch=None):
    if client is not None:
        monkeypatch.setattr(command, "_live_feed", lambda home: LiveFeed(client.connect))
    return CliRunner().invoke(command.tui, arguments)


def test_once_prints_how_things_are(monkeypatch):
    done = call("--once", client=FakeClient(recorded()[:1]), monkeypatch=monkeypatch)
    assert done.exit_code == 0
    for words in ("ward-north in hospital-study", "digits-mlp", "▶ RUNNING", "♛ icu", "participants of digits-mlp"):
        assert words in done.output
    assert "\x1b" not in done.output


def test_once_as_json_is_the_snapshot(monkeypatch):
    done = call("--once", "--json", client=FakeClient(recorded()[:1]), monkeypatch=monkeypatch)
    assert json.loads(done.output) == {key: value for key, value in recorded()[0].items() if key != "type"}


def test_without_a_node_the_exit_code_says_so(tmp_path):
    done = call("--once", "--home", str(tmp_path))
    assert done.exit_code == command.EXIT_NOT_RUNNING
    assert "No node is running at" in done.output


def test_options_that_do_not_go_together_are_usage_errors(tmp_path):
    store = tmp_path / "s.duckdb"
    store.touch()
    assert call("--json").exit_code == 2
    assert call("--home", str(tmp_path), "--store", str(store)).exit_code == 2
    assert call("--store", str(tmp_path / "none")).exit_code == 2
    assert "needs a terminal" in call("--home", str(tmp_path)).output


def test_a_silent_node_is_not_waited_for_forever(monkeypatch):
    monkeypatch.setattr(command, "FIRST_EVENT_DEADLINE_S", 0.01)
    done = call("--once", client=FakeClient([]), monkeypatch=monkeypatch)
    assert done.exit_code == command.EXIT_NOT_RUNNING
    assert "did not answer" in done.output


def test_the_help_of_all_commands_loads_nothing_heavy():
    code = f"import sys, tui.command; print([name for name in {LIGHT!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
