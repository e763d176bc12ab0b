"""The rules of the house that no linter knows: sizes, who may import what, and what documents promise."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import settings

from node.cli import cli

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("protocol", "aggregation", "tracker", "node", "tui", "simulations")
GROUND_FLOOR = ("fednode.py", "fednode_artifacts.py", "fednode_client.py", "fednode_endpoints.py", "fednode_logging.py")
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
# The last two are pydantic's own parts: its core, and the names of its bounds.
PROTOCOL_MAY_IMPORT = {"protocol", "msgpack", "cryptography", "blake3", "pydantic", "pydantic_core", "annotated_types"}
# These poll other processes, which tell nobody, with a deadline; follow a script of faults in real time; measure for so
# many minutes; or pace a recorded stream as it was in life.
MAY_SLEEP = {
    *("tests/real/real_node.py", "tests/real/fault_script.py"),
    *("tests/saturated.py", "tests/tui/tui_server.py", "tests/real/hostile_scene.py", "tests/real/hostile_crowds.py"),
}
SLEEPS = {"time.sleep", "trio.sleep", "asyncio.sleep", "sleep"}
UNFINISHED = re.compile("|".join(["TO" + "DO", "FIX" + "ME", r"\bXX" + r"X\b"]))


def modules() -> list[Path]:
    rooms = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    return sorted([*rooms, *(ROOT / name for name in GROUND_FLOOR)])


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), name_of(path))


def imported(tree: ast.AST) -> Iterator[str]:
    """The top names of all that is imported anywhere in `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


# --- size and shape ----------------------------------------------------------------------------------------------
def test_no_file_is_too_long() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in modules()}
    long = {name: lines for name, lines in lengths.items() if lines > FILE_LINES_MAX}
    assert not long, long


def test_no_function_is_too_long() -> None:
    long = {}
    for path in modules():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long[f"{name_of(path)}:{node.name}"] = lines
    assert not long, long


def test_every_module_says_what_it_decides() -> None:
    silent = [name_of(path) for path in modules() if not ast.get_docstring(tree_of(path))]
    assert not silent, silent


def test_nothing_is_left_unfinished() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    texts = [ROOT / name for name in listed] if listed else [*modules(), *(ROOT / "tests").rglob("*.py")]
    unfinished = []
    for path in texts:
        if path.suffix in {".py", ".md", ".toml", ".yml", ".tcss", ""} and path.is_file():
            lines = enumerate(path.read_text(errors="replace").splitlines(), 1)
            unfinished += [f"{name_of(path)}:{number}" for number, line in lines if UNFINISHED.search(line)]
    assert not unfinished, unfinished


def test_no_test_sleeps() -> None:
    """Who sleeps until something has happened waits too long or not long enough: tests wait for events and conditions.
    To let virtual time pass, with nothing to wait for, is another matter: the line says `# virtual time …`."""
    sleeping = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if name_of(path) in MAY_SLEEP or path.name.startswith("bench_"):
            continue
        lines = path.read_text().splitlines()
        for node in ast.walk(tree_of(path)):
            is_sleep = isinstance(node, ast.Call) and ast.unparse(node.func) in SLEEPS
            if is_sleep and "# virtual time" not in lines[node.lineno - 1]:
                sleeping.append(f"{name_of(path)}:{node.lineno}")
    assert not sleeping, sleeping


# --- who may import what (what the contracts in pyproject.toml cannot hold) --------------------------------------
def test_no_property_has_a_limit_of_time() -> None:
    """A busy machine breaks one, one time in many; what hangs ends by pytest's own."""
    own = re.compile(r"settings\([^)]*\bdeadline=(?!None)")
    limited = [name_of(path) for path in sorted((ROOT / "tests").rglob("*.py")) if own.search(path.read_text())]
    assert not limited
    assert settings().deadline is None  # of those that say nothing of it: tests/conftest.py


def test_one_place_speaks_libp2p() -> None:
    speakers = [path for path in modules() if {"libp2p", "multiaddr"} & set(imported(tree_of(path)))]
    assert [name_of(path) for path in speakers if not name_of(path).startswith("node/network/libp2p/")] == []
    assert speakers


def test_the_ground_floor_needs_no_room() -> None:
    """Whoever writes a task, or asks a node, loads nothing of the node's."""
    for name in GROUND_FLOOR:
        outside = [node for node in tree_of(ROOT / name).body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
        assert {top for node in outside for top in imported(node)}.isdisjoint(ROOMS), name


def test_the_protocol_is_pure() -> None:
    allowed = PROTOCOL_MAY_IMPORT | sys.stdlib_module_names
    foreign = {
        name_of(path): others
        for path in modules()
        if path.parts[len(ROOT.parts)] == "protocol" and (others := set(imported(tree_of(path))) - allowed)
    }
    assert not foreign, foreign


# --- documents ---------------------------------------------------------------------------------------------------
def commands_in(document: Path, program: str) -> list[list[str]]:
    """The command lines of `program` in the document's shell blocks and between its backticks, without comments."""
    text = document.read_text()
    blocks = re.findall(r"```(?:sh|bash|console)\n(.*?)```", text, re.DOTALL)
    inline = re.findall(rf"(?<!`)`({program} [^`]+)`(?!`)", text)
    found = []
    for line in [*"\n".join(blocks).replace("\\\n", " ").splitlines(), *map(" ".join, map(str.split, inline))]:
        for part in re.split(r"&&|\|\||;|\|", line.removeprefix("$ ")):
            words = shlex.split(part, comments=True)
            while words and "=" in words[0] and not words[0].startswith("-"):
                words = words[1:]  # a variable before the command
            if words and words[0] == program:
                found.append(words[1:])
    return found


def documents() -> list[Path]:
    found = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
    if not any(path.name == "README.md" for path in found):
        pytest.skip("there is no README.md")
    return found


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that `words` name, and its own words. Raises AssertionError when there is none."""
    command: click.Command = cli
    context = click.Context(cli, info_name="fednode")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        following = command.get_command(context, words[0])
        assert following is not None, f"fednode has no command {' '.join(words)!r}"
        context = click.Context(following, info_name=words[0], parent=context)
        command, words = following, words[1:]
    return command, words


def options_of(command: click.Command) -> set[str]:
    parameters: list[Any] = [*command.params, *cli.params]
    return {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help",
        "-h",
    }


def test_documented_commands_exist() -> None:
    wrong = []
    for document in documents():
        for words in commands_in(document, "fednode"):
            try:
                command, rest = command_of(words)
            except AssertionError as error:
                wrong.append(f"{document.name}: {error}")
                continue
            given = {word.split("=")[0] for word in rest if word.startswith("-") and word != "-"}
            wrong += [f"{document.name}: fednode {' '.join(words)}: {name}" for name in given - options_of(command)]
    assert not wrong, wrong
    assert commands_in(ROOT / "README.md", "fednode")


def test_documented_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wanted = {word for path in documents() for words in commands_in(path, "make") for word in words if "=" not in word}
    assert wanted - targets == set()
    assert wanted
