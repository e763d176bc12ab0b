"""Every command of the command line in the dashboard: as values, as words on a line, and as a process."""

import asyncio
import os
import select
import shlex
import sys

import click
import pytest
from tui_stage import play

from node.cli import cli
from tui.facts import consequences
from tui.facts.commands import CommandSpec, Parameter, prefilled, shown
from tui.facts.consequences import DESTROYS, HARMLESS, LEFT_OUT, consequence
from tui.facts.forms import Field
from tui.feeds.command_line import LINE_CHARACTERS_MAX, CommandLine, _Lines, specs_of, told

SPECS = {spec.path: spec for spec in specs_of(cli)}


def commands(group, path=()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_every_command_is_offered_or_left_out_for_a_reason():
    every = dict(commands(cli))
    assert set(SPECS) == set(every) - set(LEFT_OUT)
    assert all(SPECS[path].help for path in SPECS)
    for path, spec in SPECS.items():
        names = {each.name for each in every[path].params if not getattr(each, "hidden", False)}
        assert {each.field.name for each in spec.parameters} == names - {"home", "json", "debug"}


def test_of_every_command_it_is_decided_whether_it_destroys():
    every = {path for path, _ in commands(cli)}
    decided = [*DESTROYS, *HARMLESS, *LEFT_OUT]
    assert every - set(decided) == set(), "say in tui/facts/consequences.py what will happen, or that it does no harm"
    assert len(decided) == len(set(decided))
    for path, known in DESTROYS.items():
        assert path in SPECS
        names = {each.field.name for each in SPECS[path].parameters}
        assert {known.only_with, known.not_with} - {""} <= names


def test_what_asks_in_a_terminal_is_asked_by_the_dashboard_and_not_again():
    asking = [spec for spec in SPECS.values() if any(each.field.name == "yes" for each in spec.parameters)]
    assert {("group", "remove"), ("group", "leave")} <= {spec.path for spec in asking}
    for spec in asking:
        values = prefilled(spec, {}, {})
        assert consequence(spec.path, values)
        assert "--yes" in spec.words(values)


def test_what_will_happen_depends_on_what_is_given():
    assert "It can be resumed" in consequence(("run", "stop"), {"run_name": "x"})
    assert consequence(("store", "prune"), {"dry_run": "no"})
    assert not consequence(("store", "prune"), {"dry_run": "yes"})
    assert not consequence(("store", "retention"), {"rules": ""})
    assert consequence(("store", "retention"), {"rules": "logs=30d"})
    assert consequence(("model", "get"), {"force": "yes"}) == consequences.REPLACES
    assert not consequence(("model", "get"), {"force": "no"})


@pytest.mark.parametrize(
    ("path", "values", "words"),
    [
        (("run", "stop"), {"run_name": "my run"}, "run stop 'my run'"),
        (("run", "stop"), {"run_name": "x", "reason": "it's late"}, """run stop --reason 'it'"'"'s late' x"""),
        (("run", "stop"), {"run_name": "-x", "reason": "-y"}, "run stop --reason=-y -- -x"),
        (("run", "plot"), {"run_name": "x", "metric": "accuracy", "across": "round"}, "run plot x"),
        (("run", "plot"), {"run_name": "x", "nodes": "a 'b c'"}, "run plot --node a --node 'b c' x"),
        (("run", "logs"), {"run_name": "", "follow": "yes", "limit": "5"}, "run logs --follow --limit 5"),
        (("run", "compare"), {"run_names": "a 'b c'"}, "run compare a 'b c'"),
        (("run", "compare"), {"run_names": "a 'b"}, """run compare 'a '"'"'b'"""),
        (("model", "get"), {"name": "x:3", "output": "a b.safetensors"}, "model get --output 'a b.safetensors' x:3"),
        (("store", "retention"), {"rules": "logs=30d"}, "store retention --set logs=30d"),
        (("run", "stop"), {"run_name": "$(rm -rf x); `y`"}, "run stop '$(rm -rf x); `y`'"),
    ],
)
def test_values_become_words(path, values, words):
    spec = SPECS[path]
    assert shlex.join(spec.words(values)) == words
    assert shown(spec.words(values)) == f"fednode {words}"


def test_click_reads_back_what_the_form_says():
    """Through the command's own parser: whatever is typed comes out as that value."""
    for path, command in commands(cli):
        if path in LEFT_OUT:
            continue
        spec = SPECS[path]
        for parameter in spec.parameters:
            if parameter.is_many or parameter.is_switch or parameter.field.choices or parameter.field.check("--x y"):
                continue
            needed = {each.field.name: "w" for each in spec.parameters if each.field.needed and not each.flag}
            words = spec.words({**needed, parameter.field.name: "--x y"})[len(path) :]
            given, rest, _ = command.make_parser(click.Context(command)).parse_args(args=words)
            assert given[parameter.field.name] == "--x y", (path, words)
            assert not rest


def test_a_form_refuses_what_the_command_would():
    def trouble(path, name, text):
        (parameter,) = [each for each in SPECS[path].parameters if each.field.name == name]
        return parameter.field.trouble(text)

    assert trouble(("invite",), "expires", "soon").startswith("'soon' is no length of time")
    assert not trouble(("invite",), "expires", "12h")
    assert "range" in trouble(("invite",), "uses", "0")
    assert trouble(("invite",), "role", "king") == "one of: member, admin, observer"
    assert trouble(("run", "extend"), "rounds", "") == "this is needed"
    assert "does not exist" in trouble(("run", "list"), "store", "/no/such/file")
    assert "No closing quotation" in trouble(("run", "compare"), "run_names", "'a")
    assert not trouble(("run", "logs"), "level", "")


def test_a_form_is_filled_in_with_what_is_looked_at():
    looked_at = {"run": "digits", "group": "study", "data": "wards", "store": "/s.duckdb"}

    def values(*path, **given):
        return prefilled(SPECS[path], looked_at, given)

    assert values("run", "stop") == {"run_name": "digits"}
    assert values("run", "stop", run="other run") == {"run_name": "other run"}
    assert values("model", "get") == {"name": "digits"}
    assert values("model", "get", model="champion")["name"] == "champion"
    assert values("run", "compare", run="other run")["run_names"] == "'other run'"
    assert values("run", "show")["store"] == "/s.duckdb"
    assert values("group", "show") == {"group": "study"}
    assert values("data", "remove") == {"name": "wards"}
    assert values("data", "add") == {}
    assert values("run", "metrics", node="icu")["node"] == "icu"
    assert "node" not in values("run", "metrics")
    assert values("group", "create") == {}
    assert values("start") == {"detach": "yes"}
    assert values("export", "parquet", run="other run")["places"] == "'other run' 'other run-tables'"


def test_a_parameter_of_many_that_is_asked_by_name_is_taken_as_it_is():
    spec = CommandSpec(("x",), "", (Parameter(Field("names", "NAMES"), is_many=True),))
    assert prefilled(spec, {}, {"names": "a b"}) == {"names": "a b"}


# --- running -----------------------------------------------------------------------------------------------------
def test_a_command_runs_and_tells_what_it_prints(tmp_path):
    async def scene():
        lines = []
        line = CommandLine(cli, ("--home", str(tmp_path)))
        assert await line.run(("run", "keys", "rounds"), 200, lines.extend) == 0
        assert any("training.rounds" in each for each in lines)
        lines.clear()
        code = await line.run(("status",), 80, lines.extend)
        assert told(code) == "the node is not running (exit code 3)"
        assert "No node is running at" in lines[0]
        assert line.shown(("status",)) == f"fednode --home {tmp_path} status"

    play(scene)


def test_a_folders_modules_are_not_taken_for_ours(tmp_path, monkeypatch):
    (tmp_path / "node.py").write_text("print('foreign')")
    monkeypatch.chdir(tmp_path)

    async def scene():
        lines = []
        assert await CommandLine(cli).run(("--version",), 80, lines.extend) == 0
        assert lines[0].startswith("fednode")

    play(scene)


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""
POLITE = """
import os, sys, time
try:
    print(os.getpid(), flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    open(sys.argv[1], "w").write("in order")
"""


async def check_that_all_end(code, *arguments):
    """Every process whose pid is in what it prints first ends when the command is cancelled then."""
    line, first = CommandLine(cli, program=(sys.executable, "-c", code)), asyncio.get_running_loop().create_future()
    running = asyncio.ensure_future(
        line.run(arguments, 80, lambda lines: None if first.done() or not lines else first.set_result(lines[0]))
    )
    async with asyncio.timeout(20):
        # A process's descriptor becomes readable when it ends.
        descriptors = [os.pidfd_open(int(pid)) for pid in (await first).split()]
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    for descriptor in descriptors:
        assert select.select([descriptor], [], [], 10)[0]
        os.close(descriptor)
    return len(descriptors)


def test_a_cancelled_command_is_interrupted_as_by_ctrl_c(tmp_path):
    async def scene():
        assert await check_that_all_end(POLITE, str(tmp_path / "end")) == 1
        assert (tmp_path / "end").read_text() == "in order"

    play(scene)


def test_one_that_does_not_end_is_killed_with_all_that_it_started(monkeypatch):
    monkeypatch.setattr("tui.feeds.command_line.GRACE_S", 0.2)

    async def scene():
        assert await check_that_all_end(STUBBORN) == 2

    play(scene)


def test_what_cannot_be_started_is_said():
    async def scene():
        with pytest.raises(OSError, match="no-such-program"):
            await CommandLine(cli, program=("/no-such-program",)).run((), 80, print)

    play(scene)


def test_output_is_made_safe_and_long_lines_are_broken():
    lines = _Lines()
    assert lines.take(b"one\ntw") == ["one"]
    assert lines.take(b"o \x1b[31mred\x1b[0m\n10%\r50%\r100%\n") == ["two ·[31mred·[0m", "100%"]
    taken = lines.take(b"x" * (3 * LINE_CHARACTERS_MAX + 5))
    assert [len(line) for line in taken] == [LINE_CHARACTERS_MAX] * 3
    assert lines.take(b"\xff\xe2\x82", final=True)[0].endswith("�")


def test_ends_in_words():
    assert told(0) == "done (exit code 0)"
    assert told(4) == "refused (exit code 4)"
    assert told(77) == "ended (exit code 77)"
    assert told(-9) == "ended by signal 9"
