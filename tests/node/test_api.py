"""The local API through a real Unix socket, by both clients and by curl's way of speaking."""

import asyncio
import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trio
from memory_service import MemoryService, log_json, run_json, serving

import fednode
from fednode import AsyncClient, Client, NodeNotRunning, RequestRefused
from node.api.http.answers import status_of
from node.api.http.json import json_bytes
from node.api.service.service import LogsQuery, MetricsQuery, NotFound
from protocol.errors import FednodeError, Refused

DEADLINE_S = 30


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def service(home: Path) -> Iterator[MemoryService]:
    with serving(home) as service:
        yield service


@pytest.fixture
def client(service: MemoryService) -> Client:
    return Client(service.home)


def raw_request(home: Path, request: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a request written by hand, as curl would write it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(DEADLINE_S)
        connection.connect(str(fednode.socket_path(home)))
        connection.sendall(request.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        with connection.makefile("rb") as file:
            status = int(file.readline().split()[1])
            length = 0
            while (line := file.readline().strip().lower()) != b"":
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            return status, json.loads(file.read(length))


def test_the_socket_is_its_owners_alone(service: MemoryService) -> None:
    path = fednode.socket_path(service.home)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_every_endpoint_answers(service: MemoryService, client: Client) -> None:
    assert client.status()["name"] == "alpha"
    assert len(client.peers()["peers"]) == 2
    assert client.create_group("study")["name"] == "study"
    assert client.groups()["groups"][0]["name"] == "study"
    assert client.group("study")["role"] == "admin"
    assert client.invite(uses=3)["token"] == "fed1token"
    assert service.calls[-1] == ("invite", None, "member", 3, 604_800)
    assert client.join("fed1token")["name"] == "study"
    assert client.add_data("digits", "some/where", {"target": "y"})["options"] == {"target": "y"}
    assert client.data()["data"][0]["path"] == os.path.abspath("some/where")
    assert client.remove_data("digits") == {}
    assert client.prometheus().startswith("fednode_peers_connected")


def test_every_endpoint_of_runs_answers(service: MemoryService, client: Client, tmp_path: Path) -> None:
    config = 'comm_round = 3\n[task]\nname = "digits"\n[data]\nname = "digits"\n'
    started = client.start_run(config, source=tmp_path / "my study.toml", overrides={"epochs": 2})
    assert started["name"] == "my study"
    assert started["taken_as"] == ["comm_round taken as training.rounds", "epochs taken as training.epochs"]
    assert service.calls[-1] == ("start_run", str(tmp_path / "my study.toml"), None, {"epochs": 2})
    assert [run["name"] for run in client.runs(limit=5, before="2026")["runs"]] == ["my study"]
    kind, wanted = service.calls[-1]
    assert (kind, wanted["limit"], wanted["before"], wanted["sort"]) == ("runs", 5, "2026", "created")
    page = client.runs(text="my", state="RUNNING", sort="accuracy", descending=False, offset=3, brief=True)
    assert page["total"] == 1
    asked = {"text": "my", "state": "RUNNING", "sort": "accuracy", "descending": False, "offset": 3, "brief": True}
    assert service.calls[-1][1].items() >= asked.items()
    assert client.projects(text="my", open=True) == {"projects": [{"project": "default", "runs": 1}]}
    assert service.calls[-1] == ("projects", {"text": "my", "state": None, "open": True})
    assert client.run("my study")["manifest"]["training"]["rounds"] == 10
    assert client.accept("my study", data="mine")["decision"] == "accepted"
    assert client.policy() == {"rules": ["mine"], "logs": "none"}
    assert client.set_policy(["all"])["rules"] == ["all"]
    assert client.decline("my study", "busy")["decision"] == "declined"
    assert client.stop_run("my study")["state"] == "STOPPED"
    assert client.rounds("my study") == {"rounds": []}
    assert client.metrics("my study", key="loss", after_round=3)["metrics"][0]["value"] == 0.5
    assert service.calls[-1] == ("metrics", "my study", MetricsQuery(key="loss", after_round=3))
    assert client.metrics("my study", node="")["metrics"]
    assert service.calls[-1] == ("metrics", "my study", MetricsQuery(node=""))
    assert client.metrics("my study", **{"class": "", "points": 400, "before_round": 9})["metrics"]
    assert service.calls[-1] == ("metrics", "my study", MetricsQuery(class_="", points=400, before_round=9))
    assert client.series("my study")["series"][0]["key"] == "accuracy"
    assert client.timeline("my study", limit=7)["events"][0]["kind"] == "elected"
    assert service.calls[-1] == ("timeline", "my study", 7)
    assert client.updates("my study", node="alpha", limit=3)["updates"][0]["outcome"] == "refused"
    asked = {"after_round": None, "before_round": None, "node": "alpha", "outcome": None, "limit": 3}
    assert service.calls[-1] == ("updates", "my study", asked)
    assert client.updates("my study", outcome="refused")["updates"]
    assert service.calls[-1][2]["outcome"] == "refused"
    assert [each["verdict"] for each in client.audit_run("my study")["rounds"]] == ["agrees", "unknown"]
    assert service.calls[-1] == ("audit", "my study", None)
    client.audit_run("my study", 7)
    assert service.calls[-1] == ("audit", "my study", 7)
    assert client.logs("my study", after=7, level="INFO") == {"logs": [], "next": 7, "previous": None}
    assert service.calls[-1] == ("logs", "my study", LogsQuery(after=7, level="INFO"))
    assert client.logs()["logs"][0]["run_id"] == ""
    assert client.sql("select 1", rows_max=1) == {"columns": ["a", "b"], "rows": [[1, "x"]], "truncated": True}


def test_names_with_odd_characters_arrive_whole(service: MemoryService, client: Client) -> None:
    name = "a/b c?d#é%2F"
    service.group_names.append(name)
    assert client.group(name)["name"] == name


def test_a_number_that_is_not_finite_comes_as_null(client: Client, service: MemoryService) -> None:
    assert client.metrics("x")["metrics"][1]["value"] is None
    assert json_bytes({"a": [float("inf"), (1.5, b"\x01")]}) == b'{"a":[null,[1.5,"01"]]}'


ERRORS = [
    (lambda client: client.group("x"), 404, "no-such-group"),
    (lambda client: client.remove_data("x"), 404, "no-such-data"),
    (lambda client: client.join("fed1tokn"), 409, "token-mistyped"),
    (lambda client: client.sql("later"), 503, "unavailable"),
    (lambda client: client.sql("bug"), 503, "unavailable"),
    (lambda client: client.invite(role="king"), 400, "malformed"),
    (lambda client: client.invite(uses=0), 400, "malformed"),
    (lambda client: client.invite(expires_s=10**9), 400, "malformed"),
    (lambda client: client.create_group(""), 400, "malformed"),
    (lambda client: client.create_group("x" * 81), 400, "malformed"),
    (lambda client: client.runs(limit=0), 400, "malformed"),
    (lambda client: client.runs(sort="colour"), 400, "malformed"),
    (lambda client: client.runs(offset=-1), 400, "malformed"),
    (lambda client: client.runs(text="x" * 201), 400, "malformed"),
    (lambda client: client.metrics("x", colour="red"), 400, "malformed"),
    (lambda client: client.metrics("x", after_round="y"), 400, "malformed"),
    (lambda client: client.sql("x" * 600_000), 400, "malformed"),
    (lambda client: client._get("nothing"), 404, "no-such-path"),
    (lambda client: client._call("PUT", "/v1/status"), 400, "malformed"),
]


@pytest.mark.parametrize(("ask", "status", "code"), ERRORS)
def test_what_is_refused_comes_with_its_reason(client: Client, ask: Any, status: int, code: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        ask(client)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert caught.value.what
    assert caught.value.remedy
    assert client.status()["name"] == "alpha"  # and the node lives on


def test_all_problems_of_a_configuration_come(client: Client) -> None:
    with pytest.raises(RequestRefused) as caught:
        client.start_run("[training]\nrounds = 0\nlearn = 1")
    assert caught.value.status == 400
    assert len(caught.value.details["problems"]) == 3


def test_malformed_json_is_refused(service: MemoryService) -> None:
    body = '{"name": '
    status, answer = raw_request(
        service.home, f"POST /v1/groups HTTP/1.1\nHost: node\nContent-Length: {len(body)}\n\n{body}"
    )
    assert status == 400
    assert answer["error"]["code"] == "malformed"
    assert set(answer["error"]) == {"code", "what", "remedy", "status"}


def test_it_can_be_asked_by_hand(service: MemoryService) -> None:
    status, answer = raw_request(service.home, "GET /v1/status HTTP/1.1\nHost: node")
    assert (status, answer["name"]) == (200, "alpha")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Refused("malformed", "w", remedy="r"), 400),
        (Refused("bad-manifest", "w", remedy="r"), 400),
        (Refused("no-such-run", "w", remedy="r"), 404),
        (NotFound("no-such-model", "w", remedy="r"), 404),
        (Refused("invite-expired", "w", remedy="r"), 409),
        (FednodeError("w", remedy="r"), 503),
    ],
)
def test_status_of_errors(error: FednodeError, status: int) -> None:
    assert status_of(error) == status


# --- models ----------------------------------------------------------------------------------------------------
def test_a_model_comes_in_pieces(service: MemoryService, client: Client) -> None:
    with pytest.raises(RequestRefused, match="No round is committed"):
        list(client.model("x"))
    service.model_bytes = os.urandom(3_500_000)
    assert b"".join(client.model("x", 3)) == service.model_bytes


def test_a_model_carries_its_round(service: MemoryService, client: Client) -> None:
    service.model_bytes = b"12345"
    with client._exchange("GET", "/v1/runs/x/model", DEADLINE_S) as response:
        assert response.headers["X-Fednode-Round"] == "7"
        assert response.headers["X-Fednode-Model"] == "cd" * 32
        assert response.headers["Content-Length"] == "5"


# --- events ----------------------------------------------------------------------------------------------------
def test_events_begin_with_a_snapshot_and_end_with_bye(service: MemoryService, client: Client) -> None:
    service.batches = [[{"type": "log", "log": log_json(n, "m", "")} for n in range(100)], [{"type": "run"}]]
    types = []
    for event in client.events():
        types.append(event["type"])
        if event["type"] == "run":
            Client(service.home).stop()
    assert types[0] == "snapshot"
    assert types[1:101] == ["log"] * 100
    assert types[-1] == "bye"


def test_a_reader_that_leaves_is_unsubscribed(service: MemoryService, client: Client) -> None:
    events = client.events()
    assert next(events)["type"] == "snapshot"
    events.close()
    assert service.unsubscribed.wait(DEADLINE_S)


def test_the_stream_says_alive_when_nothing_happens() -> None:
    """Under a clock of its own: the answer is the object that Starlette would send."""
    from trio.testing import MockClock

    from node.api.http.streams import EventStream

    sent: list[dict[str, Any]] = []

    async def main() -> None:
        stopping = trio.Event()

        async def silence() -> Any:
            yield [{"type": "snapshot"}]
            await trio.sleep_forever()

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) == 4:
                stopping.set()

        async def receive() -> Any:
            await trio.sleep_forever()

        with trio.fail_after(60):
            await EventStream(silence(), stopping)({"type": "http"}, receive, send)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    bodies = [message["body"] for message in sent[1:]]
    assert bodies == [b'{"type":"snapshot"}\n', b'{"type":"alive"}\n', b'{"type":"alive"}\n', b'{"type":"bye"}\n', b""]


def test_a_reader_that_stops_reading_does_not_hold_the_stream_open() -> None:
    from trio.testing import MockClock

    from node.api.http.streams import EventStream

    async def main() -> None:
        stopping = trio.Event()

        async def flood() -> Any:
            while True:
                yield [{"type": "log"}]

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                stopping.set()
                await trio.sleep_forever()

        async def receive() -> Any:
            await trio.sleep_forever()

        with trio.move_on_after(60) as waited, trio.CancelScope():
            await EventStream(flood(), stopping)({"type": "http"}, receive, send)
        assert waited.cancelled_caught  # only the end of the body is still owed; the flood has ended

    trio.run(main, clock=MockClock(autojump_threshold=0))


# --- the asynchronous client -----------------------------------------------------------------------------------
async def use_async_client(service: MemoryService) -> list[str]:
    service.batches = [[{"type": "run", "run": run_json("a")}]]
    service.model_bytes = b"abc"
    async with AsyncClient(service.home) as client:
        assert (await client.status())["name"] == "alpha"
        assert (await client.create_group("g"))["name"] == "g"
        with pytest.raises(RequestRefused) as caught:
            await client.group("x")
        assert caught.value.code == "no-such-group"
        assert [piece async for piece in client.model("x")] == [b"abc"]
        assert "fednode" in await client.prometheus()
        types = []
        async with aclosing(client.events()) as events:
            async for event in events:
                types.append(event["type"])
                if event["type"] == "run":
                    await client.stop()
        return types


def test_async_client_under_trio(service: MemoryService) -> None:
    assert trio.run(use_async_client, service) == ["snapshot", "run", "bye"]


def test_async_client_under_asyncio(service: MemoryService) -> None:
    assert asyncio.run(use_async_client(service)) == ["snapshot", "run", "bye"]


# --- nobody there ----------------------------------------------------------------------------------------------
def test_no_node_is_said_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(NodeNotRunning, match="fednode start"):
        Client(tmp_path).status()

    async def ask() -> None:
        async with AsyncClient(tmp_path) as client:
            await client.status()

    with pytest.raises(NodeNotRunning):
        trio.run(ask)


def test_a_socket_that_a_killed_node_left_is_no_node(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "api.sock"))
    with pytest.raises(NodeNotRunning):
        Client(tmp_path).status()


def test_a_home_with_a_long_path(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    with serving(home):
        path = fednode.socket_path(home)
        assert path.parent != home
        assert len(os.fsencode(path)) < 100
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert Client(home).status()["name"] == "alpha"
    assert not path.parent.exists()
    assert not (home / "api.path").exists()


def test_the_socket_is_gone_after_a_stop(home: Path) -> None:
    with serving(home):
        assert (home / "api.sock").exists()
    assert not (home / "api.sock").exists()
