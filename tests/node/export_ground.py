"""For tests of exports: a record with everything that exports must carry, and an MLflow server in a few lines."""

import json
import math
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fednode_client import Client
from node.cli.record_client import RecordClient
from tracker.queries.reader import Reader
from tracker.store import Store, open_stopped
from tracker.tables.rows import (
    ArtifactRow,
    DataSetRow,
    EvaluationRow,
    LogRow,
    MetricRow,
    ModelAliasRow,
    ModelRow,
    NodeParameterRow,
    NodeRow,
    ParameterRow,
    ParticipantRow,
    RegisteredModelRow,
    RoundRow,
    Row,
    RunRow,
    SpanRow,
    StatusRow,
    SystemMetricRow,
)

Json = dict[str, Any]
RUN, OTHER_RUN = "ab" * 32, "cd" * 32
DAY = 1_800_000_000.0
NODES = ("12D3KooWaaaaaaaaAnna", "12D3KooWbbbbbbbbBen")
PARAMETERS = 205  # more than two batches of MLflow's
MODEL = b"the newest model" * 1000
ARTIFACT = b"a picture"


class Ground:
    """A record's file that grows. It stays open while it is asked, as a node's does, for opening takes longest."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "record.duckdb"
        self._sequence = 0
        self._kept = ExitStack()
        self._reader: Reader | None = None
        self.write(*_described(RUN, "study"), *_described(OTHER_RUN, "other"))

    @property
    def path(self) -> Path:
        """The file, which nobody has open."""
        self._kept.close()
        self._reader = None
        return self._path

    def reader(self) -> Reader:
        if self._reader is None:
            store = self._kept.enter_context(closing(open_stopped(self._path)))
            self._reader = self._kept.enter_context(closing(store.reader()))
        return self._reader

    def write(self, *rows: Row) -> None:
        store = Store(self.path)
        store.write(rows)
        store.close()

    def state(self, state: str, node: str = "", *, run: str = RUN, at: float = DAY) -> None:
        self._sequence += 1
        self.write(StatusRow(run, node, state, "", 0, at, self._sequence, NODES[0]))

    def metric(self, node: str, number: int, value: float, **changes: Any) -> MetricRow:
        self._sequence += 1
        fields: Json = {"scope": "global", "split": "eval", "key": "accuracy", "class_": None, "epoch": 0, "step": 0}
        fields |= {"samples": 10, "time": DAY + number + 0.25, "run_id": RUN, **changes}
        return MetricRow(node_id=node, round=number, value=value, source_node=node, sequence=self._sequence, **fields)

    def rounds(self, *numbers: int, run: str = RUN) -> None:
        """Committed rounds, with what both nodes measured."""
        rows: list[Row] = []
        for number in numbers:
            rows.append(RoundRow(run, number, 1, NODES[0], "c1", f"m{number}", DAY + number, 2, "[]", 100, 1.5))
            rows.append(ModelRow(run, number, f"m{number}", "s1", len(MODEL), DAY + number))
            for place, node in enumerate(NODES):
                rows.append(self.metric(node, number, number / 7 + place, run_id=run))
                rows.append(
                    self.metric(node, number, 1 / (number + 3), key="loss", samples=10 + 20 * place, run_id=run)
                )
                trained = {"scope": "local", "split": "train", "key": "loss"}
                rows.append(self.metric(node, number, 2 / (number + 3), run_id=run, **trained))
        self.write(*rows)

    def everything(self) -> None:
        """A run of four rounds that has ended, with what is rare: classes, steps, odd names, what is not finite."""
        self.state("RUNNING", at=DAY + 0.5)
        self.rounds(0, 1, 2, 3)
        steps = [
            self.metric(NODES[0], 2, 1 / step, scope="local", split="train", key="loss", epoch=1, step=step, samples=0)
            for step in range(1, 1205)
        ]
        odd = [
            self.metric(NODES[0], 1, math.nan, key="norm"),
            self.metric(NODES[0], 2, math.inf, key="norm"),
            self.metric(NODES[1], 1, -1e300, key="größe@1"),
            *(self.metric(node, 3, 0.5, key="TPRs", class_="0") for node in NODES),
        ]
        logs = [LogRow(NODES[0], RUN, "INFO", "task.log", "it's 'quoted'", DAY, 10_000)]
        logs.append(LogRow(NODES[0], "", "INFO", "node", "of no run", DAY, 10_001))
        self.write(
            *steps,
            *odd,
            *logs,
            *(ArtifactRow(RUN, node, "pictures/first one.png", "image", "b1", 9, DAY) for node in NODES),
        )
        self.write(DataSetRow("digits", "/home/anna/secret", "folder", 1, "f", "{}", DAY))
        self.write(*self._machines(), *_told())
        for node in NODES:
            self.state("FINISHED", node, at=DAY + 9)
        self.rounds(1, 2, run=OTHER_RUN)
        self.state("FINISHED", at=DAY + 9)

    def _machines(self) -> list[Row]:
        """Of each node four samples, the first before the run, the last after it; and of workers."""
        host = {"cpu_percent": 12.5, "memory_used_bytes": 2e9, "network_sent_bytes": 5e6, "network_received_bytes": 7e6}
        rows: list[Row] = []
        for node in NODES:
            for second in (-1000.0, 1.0, 4.0, 3600.0):
                rows += [self._system(node, "", key, value, second) for key, value in host.items()]
                rows += [self._system(node, "", "gpu_percent", 50.0 + int(gpu), second, gpu) for gpu in "01"]
        for run in (RUN, OTHER_RUN):
            rows.append(self._system(NODES[0], run, "memory_bytes", 3e8, 3.0))
        rows.append(self._system(NODES[0], RUN, "memory_bytes", 3e8, 3.5))  # the same, as it was told to others
        return rows

    def _system(self, node: str, run: str, key: str, value: float, second: float, gpu: str = "") -> SystemMetricRow:
        self._sequence += 1
        scope, unit = "worker" if run else "host", key.rpartition("_")[2]
        number = 2 if run else 0
        return SystemMetricRow(node, run, scope, key, gpu, value, unit, number, DAY + second, node, self._sequence)

    def record(self) -> RecordClient:
        return RecordClient(self.path)

    def client(self) -> "NodeClient":
        return NodeClient(self)


class OpenRecord(RecordClient):
    """Asks the open record."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground.path)
        self._ground = ground

    @contextmanager
    def _reader(self) -> Iterator[Reader]:
        yield self._ground.reader()


class NodeClient(Client):
    """What a running node with this record would answer."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground.path.parent)
        self._record = OpenRecord(ground)

    def run(self, run: str) -> Json:
        return self._record.run(run)

    def metrics(self, run: str, **filters: object) -> Json:
        return self._record.metrics(run, **filters)

    def sql(self, statement: str, rows_max: int = 10_000) -> Json:
        return self._record.sql(statement, rows_max)

    def groups(self) -> Json:
        return {"groups": [{"group_id": "g1", "name": "hospitals"}]}

    def status(self) -> Json:
        return {"node_id": NODES[0]}

    def model(self, run: str, round_number: int | None = None) -> Iterator[bytes]:
        yield MODEL[:1000]
        yield MODEL[1000:]

    def artifact(self, run: str, node: str, name: str) -> Iterator[bytes]:
        assert (run, node, name) == (RUN, NODES[0], "pictures/first one.png")
        yield ARTIFACT


def _told() -> list[Row]:
    """What nodes and owners said about the run, and what nodes were busy with."""
    return [
        NodeParameterRow(RUN, NODES[0], "warm.up", "3", "int", DAY),
        NodeParameterRow(RUN, NODES[1], "warm.up", "4", "int", DAY),
        RegisteredModelRow("best", 2, RUN, 3, "m3", "s1", DAY + 8),
        ModelAliasRow("best", "champion", 2, DAY + 8),
        ModelAliasRow("best", "once", 2, DAY + 8, removed=True),
        SpanRow(RUN, NODES[0], 1, "train", "", DAY + 1, 0.5, 0, NODES[0], 1),
        RegisteredModelRow("gone", 1, RUN, 3, "m3", "s1", DAY + 8, removed=True),
        EvaluationRow("m3", RUN, 3, "digits", "f2", 10, "{}", DAY + 9, NODES[0], 1),
        EvaluationRow("m3", RUN, 3, "/home/anna/secret/more", "f3", 10, "{}", DAY + 9, NODES[0], 2),
    ]


def _described(run: str, name: str) -> list[Row]:
    manifest = {"aggregation": {"rule": "mean"}, "task": {"hash": "ee" * 32}, "tags": ["first", "second"]}
    rows: list[Row] = [
        RunRow(run, name, "vision", "one", "g1", "digits", "digits", NODES[0], 4, DAY, json.dumps(manifest)),
        *(ParameterRow(run, f"training.key_{number:03}", str(number), "int") for number in range(PARAMETERS)),
        *(ParticipantRow(run, node, True, 10, "trainer", f"{node[-4:]}00") for node in NODES),
        *(NodeRow(node, node[-4:].strip("b"), "Mabc", "0.1", "{}", DAY) for node in NODES),
    ]
    return rows


class SmallMlflow:
    """MLflow's REST API as far as exports use it. It keeps every point that it is sent, also one that is there already,
    so that sending twice shows; and it holds to MLflow's limits."""

    def __init__(self) -> None:
        self.runs: dict[str, Json] = {}
        self.points: dict[str, list[Json]] = {}
        self.experiments: dict[str, str] = {}
        self.artifacts: dict[str, bytes] = {}
        self.artifact_root = "mlflow-artifacts:/"
        self.headers: list[Json] = []
        self.batches: list[Json] = []
        self.answers: list[tuple[int, bytes]] = []  # to give instead, one for each of the next calls
        self.uri = ""

    def handle(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        if self.answers:
            return self.answers.pop(0)
        parts = urlsplit(target)
        if method == "PUT":
            self.artifacts[unquote(parts.path).removeprefix("/api/2.0/mlflow-artifacts/artifacts/")] = body
            return 200, b"{}"
        asked = (
            json.loads(body) if method == "POST" else {key: value[0] for key, value in parse_qs(parts.query).items()}
        )
        what = parts.path.removeprefix("/api/2.0/mlflow/").replace("/", "_").replace("-", "_")
        told = getattr(self, what)(asked)
        if isinstance(told, str):
            code, message = told.split(": ", 1)
            status = 404 if code == "RESOURCE_DOES_NOT_EXIST" else 400
            return status, json.dumps({"error_code": code, "message": message}).encode()
        return 200, json.dumps(told).encode()

    def experiments_get_by_name(self, asked: Json) -> Json | str:
        if asked["experiment_name"] not in self.experiments:
            return "RESOURCE_DOES_NOT_EXIST: no such experiment"
        return {"experiment": {"experiment_id": self.experiments[asked["experiment_name"]]}}

    def experiments_create(self, asked: Json) -> Json:
        self.experiments[asked["name"]] = str(len(self.experiments) + 1)
        return {"experiment_id": self.experiments[asked["name"]]}

    def runs_create(self, asked: Json) -> Json:
        run_id = f"run{len(self.runs)}"
        info = {"run_id": run_id, "artifact_uri": f"{self.artifact_root}{asked['experiment_id']}/{run_id}/artifacts"}
        info |= {"status": "RUNNING", "run_name": asked["run_name"], "experiment_id": asked["experiment_id"]}
        self.points[run_id] = []
        self.runs[run_id] = {"info": info, "data": {"tags": asked["tags"], "params": []}}
        self.runs[run_id]["info"]["start_time"] = asked["start_time"]
        return {"run": self.runs[run_id]}

    def runs_search(self, asked: Json) -> Json:
        key, value = asked["filter"].removeprefix("tags.`").removesuffix("'").split("` = '")
        found = [run for run in self.runs.values() if run["info"]["experiment_id"] in asked["experiment_ids"]]
        found = [run for run in found if self.tags(run["info"]["run_id"]).get(key) == value]
        for run in found:
            points = self.points[run["info"]["run_id"]]
            run["data"]["metrics"] = list({point["key"]: point for point in points}.values())
        start = int(asked.get("page_token", 0))  # pages of two, so that they are turned
        more = {"next_page_token": str(start + 2)} if start + 2 < len(found) else {}
        return {"runs": found[start : start + 2], **more}

    def runs_update(self, asked: Json) -> Json:
        self.runs[asked["run_id"]]["info"] |= asked
        return {}

    def runs_log_batch(self, asked: Json) -> Json | str:
        sizes = [len(asked.get(kind, ())) for kind in ("metrics", "params", "tags")]
        if sizes[0] > 1000 or sizes[1] > 100 or sizes[2] > 100 or sum(sizes) > 1000:
            return "INVALID_PARAMETER_VALUE: too much at once"
        self.batches.append(asked)
        data = self.runs[asked["run_id"]]["data"]
        old = {param["key"] for param in data["params"]}
        if any(param["key"] in old for param in asked.get("params", ())):
            return "INVALID_PARAMETER_VALUE: a param cannot be changed"
        data["params"] += asked.get("params", [])
        merged = self.tags(asked["run_id"]) | {tag["key"]: tag["value"] for tag in asked.get("tags", ())}
        data["tags"] = [{"key": key, "value": value} for key, value in merged.items()]
        self.points[asked["run_id"]] += asked.get("metrics", [])
        return {}

    def metrics_get_history(self, asked: Json) -> Json:
        points = [point for point in self.points[asked["run_id"]] if point["key"] == asked["metric_key"]]
        start = int(asked.get("page_token", 0))
        more = {"next_page_token": str(start + 500)} if start + 500 < len(points) else {}
        return {"metrics": points[start : start + 500], **more}

    # --- what tests look at --------------------------------------------------------------------------------------
    def tags(self, run_id: str) -> dict[str, str]:
        return {tag["key"]: tag["value"] for tag in self.runs[run_id]["data"]["tags"]}

    def of_node(self, node: str) -> Json:
        """The one MLflow run of a node, "" for the parent."""
        (found,) = [run for run_id, run in self.runs.items() if self.tags(run_id).get("fed.node_id", "") == node]
        return found

    def points_of(self, node: str) -> list[tuple[str, int, int, Any]]:
        points = self.points[self.of_node(node)["info"]["run_id"]]
        return sorted((point["key"], point["step"], point["timestamp"], point["value"]) for point in points)


@contextmanager
def small_mlflow() -> Iterator[SmallMlflow]:
    service = SmallMlflow()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            service.headers.append(dict(self.headers))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer = service.handle(self.command, self.path, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = _serve

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.uri = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
