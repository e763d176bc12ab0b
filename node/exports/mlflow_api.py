"""MLflow's REST API 2.0, as much of it as an export needs, and its failures in people's words."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from protocol.errors import FednodeError

Json = dict[str, Any]
CALL_DEADLINE_S = 60.0  # a server with SQLite takes seconds for a batch when it is busy
UPLOAD_DEADLINE_S = 600.0  # for each piece of a model that the server takes
AGAIN_AFTER_S = (0.5, 2.0, 5.0)  # a server that restarts, or a proxy that is overloaded, is back in a moment
PAGE_RUNS = 1000
PAGE_POINTS = 25_000
_ANSWER_CHARACTERS_SHOWN = 300
_API = "/api/2.0/mlflow/"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts/"
_BUSY = {429, 502, 503, 504}


class MlflowError(FednodeError):
    """MLflow's server cannot be reached, or says no; `code` is its own error code where it gave one."""

    def __init__(self, what: str, *, remedy: str, code: str = "mlflow") -> None:
        super().__init__(what, remedy=remedy)
        self.code = code


class MlflowServer:
    """A connection to one server. MLFLOW_TRACKING_TOKEN, or _USERNAME and _PASSWORD, authenticate as with MLflow's own.

    Raises:
        MlflowError: `uri` is not the address of a server.
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise MlflowError(
                f"{uri!r} is not the address of an MLflow server",
                remedy="start one (mlflow server --backend-store-uri sqlite:///mlflow.db) and give its http:// address",
                code="bad-uri",
            )
        self.uri = uri.rstrip("/")
        self._http = httpx.Client(timeout=CALL_DEADLINE_S, follow_redirects=False, **_credentials())

    def close(self) -> None:
        self._http.close()

    # --- experiments and runs ------------------------------------------------------------------------------------
    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, which is made where it is missing."""
        try:
            # The first call of all: whoever mistyped the address shall not wait.
            found = self._get("experiments/get-by-name", once=True, experiment_name=name)
        except MlflowError as error:
            if error.code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return str(self._post("experiments/create", once=True, name=name)["experiment_id"])
        return str(found["experiment"]["experiment_id"])

    def runs_with_tag(self, experiment_id: str, key: str, value: str) -> Iterator[Json]:
        """Runs of the experiment, as MLflow's `Run` in JSON, the oldest first."""
        asked: Json = {"experiment_ids": [experiment_id], "filter": f"tags.`{key}` = '{value}'"}
        asked |= {"max_results": PAGE_RUNS, "order_by": ["attributes.start_time ASC"]}
        while True:
            page = self._post("runs/search", **asked)
            yield from page.get("runs", [])
            if not page.get("next_page_token"):
                return
            asked["page_token"] = page["next_page_token"]

    def create_run(self, experiment_id: str, name: str, start_ms: int, tags: dict[str, str]) -> Json:
        body: Json = {"experiment_id": experiment_id, "run_name": name, "start_time": start_ms, "tags": pairs(tags)}
        run: Json = self._post("runs/create", once=True, **body)["run"]
        return run

    def update_run(self, run_id: str, status: str, end_ms: int | None) -> None:
        self._post("runs/update", run_id=run_id, status=status, end_time=end_ms)

    def log_batch(self, run_id: str, **lists: list[Json]) -> None:
        """At most 1000 `metrics`, 100 `params` and 100 `tags`, 1000 together. The same twice is there once."""
        body: Json = {"run_id": run_id, **lists}
        self._post("runs/log-batch", **body)

    def history(self, run_id: str, key: str) -> Iterator[Json]:
        """Every point of a metric."""
        asked: Json = {"run_id": run_id, "metric_key": key, "max_results": PAGE_POINTS}
        while True:
            page = self._get("metrics/get-history", **asked)
            yield from page.get("metrics", [])
            if not page.get("next_page_token"):
                return
            asked["page_token"] = page["next_page_token"]

    def upload(self, artifact_uri: str, name: str, file: Path) -> bool:
        """Put a file among a run's artifacts; False where the server does not take artifacts itself."""
        place = urlsplit(artifact_uri)
        if place.scheme != "mlflow-artifacts":
            return False
        with file.open("rb") as content:
            path = quote(f"{place.path.strip('/')}/{name}")
            self._send("PUT", _ARTIFACTS + path, content=content, timeout=UPLOAD_DEADLINE_S)
        return True

    # --- calls ---------------------------------------------------------------------------------------------------
    def _get(self, what: str, *, once: bool = False, **query: Any) -> Json:
        send = self._send if once else self._patiently
        return self._json(send("GET", _API + what, params=query))

    def _post(self, what: str, *, once: bool = False, **body: Any) -> Json:
        send = self._send if once else self._patiently
        given = {key: value for key, value in body.items() if value is not None}
        return self._json(send("POST", _API + what, json=given))

    def _json(self, response: httpx.Response) -> Json:
        try:
            told = response.json()
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise self._no_mlflow(response)
        return told

    def _patiently(self, method: str, path: str, **given: Any) -> httpx.Response:
        """Ask again when the server is away for a moment; only for what does the same when it is done twice."""
        for wait_s in AGAIN_AFTER_S:
            try:
                return self._send(method, path, **given)
            except MlflowError as error:
                if error.code not in ("mlflow-unreachable", "mlflow-busy"):
                    raise
            time.sleep(wait_s)
        return self._send(method, path, **given)

    def _send(self, method: str, path: str, **given: Any) -> httpx.Response:
        try:
            response = self._http.request(method, self.uri + path, **given)
        except httpx.TimeoutException:
            raise MlflowError(
                f"The MLflow server at {self.uri} does not answer", remedy="see its log", code="mlflow-unreachable"
            ) from None
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise MlflowError(
                f"No MLflow server can be reached at {self.uri} ({error})",
                remedy="see that it runs there, and that the address is right",
                code="mlflow-unreachable",
            ) from None
        if response.status_code >= 300:
            raise self._refusal(response)
        return response

    def _refusal(self, response: httpx.Response) -> MlflowError:
        """MLflow's own message where there is one."""
        status = response.status_code
        try:
            told = response.json()
            message, code = str(told["message"]), str(told["error_code"])
        except (ValueError, KeyError, TypeError):
            message, code = " ".join(response.text.split()), "mlflow"
        shown = message[:_ANSWER_CHARACTERS_SHOWN].rstrip(". ") or "no reason given"
        if status in (401, 403):
            return MlflowError(
                f"The MLflow server at {self.uri} does not let us in (HTTP {status}: {shown})",
                remedy="set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; a server "
                "that complains of the host must be started with --allowed-hosts",
                code="mlflow-auth",
            )
        if status in _BUSY:
            remedy = "see the server's log, and export again: nothing will be there twice"
            return MlflowError(f"The MLflow server is busy (HTTP {status}: {shown})", remedy=remedy, code="mlflow-busy")
        if code == "mlflow" and status < 500:
            return self._no_mlflow(response)
        return MlflowError(
            f"The MLflow server refused it (HTTP {status}, {code}: {shown})",
            remedy="do what its message asks, and export again: nothing will be there twice",
            code=code,
        )

    def _no_mlflow(self, response: httpx.Response) -> MlflowError:
        return MlflowError(
            f"What answers at {self.uri} is no MLflow server (HTTP {response.status_code})",
            remedy="give the address that MLflow's pages have in a browser, without what comes after #",
            code="mlflow-not-there",
        )


def pairs(entries: dict[str, str]) -> list[Json]:
    """Keys and values as MLflow's lists."""
    return [{"key": key, "value": value} for key, value in entries.items()]


def _credentials() -> dict[str, Any]:
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"headers": {"Authorization": f"Bearer {token}"}}
    if user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        return {"auth": (user, os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))}
    return {}
