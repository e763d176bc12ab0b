"""What holds for all tests: what ends with them, how several processes share them, how often garbage is looked for."""

import gc
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Python looks for garbage after every 700 new objects. In a process that holds torch and all of the tests, looking took
# more than a third of the dashboard's tests' time.
OBJECTS_UNTIL_GARBAGE = (50_000, 20, 20)
MARK = "FEDNODE_TESTS"  # in the environment of the tests and of all that they start
SWEPT_WITHIN_S = 60.0
REAL = "tests/real"
TAKES_LONG = (REAL, "tests/simulations", "tests/tui")  # for its number of tests: so it is not left for the end
NICE = 5  # of what does not wait for real nodes: it takes what time these leave
# An example takes what it takes, and so does making it: Hypothesis would allow a fifth of a second for the one and a
# second for the first few of the other, by the clock on the wall, which a busy machine breaks one time in many.
settings.register_profile("fednode", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fednode")
_sweeper = pytest.StashKey["subprocess.Popen[bytes]"]()


def pytest_configure(config: pytest.Config) -> None:
    gc.set_threshold(*OBJECTS_UNTIL_GARBAGE)
    if hasattr(config, "workerinput"):  # who started us has a sweeper
        # From .../popen-gw0 to .../0: paths of sockets must be short.
        base = Path(config.option.basetemp)
        config.option.basetemp = str(base.with_name(base.name.removeprefix("popen-gw")))
        return
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # for whom a shell has started in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what we start is to hear a Ctrl+C
    mark = os.environ[MARK] = uuid.uuid4().hex
    clean = {name: value for name, value in os.environ.items() if name != MARK}
    command = [sys.executable, str(Path(__file__).with_name("sweeper.py")), MARK, mark]
    config.stash[_sweeper] = subprocess.Popen(command, stdin=subprocess.PIPE, env=clean, start_new_session=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    if (sweeper := config.stash.get(_sweeper, None)) is not None:
        os.environ.pop(MARK, None)
        sweeper.communicate(timeout=SWEPT_WITHIN_S)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Whole files go to one process, so that what a module's tests share is made once, in the order in which they are
    collected. All of tests/real is as one file: two groups of real nodes would take the machine's time from each other.
    """
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return REAL if nodeid.startswith(f"{REAL}/") else super()._split_scope(nodeid)

    config.option.loadscopereorder = False
    return Files(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(
        key=lambda item: next((at for at, folder in enumerate(TAKES_LONG) if _is_in(item, folder)), len(TAKES_LONG))
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    if hasattr(item.config, "workerinput") and not _is_in(item, REAL) and not os.getpriority(os.PRIO_PROCESS, 0):
        os.nice(NICE)


def _is_in(item: pytest.Item, folder: str) -> bool:
    return item.nodeid.startswith(f"{folder}/")
