"""Breaks every safety check on purpose, one at a time, and looks whether its test notices.

    python tests/mutants.py [NAME ...]      all of them, or those whose names contain a NAME

A mutant is a patch in tests/mutants with two lines before it: `# what is broken: …` and `# caught by: <test>`, which is
a test file, or one test of it as pytest names it (the quickest that notices). It is applied to a copy of the tree, in
which the test must then fail; unpatched, it must pass. Exit code 1 when a mutant survives, or no longer fits the code.
"""

import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MUTANTS = ROOT / "tests" / "mutants"
WORKERS = 2
# Twice what the slowest of the test files takes beside another one; a mutant may also make its test hang.
TEST_DEADLINE_S = 180.0
_SLIPPED = -2
# pytest, but a property that fails is not shrunk to its smallest example: that takes minutes, and nobody looks at it.
_PYTEST = """
import sys, pytest
class Unshrunk:
    def pytest_configure(self):
        from hypothesis import Phase, settings
        settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate])
        settings.load_profile("mutants")
sys.exit(pytest.main(sys.argv[1:], plugins=[Unshrunk()]))
"""
_TESTS_FAILED = 1  # pytest's exit code; others say that it could not even run them
# A mutant that fails by one of these says nothing about the check: it is a slip in the patch.
_SLIPS = re.compile(r": (NameError|UnboundLocalError|ImportError|ModuleNotFoundError|IndentationError)\b")


@dataclass(frozen=True)
class Mutant:
    name: str
    what: str
    test: str
    patch: Path

    @property
    def file(self) -> str:
        return self.test.partition("::")[0]


@dataclass(frozen=True)
class Outcome:
    """`verdict` is caught, SURVIVED or an ERROR; `how` says more."""

    verdict: str
    how: str
    seconds: float = 0.0


def read_mutant(patch: Path) -> Mutant:
    """Raises SystemExit when the two lines are not there."""
    text = patch.read_text()
    what = re.search(r"^# what is broken: (.+)$", text, re.MULTILINE)
    test = re.search(r"^# caught by: (\S+)$", text, re.MULTILINE)
    if what is None or test is None:
        raise SystemExit(f"{patch.name} does not say '# what is broken: …' and '# caught by: <test>'")
    return Mutant(patch.stem, what[1], test[1], patch)


class Copy:
    """A copy of the tree as git would see it: what is tracked, and what is new and not ignored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            source, target = ROOT / name, folder / name
            if source.is_file():  # a file may be deleted and not yet committed so
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)

    def test(self, *tests: str, write_bytecode: bool = False) -> tuple[int, str]:
        """pytest's exit code (-1 when it did not end in time) and the line that says what failed first."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        if not write_bytecode:
            # Python tells stale bytecode by whole seconds and sizes, and a mutant's file may agree in both.
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        command = [sys.executable, "-c", _PYTEST, "-x", "-q", "--tb=line", "-p", "no:cacheprovider", *tests]
        # A group of its own, so that what a hanging test has started can be ended with it.
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=TEST_DEADLINE_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.communicate()
                return -1, f"it hung for {TEST_DEADLINE_S:.0f} s"
        if process.returncode == _TESTS_FAILED and (slip := _SLIPS.search(output)):
            return _SLIPPED, f"the patch is broken itself: {slip[1]}"
        failed = re.search(r"^(?:FAILED|ERROR) \S*?(?:::(.+?))?(?: - .*)?$", output, re.MULTILINE)
        return process.returncode, (failed[1] or failed[0]) if failed else output.strip()[-200:]

    def try_mutant(self, mutant: Mutant) -> Outcome:
        """Apply, test, and put back what was there."""
        files = re.findall(r"^\+\+\+ b/(\S+)", mutant.patch.read_text(), re.MULTILINE)
        before = {self.folder / name: (self.folder / name).read_bytes() for name in files}
        times = {path: path.stat() for path in before}
        began = time.monotonic()
        try:
            patched = subprocess.run(
                ["patch", "-p1", "--no-backup-if-mismatch", "-r", "-", "-i", str(mutant.patch)],
                cwd=self.folder,
                capture_output=True,
                text=True,
            )
            if patched.returncode != 0:
                return Outcome("ERROR", "the patch does not fit the code: " + " ".join(patched.stdout.split())[:120])
            for path in before:
                compile(path.read_bytes(), path.name, "exec")
            code, line = self.test(mutant.test)
        except SyntaxError as error:
            return Outcome("ERROR", f"the patch makes no Python: {error}")
        finally:
            for path, content in before.items():
                path.write_bytes(content)
                os.utime(path, ns=(times[path].st_atime_ns, times[path].st_mtime_ns))
        seconds = time.monotonic() - began
        if code in (_TESTS_FAILED, -1):
            return Outcome("caught", line, seconds)
        if code == 0:
            return Outcome("SURVIVED", f"{mutant.test} passes", seconds)
        return Outcome("ERROR", f"pytest could not run {mutant.test}: {line}", seconds)


class Workers:
    """WORKERS copies of the tree, each used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._free: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for index in range(WORKERS):
            self._free.put(Copy(folder / f"copy{index}"))

    def unpatched(self, tests: set[str]) -> Outcome:
        copy = self._free.get()
        began = time.monotonic()
        try:
            code, line = copy.test(*sorted(tests), write_bytecode=True)
        finally:
            self._free.put(copy)
        return Outcome("caught" if code == 0 else "ERROR", "" if code == 0 else line, time.monotonic() - began)

    def mutant(self, mutant: Mutant) -> Outcome:
        copy = self._free.get()
        try:
            return copy.try_mutant(mutant)
        finally:
            self._free.put(copy)


def show(name: str, outcome: Outcome) -> None:
    print(f"{outcome.verdict:<9} {outcome.seconds:6.1f} s  {name:<48} {outcome.how[:110]}", flush=True)


def run(mutants: list[Mutant]) -> int:
    """How many did not end as they should."""
    with tempfile.TemporaryDirectory(prefix="fednode-mutants-") as folder, ThreadPoolExecutor(WORKERS) as pool:
        workers = Workers(Path(folder))
        tests: dict[str, set[str]] = {}
        for mutant in mutants:
            tests.setdefault(mutant.file, set()).add(mutant.test)
        sound = dict(zip(tests, pool.map(workers.unpatched, tests.values()), strict=True))
        broken = {file: outcome for file, outcome in sound.items() if outcome.verdict == "ERROR"}
        for file, outcome in broken.items():
            show(f"{file}, unpatched", outcome)
        usable = [mutant for mutant in mutants if mutant.file not in broken]
        bad = len(mutants) - len(usable)
        for mutant, outcome in zip(usable, pool.map(workers.mutant, usable), strict=True):
            show(mutant.name, outcome)
            if outcome.verdict != "caught":
                bad += 1
                print(f"{'':20}{mutant.what}")
    return bad


def main(names: list[str]) -> int:
    every = [read_mutant(patch) for patch in sorted(MUTANTS.glob("*.patch"))]
    for name in names:
        if not any(name in mutant.name for mutant in every):
            print(f"no mutant's name contains {name!r}", file=sys.stderr)
            return 2
    chosen = [mutant for mutant in every if not names or any(name in mutant.name for name in names)]
    began = time.monotonic()
    bad = run(chosen)
    print(f"{len(chosen) - bad} of {len(chosen)} mutants caught in {time.monotonic() - began:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
