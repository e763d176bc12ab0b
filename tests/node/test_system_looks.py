"""Spans and system performance as people and programs ask for them: the API, the two commands, and Prometheus' way."""

import json
import os
import re
import stat
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from memory_service import NODE, MemoryService, run_json, serving

from fednode import Client, RequestRefused
from node.cli import cli
from node.cli.metrics import MetricsServer
from tracker.store import Store
from tracker.tables.rows import NodeRow, ParticipantRow, RoundRow, RunRow, SpanRow, StatusRow, SystemMetricRow

DEADLINE_S = 30
DAY = 1_800_000_000.0
RUN = "a1" * 32


@pytest.fixture
def service(tmp_path: Path) -> Iterator[MemoryService]:
    with serving(tmp_path / "home") as service:
        service.all_runs["study"] = run_json("study")
        yield service


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments], env={"COLUMNS": "140"}, prog_name="fednode")


def done(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two nodes and two rounds, of which ada's record this is."""
    path = tmp_path_factory.mktemp("system") / "record.duckdb"
    rows: list[Any] = [
        RunRow(RUN, "study", "p", "e", "g", "digits", "d", "n1", 2, DAY, "{}"),
        StatusRow(RUN, "", "RUNNING", "", 0, DAY, 1),
        *(NodeRow(node, name, "m", "1", "{}", DAY) for node, name in (("n1", "ada"), ("n2", "bob"))),
        *(ParticipantRow(RUN, node, True, 10) for node in ("n1", "n2")),
        *(RoundRow(RUN, number, 1, "n1", "c", "m", DAY + 10 * number, 2, "[]", 0, 1.0) for number in (1, 2)),
    ]
    for place, (name, peer, seconds, size) in enumerate(
        [("train", "", 4.0, 0), ("fetch", "n2", 0.5, 1000), ("fetch", "n2", 0.25, 500), ("aggregate", "", 0.125, 0)]
    ):
        rows.append(SpanRow(RUN, "n1", 1, name, peer, DAY + place, seconds, size, "n1", 900 + place))
    rows.append(SpanRow(RUN, "n2", 1, "train", "", DAY, 6.0, 0, "n2", 17))
    rows.append(SpanRow(RUN, "n2", 2, "task.preprocess", "", DAY, 9.0, 0, "n2", 18))
    sequence = 0
    for at, cpu, sent in ((1, 20.0, 5_000_000), (5, 60.0, 9_000_000)):
        for key, value, unit in (
            ("cpu_percent", cpu, "percent"),
            ("network_sent_bytes", sent, "bytes"),
            ("memory_used_bytes", 4e9, "bytes"),
            ("disk_percent", 30.0, "percent"),
        ):
            sequence += 1
            rows.append(SystemMetricRow("n1", "", "host", key, "", value, unit, 0, DAY + at, "n1", sequence))
    rows.append(SystemMetricRow("n2", RUN, "worker", "cpu_percent", "", 99.0, "percent", 1, DAY + 9, "n2", 16))
    made = Store(path)
    made.write(rows)
    made.close()
    return path


# --- the two looks -----------------------------------------------------------------------------------------------
def test_spans_by_round_and_node(store: Path) -> None:
    table = done("run", "spans", "study", "--store", store)
    assert [re.split("  +", line.strip()) for line in table.splitlines()] == [
        ["ROUND", "NODE", "FETCH (s)", "TRAIN (s)", "AGGREGATE (s)", "TASK.PREPROCESS (s)", "MOVED"],
        ["1", "ada", "0.75", "4", "0.125", "1.5 kB"],
        ["1", "bob", "6"],
        ["2", "bob", "9"],
    ]


def test_spans_for_programs_and_of_one_node(store: Path) -> None:
    told = json.loads(done("run", "spans", "study", "--store", store, "--json"))
    assert len(told) == 6
    assert told[-1]["name"] == "task.preprocess"
    (only,) = json.loads(
        done("run", "spans", RUN[:8], "--store", store, "--json", "--node", "bob", "--after-round", "1")
    )
    assert (only["node_id"], only["round"], only["seconds"], only["bytes"]) == ("n2", 2, 9.0, 0)


def test_machines_in_figures(store: Path) -> None:
    lines = [line.split() for line in done("run", "system", "study", "--store", store).splitlines()]
    assert lines[0] == ["NODE", "SCOPE", "WHAT", "LATEST", "MEAN", "MOST", "SAMPLES"]
    assert ["ada", "host", "cpu_percent", "60", "40", "60", "2"] in lines
    assert ["ada", "host", "network_sent_bytes", "4.0", "MB", "2"] in lines  # while the run went on
    assert ["bob", "worker", "cpu_percent", "99", "99", "99", "1"] in lines
    assert not any("disk_percent" in line for line in lines)
    assert "disk_percent" in done("run", "system", "study", "--store", store, "--all")
    assert "host" not in done("run", "system", "study", "--store", store, "--scope", "worker")
    told = json.loads(done("run", "system", "study", "--store", store, "--json", "--node", "ada"))
    (cpu,) = [row for row in told if row["key"] == "cpu_percent"]
    assert (cpu["latest"], cpu["mean"], cpu["max"], cpu["samples"]) == (60.0, 40.0, 60.0, 2)


def test_a_running_node_is_asked_the_same(service: MemoryService) -> None:
    assert "1.5" in done("run", "spans", "study", "--home", service.home)
    assert "cpu_percent" in done("run", "system", "study", "--home", service.home, "--scope", "host")
    wanted = {"node": None, "scope": "host", "key": None, "after": None}
    assert ("summary", "study", wanted) in service.calls


def test_the_endpoints_take_filters_and_nothing_else(service: MemoryService) -> None:
    client = Client(service.home)
    assert client.spans("study", node="alpha", after_round=3)["spans"][0]["name"] == "train"
    wanted = {"node": "alpha", "after_round": 3, "before_round": None, "limit": 10_000}
    assert service.calls[-1] == ("spans", "study", wanted)
    assert client._get("runs", "study", "states", after=6)["states"][0]["position"] == 7
    assert service.calls[-1] == ("states", "study", {"node": None, "after": 6, "limit": 10_000})
    time = "2026-01-31T12:00:00.000000Z"
    assert client.system("study", key="cpu_percent", after=time)["system"][0]["value"] == 50.0
    assert service.calls[-1][2]["after"] == time
    for wrong in ({"colour": "red"}, {"scope": "moon"}, {"after": "'; DROP TABLE runs"}, {"limit": 0}):
        with pytest.raises(RequestRefused) as refused:
            client.system("study", **wrong)
        assert refused.value.code == "malformed"


# --- Prometheus --------------------------------------------------------------------------------------------------
def test_metrics_are_printed_and_written_whole(service: MemoryService, tmp_path: Path) -> None:
    assert done("metrics", "--home", service.home) == "fednode_peers_connected 0\n"
    target = tmp_path / "fednode.prom"
    done("metrics", "--home", service.home, "--write", target)
    assert target.read_text() == "fednode_peers_connected 0\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644  # another user's collector reads it
    assert [name for name in os.listdir(tmp_path) if "fednode.prom" in name] == ["fednode.prom"]
    assert "cannot be written" in run("metrics", "--home", service.home, "--write", tmp_path / "no" / "f").output


def test_what_cannot_be_served_is_said(service: MemoryService, tmp_path: Path) -> None:
    assert run("metrics", "--home", service.home, "--listen", "9464").exit_code == 2
    assert run("metrics", "--home", service.home, "--listen", "localhost:x").exit_code == 2
    both = run("metrics", "--home", service.home, "--listen", "127.0.0.1:0", "--write", tmp_path / "f")
    assert both.exit_code == 2
    with MetricsServer("127.0.0.1", 0, Client(service.home)) as taken:
        result = run("metrics", "--home", service.home, "--listen", f"127.0.0.1:{taken.server_port}")
    assert result.exit_code == 1
    assert "cannot be listened on" in result.output


def get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_metrics_are_served_over_http(tmp_path: Path) -> None:
    """What the node says at each request; while it is down a scrape fails, and goes well again."""
    home = tmp_path / "home"
    with MetricsServer("127.0.0.1", 0, Client(home)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            status, text = get(server.server_port, "/metrics")
            assert status == 503
            assert "fednode start" in text
            with serving(home):
                assert get(server.server_port, "/metrics") == (200, "fednode_peers_connected 0\n")
            assert get(server.server_port, "/v1/status")[0] == 404  # the rest of the node's API is not there
            assert NODE not in text
        finally:
            server.shutdown()
            thread.join(DEADLINE_S)
