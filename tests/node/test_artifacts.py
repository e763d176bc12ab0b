"""Artifacts as people get them: by the local API and its client, by the commands, and out of a node's own disk."""

import json
import os
from pathlib import Path

import pytest
import trio
from command_ground import run
from memory_artifacts import artifact_json
from memory_service import NODE, MemoryService

from fednode import Client, ClientError, RequestRefused
from node.api.service.service import NotFound
from node.home.disk import FileDisk
from node.record.artifacts import Artifacts
from node.record.record import open_record
from protocol.errors import FednodeError
from tracker.store import Store
from tracker.tables.rows import ArtifactRow, NodeRow, RunRow

RUN, ME, OTHER = "cd" * 32, "12D3KooWMe", "12D3KooWOther"
DAY = 1_800_000_000.0
NAME = "plots/Übersicht 1.png"


@pytest.fixture
def service(service: MemoryService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryService:
    monkeypatch.chdir(tmp_path)
    return service


@pytest.fixture
def client(service: MemoryService) -> Client:
    return Client(service.home)


# --- the API -----------------------------------------------------------------------------------------------------
def test_the_api_lists_them_and_gives_one_in_pieces(service, client):
    content = os.urandom(3_500_000)
    service.artifacts.kept = {(NODE, NAME): content, (NODE, "empty"): b""}
    assert client.artifacts("x") == {
        "artifacts": [artifact_json(NODE, NAME, len(content)), artifact_json(NODE, "empty", 0)]
    }
    assert b"".join(client.artifact("x", NODE, NAME)) == content
    assert list(client.artifact("x", NODE, "empty")) == []
    with client._exchange("GET", f"/v1/runs/x/artifacts/{NODE}/empty", 30) as response:
        assert (response.headers["X-Fednode-Blob"], response.headers["Content-Length"]) == ("ef" * 32, "0")


def test_what_is_not_there_is_refused(service, client):
    for call in (lambda: client.artifacts("nothing"), lambda: list(client.artifact("x", NODE, "../../etc/passwd"))):
        with pytest.raises(RequestRefused) as refused:
            call()
        assert refused.value.status == 404


def test_an_answer_that_breaks_off_is_an_error_and_the_node_lives_on(service, client):
    service.artifacts.kept = {(NODE, "a"): b"x" * 3_000_000}
    service.artifacts.breaks_after = 1 << 20
    with pytest.raises(ClientError, match="went away while it answered"):
        list(client.artifact("x", NODE, "a"))
    service.artifacts.breaks_after = None
    assert sum(map(len, client.artifact("x", NODE, "a"))) == 3_000_000


# --- the commands ------------------------------------------------------------------------------------------------
def test_the_commands_list_and_get(service, tmp_path):
    content = os.urandom(2_500_000)
    service.artifacts.kept = {(NODE, NAME): content}
    listed = run("artifacts", "list", "my run")
    assert listed.exit_code == 0, listed.output
    assert listed.stdout.splitlines()[0].split() == ["NODE", "ROUND", "NAME", "KIND", "SIZE", "TIME"]
    assert "alpha  3      plots/Übersicht 1.png  figure  2.5 MB" in listed.stdout
    assert "fednode artifacts get 'my run' 'plots/Übersicht 1.png'" in listed.stderr
    assert json.loads(run("artifacts", "list", "my run", "--json").stdout) == [artifact_json(NODE, NAME, 2_500_000)]
    got = run("artifacts", "get", "my run", NAME)
    assert got.exit_code == 0, got.output
    assert (tmp_path / "Übersicht 1.png").read_bytes() == content
    refused = run("artifacts", "get", "my run", NAME)
    assert (refused.exit_code, "is there already" in refused.stderr) == (1, True)
    service.artifacts.kept = {(NODE, NAME): b"new"}
    assert json.loads(run("artifacts", "get", "my run", NAME, "--force", "--json").stdout)["bytes"] == 3
    assert run("artifacts", "get", "my run", NAME, "-o", "to.png", "--node", NODE).exit_code == 0
    assert run("artifacts", "get", "my run", NAME, "-o", "-").stdout_bytes == Path("to.png").read_bytes()
    assert not Path("-").exists()
    assert (tmp_path / "to.png").read_bytes() == b"new"


def test_what_the_commands_cannot_do_they_explain(service, tmp_path):
    assert "None on this node" in run("artifacts", "list", "my run").stderr
    nothing = run("artifacts", "get", "my run", "a.png")
    assert (nothing.exit_code, "there are: none" in nothing.stderr) == (1, True)
    service.artifacts.kept = {(NODE, "a"): b"1", (OTHER, "a"): b"2"}
    several = run("artifacts", "get", "my run", "a")
    assert (several.exit_code, "name one with --node" in several.stderr) == (1, True)
    assert run("artifacts", "get", "my run", "a", "--node", OTHER).exit_code == 0
    assert (tmp_path / "a").read_bytes() == b"2"
    assert run("artifacts", "get", "my run", "a", "--node", OTHER, "-o", "no/such/folder/a").exit_code == 1
    service.artifacts.kept[NODE, "b"] = b"x" * 3_000_000
    service.artifacts.breaks_after = 1 << 20
    broken = run("artifacts", "get", "my run", "b")
    assert (broken.exit_code, "went away" in broken.stderr) == (1, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "home"]


def test_a_stores_file_lists_them_too(tmp_path):
    path = tmp_path / "store.duckdb"
    store = Store(path)
    store.write(
        [RunRow(RUN, "old", "p", "e", "g", "digits", "d", ME, 1, DAY, "{}"), NodeRow(ME, "ada", "M", "", "{}", 0)]
    )
    store.write([ArtifactRow(RUN, ME, NAME, "figure", "ef" * 32, 5, DAY, 3, '{"a": 1}')])
    store.close()
    listed = run("artifacts", "list", "old", "--store", str(path))
    assert listed.exit_code == 0, listed.output
    assert "ada   3      plots/Übersicht 1.png" in listed.stdout
    assert listed.stderr == ""
    told = json.loads(run("artifacts", "list", "old", "--store", str(path), "--json").stdout)
    assert [(entry["name"], entry["blob"], entry["details"]) for entry in told] == [(NAME, "ef" * 32, {"a": 1})]


# --- on a node's own disk ----------------------------------------------------------------------------------------
def test_a_node_gives_its_blobs_verified_and_only_those_that_the_record_names(tmp_path):
    content = os.urandom(3_000_000)

    async def main() -> None:
        record, disk = await open_record(tmp_path / "store.duckdb"), FileDisk(tmp_path / "home")
        blob = await disk.put_blob(content)
        other = await disk.put_blob(b"a model")
        record.add(RunRow(RUN, "run", "p", "e", "g", "digits", "d", ME, 1, DAY, "{}"))
        record.add(ArtifactRow(RUN, ME, "a", "file", blob, len(content), DAY, 2))

        async def same(name: str) -> str:
            return {"run": RUN, "me": ME}.get(name, name)

        artifacts = Artifacts(record, disk, same, same, record.flush)
        [entry] = await artifacts.listed("run")
        assert (entry["name"], entry["bytes"], entry["round"]) == ("a", len(content), 2)
        found = await artifacts.file("run", "me", "a")
        assert (found.blob, found.size) == (blob, len(content))
        assert b"".join([piece async for piece in found.pieces]) == content
        for run_name, node, name in (("run", "me", "b"), ("run", OTHER, "a"), ("no", "me", "a"), ("run", "me", other)):
            with pytest.raises(NotFound):
                await artifacts.file(run_name, node, name)
        with pytest.raises(NotFound):
            await artifacts.listed("no")
        path = disk.blobs.path(blob)
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.seek(2_000_000)
            file.write(b"damaged")
        found = await artifacts.file("run", "me", "a")
        with pytest.raises(FednodeError, match="is damaged in chunk 1"):
            b"".join([piece async for piece in found.pieces])
        with pytest.raises(FednodeError, match="is not here"):
            await artifacts.file("run", "me", "a")
        await record.close()
        disk.close()

    trio.run(main)
