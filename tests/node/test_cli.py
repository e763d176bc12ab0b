"""The command line: what it says, its exit codes, and that it starts at once."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click
import pytest
from command_ground import done, run
from memory_service import MemoryService, log_json, run_json

from node.cli import COMMANDS, cli
from node.cli import show as shown
from node.cli.common import exit_code_of
from protocol.manifest.keys import KEYS
from protocol.manifest.read import read_configuration

ROOT = Path(__file__).parents[2]
CONFIGURATION = 'comm_round = 3\n[task]\nname = "digits"\n[data]\nname = "digits"\n'
HEAVY = ("torch", "libp2p", "duckdb", "trio", "pydantic", "httpx", "starlette", "textual", "numpy", "rich", "hypercorn")


# --- starting at once ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["run", "start", "--help"], ["start", "--help"], ["status"]]
)
def test_nothing_heavy_is_loaded(arguments: list[str], tmp_path: Path) -> None:
    code = f"""
import atexit, os, sys
os.environ["FEDNODE_HOME"] = {str(tmp_path)!r}
atexit.register(lambda: print("loaded:", *sorted(set(sys.modules) & set({HEAVY!r}))))
from node.cli import main
sys.argv[1:] = {arguments!r}
main()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.stdout.splitlines()[-1] == "loaded:", result


def test_help_is_quick() -> None:
    """CPU time of a whole process, the best of three: loaded machines only make it longer."""
    code = (
        "import resource, subprocess, sys\n"
        "times = []\n"
        "for _ in range(3):\n"
        "    before = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "    subprocess.run([sys.executable, '-m', 'node', '--help'], capture_output=True, check=True)\n"
        "    after = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "    times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)\n"
        "print(min(times))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert float(result.stdout) < 0.3


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_every_command_has_help_json_and_home() -> None:
    found = {path: command for path, command in commands(cli) if path[0] in COMMANDS}
    assert len(found) >= 25
    for path, command in found.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--json", "--home", "--debug"} <= options, path
        assert command.help, path
        assert "Show this message" in done(*path, "--help").output


def test_commands_of_other_packages_are_found_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    points = (EntryPoint("tui", "no.such.module:tui", "fednode.commands"),)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: points)
    assert "tui" in done("--help").output  # known without being loaded
    assert run("tui").exit_code == 1
    points = (EntryPoint("tui", "node.cli.sql:sql", "fednode.commands"),)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: points)
    assert "DuckDB" in done("tui", "--help").output


# --- errors and exit codes -------------------------------------------------------------------------------------
def test_usage_errors_are_2_and_suggest() -> None:
    result = run("staus")
    assert result.exit_code == 2
    assert "Did you mean 'status'?" in result.stderr
    assert run("run", "start").exit_code == 2
    assert run("invite", "--expires", "soon").exit_code == 2


def test_no_node_is_3(tmp_path: Path) -> None:
    result = run("status", "--home", str(tmp_path))
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "No node is running at" in result.stderr
    assert "fednode start" in result.stderr
    assert "--store" not in result.stderr, "there is no record yet"
    (tmp_path / "record.duckdb").touch()
    result = run("--json", "status", "--home", str(tmp_path))
    told = json.loads(result.stderr)["error"]
    assert told["code"] == "not-running"
    assert f"fednode run list --store {tmp_path / 'record.duckdb'}" in told["remedy"]


def test_what_the_node_refuses_is_4_and_what_is_missing_is_1(service: MemoryService) -> None:
    done("group", "create", "study")
    assert run("group", "create", "study").exit_code == 4
    assert run("group", "show", "other").exit_code == 1
    result = run("join", "fed1wrong")
    assert result.exit_code == 4
    assert result.stderr == "Error: The token's checksum is wrong.\nTo fix: copy it again, all of it.\n"
    error = json.loads(run("join", "fed1wrong", "--json").stderr)["error"]
    assert error["code"] == "token-mistyped"


def test_a_bug_is_1_and_shows_its_traceback_only_with_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any) -> Any:
        raise KeyError("a bug")

    monkeypatch.setattr("fednode_client.Client.status", fail)
    result = run("status")
    assert result.exit_code == 1
    assert "fednode itself failed (KeyError: 'a bug')" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in run("status", "--debug").stderr
    assert exit_code_of(KeyError()) == 1


# --- node ------------------------------------------------------------------------------------------------------
def test_status_says_what_to_do_next(service: MemoryService) -> None:
    result = done("status")
    assert "Node alpha is running" in result.stdout
    assert "fednode group create" in result.stdout
    assert "2.5 MB received" in result.stdout
    service.group_names.append("study")
    assert "fednode invite" in done("status").stdout
    assert json.loads(done("status", "--json").stdout)["name"] == "alpha"
    assert json.loads(done("--json", "status").stdout)["name"] == "alpha"


def test_home_counts_before_and_after_the_command(service: MemoryService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDNODE_HOME", "/nowhere")
    assert run("status").exit_code == 3
    done("--home", str(service.home), "status")
    done("status", "--home", str(service.home))


def test_peers(service: MemoryService) -> None:
    lines = done("peers").stdout.splitlines()
    assert lines[0].split() == [
        "NAME",
        "NODE",
        "STATE",
        "LAST",
        "SEEN",
        "CORES",
        "MEMORY",
        "GPUS",
        "RUNS",
        *["BLOBS", "BY"],
    ]
    assert "this node" in lines[1]
    assert "now" in lines[1]
    assert "8.6 GB" in lines[1]
    assert "away" in lines[2]
    assert len(json.loads(done("peers", "--json").stdout)) == 2


# --- groups ----------------------------------------------------------------------------------------------------
def test_groups(service: MemoryService) -> None:
    assert "None yet" in done("group", "list").stderr
    assert "you are its admin" in done("group", "create", "my study").stdout
    assert "my study" in done("group", "list").stdout
    result = done("group", "show", "my study")
    assert "Ann" in result.stdout
    assert json.loads(done("group", "show", "my study", "--json").stdout)["role"] == "admin"


def test_an_invitation_is_the_only_thing_on_standard_output(service: MemoryService) -> None:
    result = done("invite", "--role", "observer", "--uses", "3", "--expires", "12h")
    assert result.stdout == "fed1token\n"
    assert "fednode join TOKEN" in result.stderr
    assert service.calls[-1] == ("invite", None, "observer", 3, 43_200)
    done("invite")
    assert service.calls[-1] == ("invite", None, "member", 1, 604_800)


def test_joining(service: MemoryService) -> None:
    assert "You are in study as member." in done("join", "fed1token").stdout
    done("join", "-", stdin="  fed1\n token\n")


# --- data ------------------------------------------------------------------------------------------------------
def test_data(service: MemoryService, tmp_path: Path) -> None:
    assert "None yet" in done("data", "list").stderr
    done("data", "add", "digits", str(tmp_path), "--option", "target=y", "--option", "share=0.2", "--option", "x=NaN")
    assert service.data["digits"]["options"] == {"target": "y", "share": 0.2, "x": "NaN"}
    assert str(tmp_path) in done("data", "list").stdout
    done("data", "remove", "digits")
    assert run("data", "remove", "digits").exit_code == 1
    assert run("data", "add", "digits", str(tmp_path / "missing")).exit_code == 2
    assert run("data", "add", "digits", str(tmp_path), "--option", "target").exit_code == 2


# --- runs ------------------------------------------------------------------------------------------------------
def test_starting_a_run_reports_what_was_taken_as(service: MemoryService, tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(CONFIGURATION)
    result = done("run", "start", str(file), "--set", "training.epochs=2", "--set", 'tags=["a"]')
    assert "Run study" in result.stdout
    assert "Note: comm_round taken as training.rounds" in result.stderr
    assert service.calls[-1] == ("start_run", str(file), None, {"training.epochs": 2, "tags": ["a"]})
    assert json.loads(done("run", "start", str(file), "--json").stdout)["taken_as"]
    done("run", "start", "-", stdin=CONFIGURATION)
    assert service.calls[-1][1] is None


def test_a_wrong_configuration_shows_all_errors(service: MemoryService, tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(CONFIGURATION + "[training]\nepochs = 0\nlearn_rate = 1\n")
    result = run("run", "start", str(file))
    assert result.exit_code == 2
    assert "training.epochs is 0; allowed is a whole number from 1 to 10,000" in result.stderr
    assert "did you mean training.learning_rate?" in result.stderr
    assert f"{file} has 2 errors:" in result.stderr
    assert run("run", "start", str(tmp_path / "none.toml")).exit_code == 2


def test_what_is_no_toml_is_told_with_its_file_and_line(service: MemoryService, tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(CONFIGURATION + "[training]\nepochs = \n")
    line = CONFIGURATION.count("\n") + 2
    result = run("run", "start", str(file))
    assert f"{file} has an error:\n  it is not TOML: Invalid value (at line {line}, column" in result.stderr
    assert "The configuration has an error" in run("run", "start", "-", stdin="a =").stderr


def test_listing_and_showing_runs(service: MemoryService) -> None:
    assert "None yet" in done("run", "list").stderr
    service.all_runs["a"] = run_json("a", decision="undecided")
    service.all_runs["b"] = run_json("b", state="FINISHED", reason="", note="waits for beta")
    result = done("run", "list")
    assert "fednode run accept 'a'" in result.stderr
    assert "2/10" in result.stdout
    result = done("run", "show", "a")
    assert "0.75" in result.stdout
    assert "fednode run accept 'a'" in result.stderr
    result = done("run", "show", "b")
    assert "waits for beta" in result.stdout
    assert "fednode model get 'b'" in result.stderr
    assert json.loads(done("run", "show", "b", "--json").stdout)["manifest"]
    assert run("run", "show", "c").exit_code == 1


@pytest.mark.parametrize(
    ("state", "by", "of", "accuracy"),
    [
        ("RUNNING", 1, 3, "0.75 (1 of 3 nodes so far)"),
        ("RUNNING", 3, 3, "0.75"),
        ("FINISHED", 2, 3, "0.75 (2 of 3 nodes)"),
        ("FINISHED", 3, 2, "0.75"),
        ("FINISHED", 0, 2, "0.75"),
    ],
)
def test_a_runs_figures_say_whose_they_are(service: MemoryService, state: str, by: int, of: int, accuracy: str) -> None:
    service.all_runs["a"] = run_json("a", state=state, measured_by=by, measured_of=of)
    lines = [line.split(maxsplit=1) for line in done("run", "show", "a").stdout.splitlines()]
    assert ["accuracy", accuracy] in lines
    assert "loss" not in [line[0] for line in lines if line], "of which nothing is known"


def test_a_runs_traffic_says_what_it_counts(service: MemoryService) -> None:
    service.all_runs["a"] = run_json("a")
    shown = done("run", "show", "a").stdout
    assert "traffic      30 B of models and updates, to and from this node, in committed rounds\n" in shown
    assert "since start  10 B sent, 20 B received for this run, since the node's start (all its traffic: fed" in shown
    service.all_runs["a"] = run_json("a", bytes_sent=0, bytes_received=0)  # as after the node was started again
    assert "since start" not in done("run", "show", "a").stdout


def test_a_run_tells_whose_updates_were_refused(service: MemoryService) -> None:
    service.all_runs["a"] = run_json("a")
    shown = done("run", "show", "a").stdout
    assert "Updates that were refused:" in shown
    assert "not-finite: NaN" in shown
    told = json.loads(done("run", "show", "a", "--json").stdout)["updates_refused"]
    assert [(each["round"], each["node_name"], each["reason"]) for each in told] == [(2, "alpha", "not-finite: NaN")]


def test_what_a_rule_sets_aside_is_told_apart_and_in_a_line(
    service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_configuration(CONFIGURATION + '[aggregation]\nrule = "krum"\n').configuration.model_dump(
        mode="json"
    )
    service.all_runs["a"] = run_json("a", manifest=manifest)
    row = {
        "run_id": "cd" * 32,
        "node_id": "x",
        "samples": 9,
        "outcome": "refused",
        "reason": "set-aside: krum took another",
    }
    rows = [{**row, "round": at, "node_name": name} for at in (2, 1) for name in ("ben", "cleo")][:3]

    async def updates(run: str, wanted: Any) -> list[Any]:
        return rows

    monkeypatch.setattr(service.curves, "updates", updates)
    shown = done("run", "show", "a").stdout
    assert "krum set aside: ben 2 rounds, cleo 1" in shown
    assert "Updates that were refused" not in shown
    assert "how          krum 0.2 · bf16 · no audit" in shown
    assert "round 2: of 2 updates krum 0.2 bears no liar" in shown


def test_rounds_of_which_the_same_cannot_be_said_are_one_row(service: MemoryService) -> None:
    service.audits.verdicts = ["agrees", *["unknown"] * 4]
    rows = run("run", "audit", "a").stdout.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["9", "5-8"]


@pytest.mark.parametrize(
    ("verdicts", "code", "said"),
    [
        (["agrees", "unknown"], 0, "1 agree, bit for bit, 1 cannot be said."),
        (["differs", "agrees"], 1, "1 agree, bit for bit, 1 differ."),
        (["unknown"], 4, "1 cannot be said."),
    ],
)
def test_an_audit_says_what_came_of_it_by_its_exit_code(
    service: MemoryService, verdicts: list[str], code: int, said: str
) -> None:
    service.audits.verdicts = verdicts
    result = run("run", "audit", "a", "--round", "9")
    assert service.calls[-1] == ("audit", "a", 9)
    assert (result.exit_code, said in result.stderr) == (code, True)
    assert "alpha" in result.stdout
    told = run("run", "audit", "a", "--json")
    assert told.exit_code == code
    assert [each["verdict"] for each in json.loads(told.stdout)["rounds"]] == verdicts


def test_deciding_about_runs(service: MemoryService) -> None:
    service.all_runs["a"] = run_json("a")
    done("run", "accept", "a", "--data", "mine", "--task", __file__)
    assert service.calls[-1] == ("accept", "a", "mine", __file__)
    done("run", "decline", "a", "--reason", "busy")
    assert service.calls[-1] == ("decline", "a", "busy")
    assert "STOPPED" in done("run", "stop", "a").stdout
    assert service.calls[-1] == ("stop_run", "a", "")


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        ("FINISHED", "", "a has ended already, at round 2 of 10: FINISHED.\n"),
        ("STOPPED", "the\nnight", "a has ended already, at round 2 of 10: STOPPED (the night).\n"),
    ],
)
def test_stopping_a_run_that_has_ended_says_how_it_did_and_is_no_error(
    service: MemoryService, state: str, reason: str, said: str
) -> None:
    service.all_runs["a"] = run_json("a", state=state, reason=reason)
    result = done("run", "stop", "a", "--reason", "late")
    assert (result.exit_code, result.stdout) == (0, said)
    told = json.loads(done("run", "stop", "a", "--json").stdout)
    assert (told["asked"], told["state"], told["reason"]) == (False, state, reason)


def test_metrics_are_a_line_per_round(service: MemoryService) -> None:
    lines = done("run", "metrics", "a").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["ROUND", "NODE", "accuracy", "loss"],
        ["1", "mean", "0.5", "not", "finite"],
        ["2", "mean", "0.75"],
    ]
    assert len(json.loads(done("run", "metrics", "a", "--json", "--key", "loss").stdout)) == 3


def test_metrics_as_csv_are_every_measurement(service: MemoryService) -> None:
    every = json.loads(done("run", "metrics", "a", "--json").stdout)
    rows = list(csv.DictReader(done("run", "metrics", "a", "--csv").stdout.splitlines()))
    assert [(row["key"], row["round"]) for row in rows] == [(point["key"], str(point["round"])) for point in every]
    assert [row["value"] for row in rows] == ["" if point["value"] is None else str(point["value"]) for point in every]


def test_logs(service: MemoryService) -> None:
    lines = done("run", "logs", "a", "--level", "info").stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["first", "second"]
    assert service.calls[-1][2].level == "INFO"
    assert json.loads(done("run", "logs", "--json").stdout.splitlines()[0])["message"] == "first"


def test_following_logs_ends_with_the_run(service: MemoryService, monkeypatch: pytest.MonkeyPatch) -> None:
    service.all_runs["a"] = run_json("a")
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:  # it has asked before, and there was nothing new
            service.log_lines.append(log_json(3, "third\x1b[2J", "a"))
            service.all_runs["a"] = run_json("a", state="FINISHED")

    monkeypatch.setattr("node.cli.runs_watch.time.sleep", wait)
    printed = done("run", "logs", "-f", "a").stdout.splitlines()
    assert [line.split()[-1] for line in printed] == ["first", "second", "third�[2J"]


def test_policy(service: MemoryService) -> None:
    assert done("policy", "list").stdout == "mine\n"
    assert done("policy", "add", "task:digits").stdout == "mine\ntask:digits\n"
    done("policy", "add", "task:digits")
    assert json.loads(done("policy", "remove", "mine", "--json").stdout) == ["task:digits"]
    assert run("policy", "remove", "mine").exit_code == 2
    assert "every run waits" in done("policy", "remove", "task:digits").stdout


def test_template_and_keys_need_no_node() -> None:
    text = done("run", "template").stdout
    assert read_configuration(text, source="study.toml").configuration.training.rounds == 10
    table = done("run", "keys").stdout
    assert all(key in table for key in KEYS)
    assert [key["name"] for key in json.loads(done("run", "keys", "comm_round", "--json").stdout)] == [
        "training.rounds"
    ]
    assert run("run", "keys", "xyzzy").exit_code == 1


# --- models and SQL --------------------------------------------------------------------------------------------
def test_getting_a_model(service: MemoryService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("model", "get", "nothing").exit_code == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["home"]  # nothing half-made is left
    service.registry.files = dict.fromkeys(["my run", "my run:3"], b"x" * 3_000_000)
    result = done("model", "get", "my run")
    assert Path("my_run.safetensors").read_bytes() == service.registry.files["my run"]
    assert "3.0 MB" in result.stdout
    assert "is there already" in run("model", "get", "my run").stderr
    done("model", "get", "my run", "--force", "--round", "3")
    assert run("model", "get", "my run", "-o", str(tmp_path / "no" / "x")).exit_code == 1


def test_sql_of_a_running_node(service: MemoryService) -> None:
    assert [line.split() for line in done("sql", "select 1").stdout.splitlines()] == [["a", "b"], ["1", "x"], ["2"]]
    result = done("sql", "-", "--rows", "1", stdin="select 1")
    assert "more than 1 rows" in result.stderr
    assert json.loads(done("sql", "select 1", "--json").stdout)["columns"] == ["a", "b"]


def test_sql_of_a_stopped_nodes_file(tmp_path: Path) -> None:
    from tracker.store import Store

    assert run("sql", "select 1", "--home", str(tmp_path)).exit_code == 1
    Store(tmp_path / "record.duckdb").close()
    result = done("sql", "select 1 as one, 'nan'::double as n", "--home", str(tmp_path), "--json")
    assert json.loads(result.stdout) == {"columns": ["one", "n"], "rows": [[1, None]], "truncated": False}
    assert run("sql", "drop table runs", "--home", str(tmp_path)).exit_code == 4


# --- how things look -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (60, "1 m"), (3725, "1 h 2 m"), (90_000, "1 d 1 h"), (None, "0 s")]
)
def test_durations(seconds: float | None, text: str) -> None:
    assert shown.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (10**16, "10000.0 TB")]
)
def test_sizes(count: int, text: str) -> None:
    assert shown.size(count) == text


def test_a_table_on_a_terminal_takes_nothing_for_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    shown.table(["A", "B"], [["[bold]x[/bold]", ":smile:"], ["y\x1b[31m\nz", None]])
    out = capsys.readouterr().out
    assert "[bold]x[/bold]" in out
    assert ":smile:" in out
    assert "\x1b[31m" not in out
