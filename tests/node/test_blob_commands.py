"""fednode blobs, transfers, limits: over the API of a node, and on the files of one that is stopped."""

import json
from pathlib import Path

import pytest
from command_ground import as_json, run
from memory_service import MemoryService

from fednode_client import Client
from node.record.retention import UNUSED_S, URGENT_UNUSED_S
from protocol.limits import CHUNK_BYTES
from tracker.blobs.blobs import BlobStore


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a stopped node."""
    home = tmp_path / "home"
    monkeypatch.setenv("FEDNODE_HOME", str(home))
    return home


# --- through a node ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("command", [("blobs",), ("blobs", "usage")])
def test_what_takes_the_room_is_shown(service: MemoryService, command: tuple[str, ...]) -> None:
    text = run(*command).output
    assert all(word in text for word in ("models", "2.0 kB", "study", "garbage", "3 blobs, 2.5 kB of 1 GB"))
    assert "updates" not in text, "of which there are none"
    assert "counts for each of them" in text
    assert as_json(*command)["kinds"][0]["bytes"] == 2048


def test_reading_through_says_what_is_damaged_and_fails_by_it(service: MemoryService) -> None:
    assert "3 of 3 blobs are sound" in run("blobs", "verify").output
    bad = {"blob": "ab" * 32, "bytes": 7, "of": "model of round 3 of study", "again": f"not fetched again: {'x' * 300}"}
    service.blobs.damaged = [{**bad, "what": f"The blob {'ab' * 32} is damaged in chunk 3"}]
    wrong = run("blobs", "verify")
    assert wrong.exit_code == 1
    assert all(word in wrong.output for word in ("2 of 3", "abababababab", "damaged in chunk 3", "not fetched again"))
    (row,) = [line for line in wrong.output.splitlines() if "model of round 3 of study" in line]
    assert len(row) < 100
    assert "ab" * 32 not in wrong.output
    assert as_json("blobs", "verify", exit_code=1)["damaged"][0]["bytes"] == 7


def test_collecting_says_what_goes_and_why(service: MemoryService) -> None:
    text = run("blobs", "gc", "--dry-run").output
    assert all(word in text for word in ("WOULD GO", "leftovers", "nothing needs them", "nothing much"))
    assert all(word in text for word in ("23 blobs (4.1 kB)", "within the last hour"))
    assert as_json("blobs", "gc")["bytes"] == 500
    assert [call for call in service.calls if call[0] == "collect"] == [("collect", True), ("collect", False)]


def test_how_long_what_nothing_needs_stays_is_said_as_it_is() -> None:
    assert (UNUSED_S, URGENT_UNUSED_S) == (3600, 300)
    told = (run("blobs", "gc", "--help").output, (Path(__file__).parents[2] / "README.md").read_text())
    for text in (" ".join(each.split()) for each in told):
        assert "hour" in text
        assert "last five minutes" in text


def test_transfers_are_shown_with_how_long_they_take(service: MemoryService) -> None:
    text = run("transfers").output
    (coming,) = [line for line in text.splitlines() if "beta" in line]
    assert all(
        word in coming for word in ("from", "update of study", "█████░", "25.0 MB of 100.0 MB", "2.5 MB/s", "30 s")
    )
    (going,) = [line for line in text.splitlines() if "several" in line]
    assert all(word in going for word in ("abababababab", "10 B given, of at most 20 B"))
    assert "█" not in going
    assert len(as_json("transfers")) == 2


def test_limits_are_shown_and_changed_one_by_one(service: MemoryService) -> None:
    assert run("limits").output.split() == ["up", "none", "down", "none", "blobs", "none,", "2.5", "kB", "used"]
    assert "2.5 MB/s = 20 Mbit/s" in run("limits", "--up", "20Mbit/s").output
    assert as_json("limits", "--blobs-max", "50G") == {
        "up_bytes_per_s": 2.5e6,
        "down_bytes_per_s": None,
        "blobs_max_bytes": 50 * 10**9,
        "blobs_bytes": 2548,
    }
    assert as_json("limits", "--up", "none")["up_bytes_per_s"] is None


def test_what_may_mean_two_things_is_refused_before_anything_is_asked(service: MemoryService) -> None:
    for command in (("limits", "--up", "20M"), ("start", "--up", "20M"), ("start", "--blobs-max", "lots")):
        refused = run(*command)
        assert (refused.exit_code, "To fix" in refused.output) == (2, True)
    assert "20MB/s" in run("limits", "--down", "20M").output
    assert service.transfers.known["up_bytes_per_s"] is None


def test_the_api_takes_what_is_a_limit_alone(service: MemoryService) -> None:
    client = Client(service.home)
    assert client.set_limits(down="1MB/s")["down_bytes_per_s"] == 1e6
    for body in ({"up": "fast"}, {"up": 5}, {"sideways": "1MB/s"}):
        with pytest.raises(Exception, match=r"rate|fit"):
            client._call("PUT", "/v1/limits", body)


# --- without one -------------------------------------------------------------------------------------------------
def test_the_blobs_of_a_stopped_node_are_counted_and_read(home: Path) -> None:
    blobs = BlobStore(home / "blobs")
    sound, bad = blobs.put(b"sound"), blobs.put(bytes(2 * CHUNK_BYTES))
    assert as_json("blobs")["bytes"] == 5 + 2 * CHUNK_BYTES
    assert as_json("blobs", "verify") == {"blobs": 2, "bytes": 5 + 2 * CHUNK_BYTES, "damaged": []}
    with blobs.path(bad).open("r+b") as file:
        file.seek(CHUNK_BYTES + 5)
        file.write(b"!")
    (told,) = as_json("blobs", "verify", exit_code=1)["damaged"]
    assert (told["blob"], "when a run needs it" in told["again"]) == (bad, True)
    assert as_json("blobs", "verify") == {"blobs": 1, "bytes": 5, "damaged": []}
    kinds = {each["kind"]: each["blobs"] for each in as_json("blobs")["kinds"]}
    assert kinds == {"whole": 1, "halves": 1}
    assert BlobStore(home / "blobs").open(sound).read() == b"sound"


def test_only_a_running_node_knows_what_is_garbage(home: Path) -> None:
    BlobStore(home / "blobs").put(b"something")
    assert run("blobs", "gc").exit_code == 3
    assert run("transfers").exit_code == 3
    assert run("limits").exit_code == 3


def test_the_limits_of_a_stopped_node_are_shown_and_changed(home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "settings.json").write_text(json.dumps({"name": "icu", "up": "20Mbit/s"}))
    BlobStore(home / "blobs").put(b"something")
    assert "2.5 MB/s = 20 Mbit/s" in run("limits").output
    told = as_json("limits", "--blobs-max", "50G")
    assert told == {
        "up_bytes_per_s": 2.5e6,
        "down_bytes_per_s": None,
        "blobs_max_bytes": 50 * 10**9,
        "blobs_bytes": 9,
    }
    assert run("limits", "--up", "20M").exit_code == 2
    assert json.loads((home / "settings.json").read_text()) == {
        "name": "icu",
        "up": "20Mbit/s",
        "down": "none",
        "blobs_max": "50G",
    }


def test_nobody_reads_the_blobs_of_a_home_that_is_not_there(home: Path) -> None:
    assert run("blobs", "verify").exit_code in (1, 4)
    assert not home.exists()
