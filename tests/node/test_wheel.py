"""The wheel: what is in it, what it says of itself, and that it runs where there is no checkout."""

import configparser
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("protocol", "aggregation", "tracker", "node", "tui", "simulations")
MODULES = {"fednode.py", "fednode_artifacts.py", "fednode_client.py", "fednode_endpoints.py", "fednode_logging.py"}
SOURCES = ("pyproject.toml", "README.md", "LICENSE", *MODULES, *ROOMS)
DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy, with the setuptools that is installed: nothing is fetched, and the checkout stays clean."""
    base = tmp_path_factory.mktemp("wheel")
    source = base / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    # What lies about in a checkout must not get in.
    (source / "tests").mkdir()
    (source / "tests" / "test_nothing.py").write_text("")
    (source / "build").mkdir()
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(base), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, env=_environment())
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = base.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment with the wheel in it, which finds the dependencies in ours."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, symlinks=True, with_pip=False)
    paths = sysconfig.get_paths(vars={"base": str(place), "platbase": str(place)})
    folder = Path(paths["purelib"])
    assert place in folder.parents
    pip = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python"), "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--no-index", "--no-compile", str(wheel)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=_environment(),
    )
    assert done.returncode == 0, done.stderr
    # As plain paths, so that .pth files there, such as an editable install of this very checkout, are not read.
    outer = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (folder / "outer.pth").write_text("".join(f"{path}\n" for path in sorted(outer)))
    return place / "bin"


def _environment() -> dict[str, str]:
    """Ours, without what would lead back to the checkout or to somebody's node."""
    return {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "FEDNODE_HOME"}}


def run(program: Path, *arguments: str, where: Path) -> str:
    """What a command prints, in an empty folder outside the checkout."""
    where.mkdir(exist_ok=True)
    home = {"HOME": str(where), "XDG_DATA_HOME": str(where / "data")}
    done = subprocess.run(
        [str(program), *arguments],
        cwd=where,
        env={**_environment(), **home},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    assert list(where.iterdir()) == [], "a command that only tells made something"
    return done.stdout


def test_holds_our_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    ours = {name for name in names if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in ours} == {*ROOMS, *MODULES}
    expected = {path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.py")} | MODULES
    assert {name for name in ours if name.endswith(".py")} == expected
    assert {f"{room}/py.typed" for room in ROOMS if (ROOT / room / "py.typed").exists()} <= ours
    assert not [name for name in ours if "test" in name or "bench" in name]


def test_data_files_of_packages_are_in(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    data = {
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    assert data <= names


def test_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata_name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(archive.read(metadata_name).decode())
    assert metadata["Name"] == "fednode"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    required = {re.split(r"[<>=!~;\[ ]", line)[0] for line in metadata.get_all("Requires-Dist", [])}
    assert {"trio", "libp2p", "torch", "duckdb", "textual"} <= required
    assert not {"pytest", "ruff", "mypy"} & required
    (points_name,) = [name for name in archive.namelist() if name.endswith("/entry_points.txt")]
    points = configparser.ConfigParser()
    points.read_string(archive.read(points_name).decode())
    assert dict(points["console_scripts"]) == {"fednode": "node.cli:main"}
    assert {"tui", "simulate"} <= set(points["fednode.commands"])


def test_runs_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    where = tmp_path / "empty"
    fednode = installed / "fednode"
    help_text = run(fednode, "--help", where=where)
    for command in ("start", "invite", "join", "run", "tui", "simulate"):
        assert f"\n  {command}" in help_text
    for module in ("fednode", "node"):
        assert "0.1.0" in run(installed / "python", "-m", module, "--version", where=where)
    assert "[training]" in run(fednode, "run", "template", where=where)
    assert "training.rounds" in run(fednode, "run", "keys", where=where)


def test_what_is_imported_is_what_was_installed(installed: Path, tmp_path: Path) -> None:
    told = run(
        installed / "python",
        "-c",
        "import fednode, node, protocol, tui, simulations\n"
        "for module in (fednode, node, protocol, tui, simulations): print(module.__file__)",
        where=tmp_path / "empty",
    )
    places = [Path(line) for line in told.splitlines()]
    assert [place for place in places if installed.parent not in place.parents] == []
