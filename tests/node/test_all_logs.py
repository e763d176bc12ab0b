"""`fednode run logs --all`, `fednode policy logs` and the endpoints behind them."""

import json
from contextlib import aclosing
from pathlib import Path

import pytest
import trio
from command_ground import done, run
from memory_logs import line_json
from memory_service import MemoryService

from fednode import AsyncClient, Client, RequestRefused
from node.api.service.service import AllLogsQuery
from node.logs.share import LINES_MAX

REFUSAL = {
    "type": "node",
    "node_id": "12D3KooWgamma",
    "node_name": "gamma",
    "reason": "Its owner shares no logs",
}
LEFT_WITHIN_S = 30


@pytest.fixture
def service(service: MemoryService) -> MemoryService:
    lines = [line_json("alpha", "mine"), line_json("beta", "theirs \x1b[2J", level="ERROR")]
    service.all_logs.batches = [[{"type": "logs", "logs": lines}, REFUSAL], []]
    return service


def test_the_stream_gives_what_comes_and_then_ends(service: MemoryService) -> None:
    events = list(Client().all_logs("study", level="ERROR", node="beta", limit=7, follow=True))
    assert [event["type"] for event in events] == ["logs", "node", "bye"]
    query = AllLogsQuery(level="ERROR", node="beta", limit=7, follow=True)
    assert service.calls[-1] == ("all_logs", "study", query)
    assert next(iter(Client().all_logs("study")))["logs"][0]["node_name"] == "alpha"
    assert service.calls[-1] == ("all_logs", "study", AllLogsQuery())


def test_a_reader_that_leaves_is_gathered_for_no_more(service: MemoryService) -> None:
    service.all_logs.goes_on = True
    stream = Client().all_logs("study", follow=True)
    assert next(stream)["type"] == "logs"
    stream.close()  # type: ignore[attr-defined]
    assert service.all_logs.left.wait(LEFT_WITHIN_S)


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": LINES_MAX + 1}, {"level": "LOUD"}, {"after": 3}])
def test_a_query_that_is_none_is_refused(service: MemoryService, query: dict[str, object]) -> None:
    with pytest.raises(RequestRefused) as refused:
        next(Client().all_logs("study", **query))
    assert refused.value.status == 400
    with pytest.raises(RequestRefused) as refused:
        next(Client().all_logs("nothing"))
    assert (refused.value.status, refused.value.code) == (404, "no-such-run")


def test_lines_have_their_nodes_names_and_who_shares_none_is_named(service: MemoryService) -> None:
    shown = done("run", "logs", "study", "--all", "-f", "--level", "info")
    assert shown.stdout.splitlines() == ["00:00:00 alpha mine", "00:00:00 beta ERROR theirs �[2J"]
    assert shown.stderr == "gamma: Its owner shares no logs.\n"
    assert service.calls[-1] == ("all_logs", "study", AllLogsQuery(level="INFO", follow=True))
    told = done("run", "logs", "study", "--all", "--json", "--node", "beta", "--limit", "100000")
    assert [json.loads(line)["message"] for line in told.stdout.splitlines()] == ["mine", "theirs \x1b[2J"]
    assert json.loads(told.stderr) == REFUSAL
    assert service.calls[-1] == ("all_logs", "study", AllLogsQuery(node="beta", limit=LINES_MAX))
    service.all_logs.batches = [[{"type": "logs", "logs": []}]]
    assert done("run", "logs", "study", "--all").stderr == "Nothing was said yet.\n"


def test_all_is_about_one_run_of_a_running_node(service: MemoryService, tmp_path: Path) -> None:
    without = run("run", "logs", "--all")
    assert (without.exit_code, "--all is about one run" in without.stderr) == (2, True)
    store = tmp_path / "record.duckdb"
    store.touch()
    stored = run("run", "logs", "study", "--all", "--store", str(store))
    assert (stored.exit_code, "--all asks running nodes" in stored.stderr) == (2, True)
    assert run("run", "logs", "nothing", "--all").exit_code == 1


def test_the_owner_says_what_is_shared(service: MemoryService) -> None:
    assert "shares: none" in done("policy", "list").stderr
    assert done("policy", "logs").stdout.startswith("none: nobody reads")
    assert done("policy", "logs", "errors").stdout.startswith("errors: ")
    assert json.loads(done("policy", "logs", "all", "--json").stdout) == "all"
    assert service.all_logs.shared == "all"
    assert service.rules == ["mine"]  # which is another matter
    assert run("policy", "logs", "some").exit_code == 2
    assert Client().policy() == {"rules": ["mine"], "logs": "all"}
    assert Client().set_policy(["all"]) == {"rules": ["all"], "logs": "all"}
    with pytest.raises(RequestRefused, match="logs: Input should be 'none', 'errors' or 'all'"):
        Client().set_policy(logs="some")


def test_the_lines_of_all_nodes_come_to_an_asynchronous_client_too(service: MemoryService) -> None:
    async def main() -> None:
        async with (
            AsyncClient(service.home) as client,
            aclosing(client.all_logs("study", limit=7)) as events,  # type: ignore[type-var]
        ):
            told = [event async for event in events]
        assert [event["type"] for event in told] == ["logs", "node", "bye"]
        assert service.calls[-1] == ("all_logs", "study", AllLogsQuery(limit=7))

    trio.run(main)
