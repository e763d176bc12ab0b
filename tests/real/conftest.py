"""Shared by all tests with real processes: each marks its processes and leaves none behind."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from nodes import Study, check_nothing_stays_behind, real_nodes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.real)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows the ends of the nodes' logs."""
    report = yield
    for fixture in getattr(item, "funcargs", {}).values():
        for node in getattr(fixture, "nodes", ()) if report.failed else ():
            report.sections.append((f"log of {node.name}", node.stderr()))
    return report


@pytest.fixture(scope="session")
def whole_study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    base = tmp_path_factory.mktemp("study")
    with real_nodes(base, "alpha", "beta", "gamma") as nodes:
        study = Study(nodes, base)
        study.form()
        yield study


@pytest.fixture
def study(whole_study: Study) -> Iterator[Study]:
    """Three nodes of a group, all running and connected; the test may stop and kill them, and ends every run."""
    whole_study.heal()
    whole_study.clear()
    yield whole_study
    check_nothing_stays_behind(whole_study.base, whole_study.nodes)
