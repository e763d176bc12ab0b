"""What the doctor says of what it was told."""

import os
from pathlib import Path

import pytest

import node.home.key_files as key_files
from node.home.doctor import home_checks, stopped_checks
from node.home.doctor_checks import (
    Check,
    ClockReading,
    Peer,
    blobs_check,
    clock_check,
    disk_check,
    listening_check,
    local_network_check,
    passphrase_check,
    reach_check,
    store_check,
    told_apart,
    version_check,
)
from node.home.home import Home
from node.network.addresses import machine_hosts
from tracker.durable import make_directory
from tracker.journal import Journal
from tracker.store import Store

GIB = 1024**3
LOG_LINES = """INSERT INTO logs SELECT 'n', '', 'INFO', 'l', md5(i::VARCHAR), TIMESTAMP '2020-01-01', i, i + 100
    FROM range(2000) t(i)"""


def clocks(*ahead: float, unsure: float = 0.01) -> list[ClockReading]:
    return [ClockReading(f"M{place}", f"node-{place}", seconds, unsure) for place, seconds in enumerate(ahead)]


# --- the clock -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("ahead", "state", "words"),
    [
        ((), "ok", "nobody is connected"),
        ((0.2,), "ok", "is right"),
        ((9.0, -9.0, 1.0), "ok", "is right"),
        ((60.0,), "warning", "60 s behind node-0's; one of them is wrong"),
        ((-60.0,), "warning", "60 s ahead"),
        ((100_000.0,), "warning", "one of them is wrong"),  # however much: nobody can say which
        ((60.0, 61.0), "warning", "60 s behind, by the median of 2 others"),
        ((3600.0, 3601.0, 3602.0), "wrong", "3601 s behind"),
        ((-3600.0, -3601.0), "wrong", "3600 s ahead"),
    ],
)
def test_the_clock_is_held_against_the_members(ahead: tuple[float, ...], state: str, words: str) -> None:
    check = clock_check(clocks(*ahead))
    assert (check.name, check.state) == ("clock", state)
    assert words in check.text
    assert bool(check.remedy) is (state != "ok")


@pytest.mark.parametrize("lie", [-1e9, -3600.0, 3600.0, 1e9])
@pytest.mark.parametrize("honest", [(0.0,), (0.0, 0.1), (0.0, 0.1, -0.1), (0.0,) * 7])
def test_one_member_that_lies_does_not_make_us_look_wrong(lie: float, honest: tuple[float, ...]) -> None:
    """§9.9."""
    check = clock_check(clocks(lie, *honest))
    assert "this machine's clock is right" in check.text
    assert "node-0" in check.text  # whose clock is named instead
    assert check.state == "warning"


def test_a_member_with_many_nodes_has_one_voice() -> None:
    """§9.9."""
    many = [ClockReading("Mliar", f"sybil-{place}", 3600.0, 0.001) for place in range(9)]
    honest = [ClockReading(f"M{place}", f"node-{place}", 0.0, 0.01) for place in range(2)]
    assert "this machine's clock is right" in clock_check([*many, *honest]).text


def test_a_difference_within_the_round_trip_is_none() -> None:
    assert clock_check(clocks(12.0, 12.0, 12.0, unsure=3.0)).state == "ok"
    assert clock_check(clocks(14.0, 14.0, 14.0, unsure=3.0)).state == "warning"
    assert "± 3 s" in clock_check(clocks(14.0, 14.0, 14.0, unsure=3.0)).text


def test_who_answers_late_does_not_blur_what_the_others_say() -> None:
    slow = ClockReading("Mslow", "slow", 0.0, 5_000.0)
    assert clock_check([*clocks(3600.0, 3600.0, 3600.0), slow]).state == "wrong"


# --- the network -----------------------------------------------------------------------------------------------
LOOPBACK, ELSEWHERE = "/ip4/127.0.0.1/tcp/4001", "/ip4/192.168.1.7/tcp/4001"


@pytest.mark.parametrize(
    ("ours", "others", "state"),
    [
        ([ELSEWHERE], [ELSEWHERE], "ok"),
        ([LOOPBACK], [LOOPBACK], "ok"),
        ([LOOPBACK], [], "ok"),
        ([LOOPBACK], [LOOPBACK, ELSEWHERE], "warning"),
        (["/ip6/::1/tcp/4001"], [ELSEWHERE], "warning"),
        ([LOOPBACK, ELSEWHERE], [ELSEWHERE], "ok"),
        ([], [ELSEWHERE], "wrong"),
    ],
)
def test_who_listens_to_itself_alone_is_told(ours: list[str], others: list[str], state: str) -> None:
    check = listening_check(ours, others)
    assert check.state == state
    assert ("--listen 0.0.0.0" in check.remedy) is (state == "warning")


def test_a_node_on_this_machine_is_not_elsewhere() -> None:
    host = ELSEWHERE.split("/")[2]
    assert listening_check([LOOPBACK], [ELSEWHERE], {host}).state == "ok"
    assert listening_check([LOOPBACK], [ELSEWHERE, "/dns/node.example.org/tcp/4001"], {host}).state == "warning"
    assert "127.0.0.1" in machine_hosts()


def test_the_local_network_does_not_contradict_where_we_listen() -> None:
    assert "find this node" in local_network_check(True, "", [LOOPBACK, ELSEWHERE]).text
    assert "nobody on the local network finds this node" in local_network_check(True, "", [LOOPBACK]).text


def test_nodes_of_one_name_are_told_with_their_ids() -> None:
    names = ["vm", "laptop", "vm"]
    assert told_apart("vm", "12D3KooWAbCdEfGhIj", names) == "vm (12D3KooWAbCdEf)"
    assert told_apart("laptop", "12D3KooWAbCdEfGhIj", names) == "laptop"


def peer(**facts: object) -> Peer:
    return Peer(**{"name": "beta", "node_id": "12D3KooWBeta", "addresses": (ELSEWHERE,), **facts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "words", "remedy"),
    [
        ({"tried": (f"{ELSEWHERE}: [Errno 111] Connection refused",)}, "nobody listens at that port", "fednode start"),
        ({"tried": (f"{ELSEWHERE}: no answer",)}, "off, or a firewall drops", "firewall"),
        ({"failure": "Node 12D did not answer within 10 s"}, "off, or a firewall drops", "firewall"),
        ({"tried": (f"{ELSEWHERE}: [Errno 113] No route to host",)}, "no way to its network", "VPN"),
        ({"tried": ("/dns/x/tcp/1: [Errno -2] Name or service not known",)}, "its name is not known", "name"),
        ({"failure": "Node 12D does not let us in", "refused": True}, "its door is shut to us", "group show"),
        ({"addresses": (), "failure": "no address of it is known"}, "no address of it is known", "heard of"),
        ({}, f"being dialled at {ELSEWHERE}", "in a moment"),
        ({"failure": "something new"}, "something new", "fednode status"),
        (
            {"tried": (f"{ELSEWHERE}: peer id does not correspond to the received pubkey: remote_peer=12D",)},
            f"another node answers at its address ({ELSEWHERE})",
            "ask its owner",
        ),
        (
            {"tried": ("/ip4/10.0.0.1/tcp/1: no answer", f"{ELSEWHERE}: Connection refused")},
            f"({ELSEWHERE})",
            "start it",
        ),
    ],
)
def test_who_is_not_connected_is_told_with_the_reason(facts: dict[str, object], words: str, remedy: str) -> None:
    check = reach_check(peer(**facts))
    assert check.state == "warning"
    assert check.text.startswith("beta: not connected")
    assert words in check.text
    assert remedy in check.remedy


def test_who_is_connected_or_need_not_be_is_well() -> None:
    assert reach_check(peer(connected=True, path="direct")) == Check("reach", "ok", "beta: connected, direct")
    assert reach_check(peer(kept=False)).state == "ok"
    assert "not heard of for 3 min" in reach_check(peer(away="3 min")).text


def test_what_keeps_nodes_apart_is_told_with_its_remedy() -> None:
    check = reach_check(peer(apart="Node x speaks version 2 and this node version 1; upgrade fednode on this node"))
    assert (check.state, check.remedy) == ("warning", "upgrade fednode on this node")
    assert check.text == "beta: Node x speaks version 2 and this node version 1"


def test_versions() -> None:
    same, other = peer(version="0.1.0"), peer(name="gamma", version="0.2.0")
    assert version_check("0.1.0", 1, [same, peer()], []).state == "ok"
    mixed = version_check("0.1.0", 1, [same, other], [])
    assert (mixed.state, "gamma has 0.2.0" in mixed.text) == ("warning", True)
    assert version_check("0.1.0", 1, [same], ["study"]).state == "wrong"
    many = version_check("0.1.0", 1, [peer(name=f"n{place}", version="9") for place in range(30)], [])
    assert "and 25 more" in many.text


# --- the disk --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("free", "needed", "state"),
    [
        (100 * GIB, 0, "ok"),
        (1 * GIB, 0, "warning"),
        (GIB // 8, 0, "wrong"),
        (10 * GIB, 9 * GIB, "warning"),
        (10 * GIB, 11 * GIB, "wrong"),
    ],
)
def test_room(free: int, needed: int, state: str) -> None:
    check = disk_check(free, needed)
    assert check.state == state
    assert ("fednode store" in check.remedy) is (state != "ok")


def test_the_store() -> None:
    assert store_check(10_000, "").state == "ok"
    check = store_check(0, "The store is damaged; put back a copy of it")
    assert check == Check("store", "wrong", "The store is damaged", "put back a copy of it")


def test_keys_in_clear_beside_a_passphrase_are_told() -> None:
    assert passphrase_check(True, {"node.key": True}).state == "ok"
    clear = passphrase_check(False, {"node.key": False})
    assert (clear.state, "no passphrase" in clear.text, "fednode key protect" in clear.text) == ("ok", True, True)
    check = passphrase_check(True, {"node.key": True, "member.key": False})
    assert (check.state, "member.key" in check.text) == ("warning", True)


# --- files -----------------------------------------------------------------------------------------------------
@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    Home(path).close()
    make_directory(path / "journals")
    return path


def states(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.state for check in checks}


def test_a_home_that_is_well(home: Path) -> None:
    assert set(states(home_checks(home)).values()) == {"ok"}
    stopped = states(stopped_checks(home))
    assert {name for name, state in stopped.items() if state != "ok"} == {"node"}
    assert "fednode start" in stopped_checks(home)[0].remedy


def test_a_key_that_others_can_read_is_wrong(home: Path) -> None:
    (home / "seal.key").chmod(0o644)
    check = next(check for check in home_checks(home) if check.name == "keys")
    assert (check.state, "chmod 600" in check.remedy) == ("wrong", True)


@pytest.mark.parametrize("name", ["node.key", "member.key", "seal.key", "member.key.12D3KooWOld"])
def test_a_key_that_is_none_is_wrong(home: Path, name: str) -> None:
    assert states(home_checks(home))["keys"] == "ok"
    (home / name).write_bytes(b"garbage")
    (home / name).chmod(0o600)
    check = next(check for check in stopped_checks(home) if check.name == "keys")
    assert (check.state, name in check.text, bool(check.remedy)) == ("wrong", True, True)


def test_a_home_that_others_can_write_or_see_is_told(home: Path) -> None:
    home.chmod(0o755)
    assert states(home_checks(home))["home"] == "warning"
    home.chmod(0o777)
    assert states(home_checks(home))["home"] == "wrong"


def test_another_owner_is_wrong(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = os.geteuid()
    monkeypatch.setattr(key_files.os, "geteuid", lambda: mine + 1)
    assert states(home_checks(home))["keys"] == "wrong"


def test_a_journal_that_lost_a_record_in_its_middle_is_wrong(home: Path) -> None:
    journal = Journal(home / "journals" / "votes")
    for number in range(5):
        journal.append(bytes([number]) * 50)
    journal.close()
    assert states(home_checks(home))["journals"] == "ok"
    whole = (home / "journals" / "votes").read_bytes()
    (home / "journals" / "votes").write_bytes(whole[:-10])  # as a crash leaves it
    assert states(home_checks(home))["journals"] == "ok"
    (home / "journals" / "votes").write_bytes(whole[:100] + b"\0" + whole[101:])
    assert states(home_checks(home))["journals"] == "wrong"


def test_a_record_that_is_none_is_wrong(home: Path) -> None:
    (home / "record.duckdb").write_bytes(b"rubbish" * 1000)
    check = next(check for check in stopped_checks(home) if check.name == "store")
    assert check.state == "wrong"
    assert check.remedy


def test_the_records_size_is_that_of_its_journal_too(home: Path, tmp_path: Path) -> None:
    """As a node that was killed leaves it; a store that is young has almost everything in its journal."""
    store = Store(tmp_path / "record.duckdb")
    store.change(lambda connection: connection.execute("CHECKPOINT"))
    store.change(lambda connection: connection.execute(LOG_LINES))
    sizes = [(home / file.name).write_bytes(file.read_bytes()) for file in tmp_path.glob("record.duckdb*")]
    store.close()
    assert sorted(file.name for file in home.glob("record.*")) == ["record.duckdb", "record.duckdb.wal"]
    assert min(sizes) >= 50_000
    check = next(check for check in stopped_checks(home) if check.name == "store")
    assert check == store_check(sum(sizes), "")


def test_where_there_is_no_home_it_says_so(tmp_path: Path) -> None:
    assert [check.state for check in stopped_checks(tmp_path / "nowhere")] == ["wrong"]


@pytest.mark.parametrize(
    ("used", "most", "state", "words"),
    [
        (5, None, "ok", "take"),
        (50, 100, "ok", "of the"),
        (95, 100, "warning", "may not come in"),
        (277, 1, "warning", "no update or model comes in"),
    ],
)
def test_blobs_that_take_more_than_they_may_are_told_of(used: int, most: int | None, state: str, words: str) -> None:
    check = blobs_check(used, most)
    assert (check.state, bool(check.remedy)) == (state, state == "warning")
    assert words in check.text
