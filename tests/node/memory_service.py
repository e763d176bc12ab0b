"""A small NodeService that keeps everything in memory, for tests of the API and of the commands."""

import logging
import os
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import trio
from memory_artifacts import MemoryArtifacts
from memory_blobs import MemoryBlobs, MemoryTransfers
from memory_inbox import MemoryInbox
from memory_logs import MemoryLogs
from memory_members import MemoryMembers
from memory_models import MemoryModels, MemoryPredictor
from memory_store import MemoryStore

from node.api.http.api import serve_api
from node.api.service.service import Asked, LogPage, LogsQuery, MetricsQuery, ModelFile, NotFound
from node.home.home import Home, Settings
from protocol.errors import FednodeError, Refused
from protocol.manifest.read import ManifestError, read_configuration

Json = dict[str, Any]
NODE = "12D3KooWTestNodeTestNodeTestNodeTestNodeTestNodeTest"
START_DEADLINE_S = 30


class MemorySystem:
    """Two spans, and a machine that is half busy."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self._calls = calls

    async def spans(self, run: str, wanted: Mapping[str, Any]) -> list[Json]:
        self._calls.append(("spans", run, dict(wanted)))
        span = {"run_id": "cd" * 32, "node_id": NODE, "round": 1, "peer": "", "bytes": 0, "source_node": NODE}
        return [{**span, "name": name, "started_at": "2026", "seconds": 1.5} for name in ("train", "wait")]

    async def metrics(self, run: str, wanted: Mapping[str, Any]) -> list[Json]:
        self._calls.append(("system", run, dict(wanted)))
        place = {"node_id": NODE, "run_id": "", "scope": "host", "key": "cpu_percent", "device": "", "unit": "percent"}
        return [{**place, "value": 50.0, "round": 1, "time": "2026"}]

    async def states(self, run: str, wanted: Mapping[str, Any]) -> list[Json]:
        self._calls.append(("states", run, dict(wanted)))
        state = {"run_id": "cd" * 32, "node_id": "", "reason": "", "round": 0, "time": "2026", "source_node": NODE}
        return [{**state, "state": "RUNNING", "sequence": 1, "position": 7}]

    async def summary(self, run: str, wanted: Mapping[str, Any]) -> list[Json]:
        self._calls.append(("summary", run, dict(wanted)))
        place = {
            "node_id": NODE,
            "scope": "host",
            "key": "cpu_percent",
            "device": "",
            "unit": "percent",
            "time": "2026",
        }
        return [{**place, "latest": 50.0, "mean": 40.0, "min": 0.0, "max": 90.0, "samples": 3}]


class MemoryProposals:
    """Finds fault with what the reader of configurations does not like."""

    async def check(self, asked: Asked) -> Json:
        told: Json = {"problems": [], "taken_as": [], "manifest": None, "warnings": ["nobody else is here"]}
        try:
            reading = read_configuration(asked.config, source=asked.source or "", overrides=asked.overrides)
        except ManifestError as error:
            return {**told, "problems": [{"key": "", "what": text, "remedy": ""} for text in error.problems]}
        return {**told, "taken_as": list(reading.taken_as)}


class MemoryRunList:
    """All runs on one page, in the order in which they came."""

    def __init__(self, service: "MemoryService") -> None:
        self._service = service

    async def page(self, wanted: Mapping[str, Any]) -> Json:
        self._service.calls.append(("runs", dict(wanted)))
        runs = list(self._service.all_runs.values())
        return {"runs": runs[: wanted["limit"]], "total": len(runs)}

    async def projects(self, wanted: Mapping[str, Any]) -> list[Json]:
        self._service.calls.append(("projects", dict(wanted)))
        return [{"project": "default", "runs": len(self._service.all_runs)}]


class MemoryCurves:
    """Two rounds of two curves, an election, and an update that was refused."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self._calls = calls

    async def metrics(self, run: str, query: MetricsQuery) -> list[Json]:
        self._calls.append(("metrics", run, query))
        points = [(1, "accuracy", 0.5), (1, "loss", float("nan")), (2, "accuracy", 0.75)]
        return [metric_json(round_number, key, value) for round_number, key, value in points]

    async def series(self, run: str) -> list[Json]:
        self._calls.append(("series", run))
        place = {"scope": "global", "split": "eval", "class": None}
        return [{**place, "key": key, "nodes": 1, "rows": 2, "last_round": 2} for key in ("accuracy", "loss")]

    async def timeline(self, run: str, limit: int) -> list[Json]:
        self._calls.append(("timeline", run, limit))
        return [
            {"time": "2026", "round": 1, "kind": "elected", "node_id": NODE, "node_name": "alpha", "text": "term 1"}
        ]

    async def updates(self, run: str, wanted: Mapping[str, Any]) -> list[Json]:
        self._calls.append(("updates", run, dict(wanted)))
        update = {"run_id": "cd" * 32, "round": 2, "time": "2026", "node_id": NODE, "node_name": "alpha", "samples": 9}
        update |= {"bytes": 40, "weight": 0, "norm": None, "outcome": "refused", "reason": "not-finite: NaN"}
        return [{**update, "audited": 1}]


class MemoryDevices:
    """One machine that came and is a little busy."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self._calls = calls

    async def listed(self, wanted: Mapping[str, Any]) -> list[Json]:
        self._calls.append(("devices", dict(wanted)))
        history = [{"time": "2026", "state": "HERE", "reason": ""}]
        return [{"node_id": NODE, "name": "alpha", "samples": {"cpu_percent": [["2026", 9.0]]}, "history": history}]


class MemoryDoctor:
    """One thing is well, and one is not."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self._calls = calls
        self.checks = [
            {"name": "keys", "state": "ok", "text": "all is well", "remedy": ""},
            {"name": "reach", "state": "warning", "text": "b\x1b[2Jeta: away\nnow", "remedy": "wait"},
        ]

    async def look(self) -> Json:
        self._calls.append(("doctor",))
        return {"checks": self.checks}


class MemoryAudits:
    """One round agrees, and of one that cannot be said."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self._calls = calls
        self.verdicts = ["agrees", "unknown"]

    async def look(self, run: str, round_number: int | None) -> Json:
        self._calls.append(("audit", run, round_number))
        each = {"checkpoint": "ab" * 32, "aggregator": NODE, "aggregator_name": "alpha", "updates_used": 3}
        each |= {"updates_refused": 1, "why": ""}
        rounds = [{**each, "round": 9 - at, "verdict": verdict} for at, verdict in enumerate(self.verdicts)]
        return {"run_id": "cd" * 32, "rounds": rounds}


class MemoryService:
    """Answers in the shapes of docs/api.md. `batches` is what the event stream gives after its snapshot."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.group_names: list[str] = []
        self.data: dict[str, Json] = {}
        self.all_runs: dict[str, Json] = {}
        self.batches: list[list[Json]] = []
        self.subscriptions = 0
        self.unsubscribed = threading.Event()
        self.calls: list[tuple[Any, ...]] = []
        self.model_bytes = b""
        self.rules = ["mine"]
        self.log_lines: list[Json] = []
        self.system = MemorySystem(self.calls)
        self.devices = MemoryDevices(self.calls)
        self.doctor = MemoryDoctor(self.calls)
        self.audits = MemoryAudits(self.calls)
        self.curves = MemoryCurves(self.calls)
        self.artifacts = MemoryArtifacts()
        self.inbox = MemoryInbox(self.calls)
        self.memberships = MemoryMembers(self.calls)
        self.role, self.role_of_bo = "admin", "member"
        self.out_of: dict[str, Json] = {}  # by the group's name
        self.turned_away_from: dict[str, str] = {}
        self.run_list = MemoryRunList(self)
        self.proposals = MemoryProposals()
        self.registry = MemoryModels(self.calls)
        self.predictor = MemoryPredictor(self.calls)
        self.all_logs = MemoryLogs(self.calls)
        self.store = MemoryStore(self.calls)
        self.blobs = MemoryBlobs(self.calls)
        self.transfers = MemoryTransfers()

    async def status(self) -> Json:
        return {
            "node_id": NODE,
            "name": "alpha",
            "member_id": "Mabc",
            "version": "0.1.0",
            "home": str(self.home),
            "pid": 1,
            "started_at": "2026-01-01T00:00:00Z",
            "uptime_s": 93784.0,
            "addresses": ["/ip4/127.0.0.1/tcp/20001"],
            "entrance_addresses": ["/ip4/127.0.0.1/tcp/20002"],
            "announced": [],
            "local_network": {"on": True, "trouble": ""},
            "groups": [{"group_id": "ab" * 32, "name": name, **self._standing(name)} for name in self.group_names],
            "runs_active": len(self.all_runs),
            "peers_connected": 0,
            "bytes_sent": 1500,
            "bytes_received": 2_500_000,
            "stranger_bytes": 0,
            "refused_at_door": 0,
        }

    async def stop(self) -> None:
        self.calls.append(("stop",))

    async def peers(self) -> list[Json]:
        capacity = {"cpu_cores": 2, "memory_bytes": 8 << 30, "memory_free_bytes": 4 << 30, "load_1m": 0.5, "gpus": []}
        mine = {"node_id": NODE, "name": "alpha", "self": True, "connected": True, "capacity": capacity}
        other = {"node_id": "12D3KooWOther", "name": "beta", "self": False, "connected": False, "capacity": {}}
        return [{"groups": [], "runs": [], "last_seen": "2026-01-01T00:00:00Z", **peer} for peer in (mine, other)]

    def _standing(self, name: str) -> Json:
        return {"out": self.out_of.get(name), "turned_away": self.turned_away_from.get(name, "")}

    def _group(self, name: str) -> Json:
        members = [
            {
                "member_id": "Mabc",
                "name": "Ann",
                "role": "admin",
                "admitted_at": None,
                "nodes": [],
                "admitted_by": "Ann",
            },
            {"member_id": "Mbo", "name": "Bo", "role": self.role_of_bo, "admitted_at": None, "admitted_by": "Ann"}
            | {
                "nodes": [{"node_id": "12D3KooWBo", "name": "beta"}],
                "organisation": "St. Bo",
                "contact": "bo@bo.example",
            },
        ]
        invitation = {"invite_id": "3f9c2a71" * 8, "role": "member", "uses": 3, "used": 1, "revoked": False}
        invitation |= {"expires_at": "2026-01-08T00:00:00Z", "state": "open", "by": NODE, "by_name": "Ann"}
        former = {"member_id": "Meve", "name": "Eve", "role": "member", "removed": True, "by": "Ann"}
        former |= {"at": "2026-01-02T00:00:00Z", "reason": "gone"}
        revoked = {"node_id": "12D3KooWlost", "name": "lost", "member_id": "Mbo", "member": "Bo", "by": "beta"}
        revoked |= {"at": "2026-01-03T00:00:00Z"}
        return {
            "group_id": "ab" * 32,
            "name": name,
            "role": self.role,
            "members": members,
            "invitations": [invitation],
        } | {
            "former": [former],
            "revoked": [revoked],
            **self._standing(name),
            "created_at": "2026-01-01T00:00:00Z",
            "operations": 1,
            "heads": [],
        }

    async def groups(self) -> list[Json]:
        return [self._group(name) for name in self.group_names]

    async def create_group(self, name: str) -> Json:
        if name in self.group_names:
            raise Refused("group-exists", f"You are in a group called {name!r} already", remedy="choose another name")
        self.group_names.append(name)
        return self._group(name)

    async def group(self, group: str) -> Json:
        if group not in self.group_names:
            raise NotFound("no-such-group", f"No group is called {group!r}", remedy="see fednode group list")
        return self._group(group)

    async def invite(
        self, group: str | None, role: str, uses: int, expires_s: int, addresses: Sequence[str] = (), qr: bool = False
    ) -> Json:
        self.calls.append(("invite", group, role, uses, expires_s, *addresses, *["qr"] * qr))
        return {"token": "fed1token", "group_id": "ab" * 32, "group": "g", "role": role, "uses": uses} | {
            "expires_at": "2026-01-08T00:00:00Z",
            "invite_id": "i1",
            "entrances": [],
            "warning": "",
        }

    async def join(self, token: str) -> Json:
        if token != "fed1token":
            raise Refused("token-mistyped", "The token's checksum is wrong", remedy="copy it again, all of it")
        return {"group_id": "ab" * 32, "name": "study", "role": "member", "admitted_by": NODE}

    async def data_list(self) -> list[Json]:
        return list(self.data.values())

    async def data_add(self, name: str, path: str, options: Mapping[str, Any]) -> Json:
        entry = {"name": name, "path": path, "kind": "folder", "bytes": 3, "fingerprint": "f", "options": dict(options)}
        self.data[name] = {**entry, "added_at": "2026-01-01T00:00:00Z"}
        return self.data[name]

    async def data_show(self, name: str) -> Json:
        if name not in self.data:
            raise NotFound("no-such-data", f"No data set is called {name!r}", remedy="see fednode data list")
        return {**self.data[name], "statistics": {"files": 3, "suffixes": [[".png", 3]], "folders": [["cat", 3]]}}

    async def data_remove(self, name: str) -> None:
        if self.data.pop(name, None) is None:
            raise NotFound("no-such-data", f"No data set is called {name!r}", remedy="see fednode data list")

    async def run(self, run: str) -> Json:
        if run not in self.all_runs:
            raise NotFound("no-such-run", f"No run is called {run!r}", remedy="see fednode run list")
        return {"manifest": {"training": {"rounds": 10}}, **self.all_runs[run]}

    async def start_run(self, config: str, source: str | None, group: str | None, overrides: Mapping[str, Any]) -> Json:
        reading = read_configuration(config, source=source or "", overrides=overrides)
        self.calls.append(("start_run", source, group, dict(overrides)))
        run = run_json(reading.configuration.name, rounds=reading.configuration.training.rounds)
        self.all_runs[run["name"]] = run
        return {**run, "taken_as": list(reading.taken_as)}

    async def accept(self, run: str, data: str | None, task: str | None) -> Json:
        self.calls.append(("accept", run, data, task))
        return {**await self.run(run), "decision": "accepted"}

    async def decline(self, run: str, reason: str) -> Json:
        self.calls.append(("decline", run, reason))
        return {**await self.run(run), "decision": "declined"}

    async def stop_run(self, run: str, reason: str) -> Json:
        self.calls.append(("stop_run", run, reason))
        entry = await self.run(run)
        if entry["state"] in ("FINISHED", "STOPPED", "FAILED"):
            return {**entry, "asked": False}
        return {**entry, "state": "STOPPED", "reason": reason, "asked": True}

    async def policy(self) -> list[str]:
        return self.rules

    async def set_policy(self, rules: Sequence[str]) -> list[str]:
        self.rules = list(rules)
        return self.rules

    async def rounds(self, run: str, after_round: int | None = None, limit: int = 100_000) -> list[Json]:
        return []

    async def logs(self, run: str | None, query: LogsQuery) -> LogPage:
        self.calls.append(("logs", run, query))
        lines = [log_json(1, "first", run or ""), log_json(2, "second", run or ""), *self.log_lines]
        told = [line for line in lines if line["seq"] > (query.after or 0)]
        return LogPage.of(told[-query.limit :] if query.after is None else told, query)

    async def model_file(self, run: str, round_number: int | None) -> ModelFile:
        if not self.model_bytes:
            raise NotFound("no-such-model", "No round is committed yet", remedy="wait for the first round")

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(self.model_bytes), 1 << 20):
                yield self.model_bytes[start : start + (1 << 20)]
                await trio.lowlevel.checkpoint()

        return ModelFile(round_number or 7, "cd" * 32, len(self.model_bytes), chunks())

    async def sql(self, statement: str, rows_max: int) -> tuple[Sequence[str], Sequence[Sequence[Any]], bool]:
        if statement == "bug":
            raise KeyError("bug")
        if statement == "later":
            raise FednodeError("The disk is full", remedy="make room")
        return ["a", "b"], [(1, "x"), (2, None)][:rows_max], rows_max < 2

    async def events(self) -> AsyncIterator[list[Json]]:
        self.subscriptions += 1
        try:
            snapshot = {"type": "snapshot", "status": await self.status(), "groups": [], "peers": [], "runs": []}
            yield [snapshot]
            for batch in self.batches:
                yield batch
            await trio.sleep_forever()
        finally:
            self.unsubscribed.set()

    async def prometheus(self) -> str:
        return "fednode_peers_connected 0\n"


def run_json(name: str, **changes: Any) -> Json:
    run = {"run_id": "cd" * 32, "name": name, "project": "default", "experiment": "default", "group_id": "ab" * 32}
    run |= {"task": "digits", "data": "digits", "proposer": NODE, "proposer_name": "alpha", "state": "RUNNING"}
    run |= {"reason": "", "note": "", "round": 2, "rounds": 10, "term": 1, "aggregator": NODE, "elections": 1}
    run |= {"aggregator_name": "alpha", "created_at": "2026-01-01T00:00:00Z", "started_at": None, "ended_at": None}
    run |= {
        "accuracy": 0.75,
        "loss": None,
        "decision": "accepted",
        "bytes_moved": 30,
        "bytes_sent": 10,
        "bytes_received": 20,
    }
    participant = {"node_id": NODE, "name": "alpha", "state": "TRAINING", "reason": "", "round": 2, "samples": 100}
    return {**run, "participants": [{**participant, "voter": True}], **changes}


def metric_json(round_number: int, key: str, value: float) -> Json:
    point = {"run_id": "cd" * 32, "node_id": "", "scope": "global", "split": "eval", "key": key, "class": None}
    return {**point, "round": round_number, "epoch": 0, "step": 0, "value": value, "time": "2026", "samples": 10}


def log_json(seq: int, message: str, run_id: str) -> Json:
    time = "2026-01-01T00:00:00.000000Z"
    line = {"seq": seq, "time": time, "level": "INFO", "node_id": NODE, "run_id": run_id, "logger": "fednode"}
    return {**line, "message": message}


@contextmanager
def serving(home: Path) -> Iterator[MemoryService]:
    """The service behind a real socket at `home`, in a thread with a trio loop of its own."""
    service = MemoryService(home)
    ready = threading.Event()
    loop: list[Any] = []

    async def main() -> None:
        stopping = trio.Event()
        loop.extend((trio.lowlevel.current_trio_token(), stopping))
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_api, service, held.socket(), stopping)
            ready.set()

    with Home(home) as held:
        thread = threading.Thread(target=trio.run, args=(main,))
        thread.start()
        try:
            assert ready.wait(START_DEADLINE_S)
            yield service
        finally:
            with suppress(trio.RunFinishedError):
                trio.from_thread.run_sync(loop[1].set, trio_token=loop[0])
            thread.join(START_DEADLINE_S)
    assert not thread.is_alive()


@asynccontextmanager
async def open_memory_node(home: Home, settings: Settings) -> AsyncIterator[MemoryService]:
    """In the place of node.daemon.open_real_node. MEMORY_NODE in the environment makes it misbehave."""
    misbehave = os.environ.get("MEMORY_NODE", "")
    logging.getLogger("fednode.memory").info("opened as %s at %s", settings.name, settings.listen)
    if misbehave == "refused":
        raise FednodeError("The port is taken", remedy="name another")
    if misbehave == "bug":
        raise KeyError("a bug")
    service = MemoryService(home.path)
    service.batches = [[{"type": "log", "log": log_json(n, "x" * 1000, "")} for n in range(100)]] * (
        100 if misbehave == "flood" else 0
    )
    if misbehave == "slow goodbye":
        service.stop = trio.sleep_forever  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        if misbehave == "dies":
            nursery.start_soon(_die)
        yield service
        nursery.cancel_scope.cancel()
    (home.path / "closed").write_text("in order")


async def _die() -> None:
    raise FednodeError("The network broke", remedy="restart it")
