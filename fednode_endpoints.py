"""The endpoints of a node's local API, one method each; docs/api.md describes every one and its answer.

Standard library alone. What sends the request, and whether one waits for the answer or awaits it, is fednode_client's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

Answer = TypeVar("Answer")
Json = dict[str, Any]
REQUEST_DEADLINE_S = 30.0  # the node answers from memory or by one query; longer means that it hangs
CARE_DEADLINE_S = 3600.0  # for reading hundreds of gigabytes through
LONG_DEADLINE_S = 600.0  # joining waits for a member, adding data reads all of it, starting a run makes the model


def home_path(home: str | Path | None = None) -> Path:
    """Where a node keeps everything: `home`, else FEDNODE_HOME, else this user's data directory."""
    if chosen := home or os.environ.get("FEDNODE_HOME"):
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("fednode", appauthor=False)


def socket_path(home: Path) -> Path:
    """The socket of the node at `home`: in it, or where `api.path` says when that path would be too long."""
    try:
        return Path((home / "api.path").read_text().strip())
    except OSError:
        return home / "api.sock"


class Endpoints(Generic[Answer]):
    """One method per endpoint, the same for both clients."""

    def __init__(self, home: str | Path | None = None) -> None:
        self.home = home_path(home)

    def _call(self, method: str, path: str, body: Json | None = None, deadline_s: float = REQUEST_DEADLINE_S) -> Answer:
        raise NotImplementedError

    def _get(self, *parts: str, **query: object) -> Answer:
        return self._call("GET", path_of(*parts, **query))

    def _post(self, *parts: str, deadline_s: float = REQUEST_DEADLINE_S, **body: object) -> Answer:
        return self._call("POST", path_of(*parts), given(body), deadline_s)

    def status(self) -> Answer:
        return self._get("status")

    def stop(self) -> Answer:
        return self._post("stop")

    def peers(self) -> Answer:
        return self._get("peers")

    def doctor(self) -> Answer:
        """{"checks": [{"name", "state", "text", "remedy"}]}: what is wrong, if anything, and what to do about it."""
        return self._get("doctor")

    def nodes(self) -> Answer:
        """{"nodes": […], "links": […], …}: your own nodes, and the device tokens that are out."""
        return self._get("nodes")

    def link_node(self, expires_s: int = 3600) -> Answer:
        """{"link_id", "token", "expires_at"}: a device token, which makes one more machine a node of yours."""
        return self._post("nodes", "link", expires_s=expires_s)

    def revoke_link(self, link: str) -> Answer:
        """{"link_id", "expires_at"}: a device token that nobody has used is taken back."""
        return self._call("DELETE", path_of("nodes", "links", link))

    def revoke_node(self, node: str) -> Answer:
        """{"node_id", "name", "groups"}: one of your nodes is shut out of everything, for good."""
        return self._post("nodes", "revoke", node=node)

    def profile(self) -> Answer:
        return self._get("profile")

    def set_profile(
        self, name: str | None = None, organisation: str | None = None, contact: str | None = None
    ) -> Answer:
        """What you say of yourself in every group. What is None stays; "" takes it away."""
        changes = given({"name": name, "organisation": organisation, "contact": contact})
        return self._call("PUT", path_of("profile"), changes)

    def groups(self) -> Answer:
        return self._get("groups")

    def group(self, group: str) -> Answer:
        return self._get("groups", group)

    def create_group(self, name: str) -> Answer:
        return self._post("groups", name=name)

    def invite(
        self,
        group: str | None = None,
        role: str = "member",
        uses: int = 1,
        expires_s: int = 604_800,
        addresses: Sequence[str] | None = None,
        qr: bool | None = None,
    ) -> Answer:
        """{"token", "expires_at", "warning", …}. `addresses`: HOST or HOST:PORT where outsiders reach the node, too.
        `qr`: a token so short that its QR code fits a screen."""
        given = list(addresses) if addresses else None
        return self._post(
            "invitations", group=group, role=role, uses=uses, expires_s=expires_s, addresses=given, qr=qr or None
        )

    def join(self, token: str) -> Answer:
        return self._post("join", token=token, deadline_s=LONG_DEADLINE_S)

    def remove_member(self, group: str, member: str, reason: str = "") -> Answer:
        """{"hash", "text", …}: the operation that says so. Their nodes are cut off; running runs go on without them."""
        return self._post("groups", group, "members", member, "remove", reason=reason)

    def change_role(self, group: str, member: str, role: str) -> Answer:
        return self._post("groups", group, "members", member, "role", role=role)

    def leave_group(self, group: str) -> Answer:
        return self._post("groups", group, "leave")

    def revoke_invitation(self, group: str, invitation: str) -> Answer:
        return self._call("DELETE", path_of("groups", group, "invitations", invitation))

    def group_history(self, group: str, limit: int = 100, before: str | None = None) -> Answer:
        """{"operations": […], "previous": …}: what was signed in the group, in words, newest first."""
        return self._get("groups", group, "history", limit=limit, before=before)

    def data(self) -> Answer:
        return self._get("data")

    def add_data(self, name: str, path: str | Path, options: Mapping[str, object] | None = None) -> Answer:
        return self._post("data", name=name, path=absolute(path), options=options, deadline_s=LONG_DEADLINE_S)

    def data_info(self, name: str) -> Answer:
        return self._call("GET", path_of("data", name), deadline_s=LONG_DEADLINE_S)

    def remove_data(self, name: str) -> Answer:
        return self._call("DELETE", path_of("data", name))

    def runs(self, limit: int = 100, before: str | None = None, **wanted: object) -> Answer:
        """A page of the list; docs/api.md has what else may be `wanted`: text, state, sort, offset …"""
        return self._get("runs", limit=limit, before=before, **wanted)

    def projects(self, **wanted: object) -> Answer:
        """The projects of the runs that `text`, `state` and `open` fit, with how many runs each has."""
        return self._get("projects", **wanted)

    def run(self, run: str) -> Answer:
        return self._get("runs", run)

    def start_run(self, config: str, source: str | Path | None = None, **options: object) -> Answer:
        """Propose the run of the TOML text `config`; a relative task.path is looked for beside the file `source`.
        Options: `group`, and `overrides`, dotted keys that count instead of the text's."""
        return self._post("runs", config=config, source=absolute(source), deadline_s=LONG_DEADLINE_S, **options)

    def check_run(self, config: str, source: str | Path | None = None, **options: object) -> Answer:
        """What `start_run` would say to the same, without proposing."""
        body = given({"config": config, "source": absolute(source), **options})
        return self._call("POST", path_of("runs", "check"), body)

    def accept(self, run: str, data: str | None = None, task: str | Path | None = None) -> Answer:
        return self._post("runs", run, "accept", data=data, task=absolute(task))

    def decline(self, run: str, reason: str | None = None) -> Answer:
        return self._post("runs", run, "decline", reason=reason)

    def stop_run(self, run: str, reason: str | None = None) -> Answer:
        return self._post("runs", run, "stop", reason=reason)

    def resume_run(self, run: str) -> Answer:
        """Let a stopped run go on from its newest checkpoint."""
        return self._post("runs", run, "resume")

    def extend_run(self, run: str, rounds: int) -> Answer:
        """Let a run last so many rounds more, also one that has finished."""
        return self._post("runs", run, "extend", rounds=rounds)

    def policy(self) -> Answer:
        return self._get("policy")

    def set_policy(self, rules: Sequence[str] | None = None, logs: str | None = None) -> Answer:
        return self._call("PUT", path_of("policy"), given({"rules": rules, "logs": logs}))

    def limits(self) -> Answer:
        """{"up_bytes_per_s", "down_bytes_per_s", "blobs_max_bytes", "blobs_bytes"}; None is no limit."""
        return self._get("limits")

    def set_limits(self, up: str | None = None, down: str | None = None, blobs_max: str | None = None) -> Answer:
        """Change limits at once, and for later starts: "2.5MB/s", "100Mbit/s", "50G", or "none". What is None stays."""
        return self._call("PUT", path_of("limits"), given({"up": up, "down": down, "blobs_max": blobs_max}))

    def transfers(self) -> Answer:
        """{"transfers": […]}: blobs that have been on their way for over a second, with their rates."""
        return self._get("transfers")

    def blobs(self) -> Answer:
        """{"blobs", "bytes", "kinds": […], "runs": […], …}: what the blobs are, and what they take up."""
        return self._call("GET", path_of("blobs"), None, LONG_DEADLINE_S)

    def verify_blobs(self) -> Answer:
        """{"blobs", "bytes", "damaged": […]}: all of them are read; what is damaged is set aside and fetched again."""
        return self._post("blobs", "verify", deadline_s=CARE_DEADLINE_S)

    def collect_blobs(self, dry_run: bool = False) -> Answer:
        """{"kinds": […], "bytes", "spared"}: what nothing needs is removed, or with `dry_run` only named."""
        return self._post("blobs", "gc", dry_run=dry_run, deadline_s=CARE_DEADLINE_S)

    def metrics(self, run: str, **filters: object) -> Answer:
        return self._get("runs", run, "metrics", **filters)

    def rounds(self, run: str, **filters: object) -> Answer:
        return self._get("runs", run, "rounds", **filters)

    def series(self, run: str) -> Answer:
        """Which curves a run has; `metrics` with `points` gives them thinned out."""
        return self._get("runs", run, "series")

    def audit_run(self, run: str, round_number: int | None = None) -> Answer:
        """{"run_id", "rounds": [{"round", "verdict", "why", …}]}: whether committed rounds are what their updates give,
        of one round or of all."""
        return self._post("runs", run, "audit", round=round_number, deadline_s=CARE_DEADLINE_S)

    def updates(self, run: str, **filters: object) -> Answer:
        return self._get("runs", run, "updates", **filters)

    def timeline(self, run: str, limit: int = 500) -> Answer:
        return self._get("runs", run, "timeline", limit=limit)

    def spans(self, run: str, **filters: object) -> Answer:
        return self._get("runs", run, "spans", **filters)

    def system(self, run: str, **filters: object) -> Answer:
        return self._get("runs", run, "system", **filters)

    def system_summary(self, run: str, **filters: object) -> Answer:
        return self._get("runs", run, "system", "summary", **filters)

    def devices(self, **filters: object) -> Answer:
        """GET /v1/devices. Filters: after, points."""
        return self._get("devices", **filters)

    def inbox(self) -> Answer:
        """Everything that waits for this node's owner."""
        return self._get("inbox")

    def seen(self, item: str) -> Answer:
        """Somebody has looked at this item of the inbox, named by its id or the beginning of it."""
        return self._post("inbox", item, "seen")

    def proposal(self, run: str) -> Answer:
        """What a run asks of this node, and what of it is here."""
        return self._get("runs", run, "proposal")

    def artifacts(self, run: str) -> Answer:
        """What this node's task has made in a run and kept; `Client.artifact` gives one."""
        return self._get("runs", run, "artifacts")

    def logs(self, run: str | None = None, **filters: object) -> Answer:
        return self._get(*("runs", run) if run else (), "logs", **filters)

    def models(self, of: str | None = None) -> Answer:
        """The registered models; or the versions of the name `of`, and the models of that run."""
        return self._get("models", of=of)

    def model_info(self, model: str) -> Answer:
        """A model by RUN, RUN:ROUND, NAME, NAME@ALIAS, NAME:VERSION or its hash, with its lineage and evaluations."""
        return self._get("models", model)

    def model_schema(self, model: str) -> Answer:
        return self._get("models", model, "schema")

    def tag_model(self, model: str, name: str, alias: str = "") -> Answer:
        """Make a model a version of the registered `name`, and let `alias` stand for it."""
        return self._post("models", model, "tag", name=name, alias=alias)

    def untag_model(self, name: str, alias: str) -> Answer:
        return self._call("DELETE", path_of("models", name, "aliases", alias))

    def remove_model(self, name: str) -> Answer:
        """Take a name with all its versions out of the registry."""
        return self._call("DELETE", path_of("models", name))

    def sql(self, statement: str, rows_max: int = 10_000) -> Answer:
        return self._post("sql", statement=statement, rows_max=rows_max, deadline_s=LONG_DEADLINE_S)


def path_of(*parts: str, **query: object) -> str:
    text = "/v1/" + "/".join(quote(part, safe="") for part in parts)
    return f"{text}?{urlencode(given(query))}" if given(query) else text


def given(options: Json) -> Json:
    return {key: value for key, value in options.items() if value is not None}


def absolute(path: str | Path | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())
