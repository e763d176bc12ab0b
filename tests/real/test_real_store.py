"""The care of a real node's record, while it trains and afterwards."""

import json
from pathlib import Path

import pytest
from nodes import DIGITS, ENDLESS, Study, real_nodes, wait_until

ROUNDS = 6


def test_the_record_is_cared_for_while_the_node_trains(study: Study, tmp_path: Path) -> None:
    node = study.nodes[0]
    run = study.propose(node, ENDLESS)
    node.wait_for_run(run, lambda seen: seen["round"] >= 3, "round 3")
    told = node.told("store", "compact")
    assert told["bytes_after"] > 0
    checked = node.told("store", "check", "--deep")
    assert checked["ok"], checked["findings"]
    node.told("store", "prune")
    backup = node.told("store", "backup", str(tmp_path / "kept"), "--with-models")
    assert backup["models"] >= 3
    seen = node.client.run(run)["round"]
    node.wait_for_run(run, lambda now: now["round"] >= seen + 2, "two rounds more")
    node.client.stop_run(run)
    study.all_end(run)
    of_run = f"SELECT max(round) FROM rounds WHERE run_id = '{run}'"
    kept = node.told("sql", of_run, "--store", str(tmp_path / "kept" / "record.duckdb"))
    assert 1 <= kept["rows"][0][0] <= node.client.run(run)["round"]


def test_what_one_node_exports_another_takes_in(study: Study, tmp_path: Path) -> None:
    node = study.nodes[1]
    run = study.propose(node, ROUNDS, DIGITS)
    study.all_end(run)
    folder = tmp_path / "exported"
    node.told("export", "parquet", run, str(folder))
    node.told("store", "backup", str(tmp_path / "kept"), "--with-models")
    with real_nodes(tmp_path, "stranger") as (stranger,):
        assert stranger.told("import", str(folder))["runs"] == [run]
        assert stranger.told("import", str(folder))["rows"] == {}
        ours, theirs = node.client.run(run), stranger.client.run(run)
        assert (theirs["decision"], theirs["state"], theirs["round"]) == ("imported", "FINISHED", ROUNDS)
        assert theirs["accuracy"] == pytest.approx(ours["accuracy"])
        assert len(stranger.client.rounds(run)["rounds"]) == ROUNDS
        for command in (["run", "show"], ["run", "metrics"], ["run", "spans"], ["report"]):
            done = stranger.cli(*command, run, *(["-o", str(tmp_path / "page.html")] if command == ["report"] else []))
            assert done.returncode == 0, (command, done.stderr)
        merged = stranger.told("import", str(tmp_path / "kept"))
        assert merged["blobs"] > ROUNDS
        assert stranger.told("model", "list", run)[0]["here"]
        assert stranger.told("store", "check", "--deep")["ok"]
        (folder / "metrics.parquet").write_bytes(b"PAR1 and nothing else")
        code, error = stranger.refusal("import", str(folder))
        assert (code, error["code"]) == (2, "bad-import")


def test_a_data_set_is_described_and_rules_are_kept_over_a_restart(study: Study) -> None:
    node = study.nodes[2]
    shown = node.told("data", "show", "digits")["statistics"]
    assert shown["rows"] > 100
    assert {column["name"] for column in shown["columns"]} >= {"x", "y"}
    node.told("store", "retention", "--set", "spans=100d")
    node.end()
    checked = json.loads(node.cli("store", "check", "--json").stdout)
    assert checked["ok"], checked["findings"]
    assert node.told("store", "compact")["bytes_after"] > 0
    node.start()
    assert {entry["kind"]: entry["kept"] for entry in node.told("store", "retention")}["spans"] == "100d"
    wait_until(lambda: node.connected_to() >= {"alpha", "beta"}, "it meets the others again")
