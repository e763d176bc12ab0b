"""Spans and system performance of real nodes: everybody has everybody's, workers are measured, Prometheus is told."""

import json
from collections import Counter
from typing import Any

from nodes import DIGITS, ENDLESS, RealNode, Study, wait_until

ROUNDS = 4
SAMPLES = {"host": "cpu_percent", "node": "memory_bytes", "worker": "memory_bytes"}


def test_where_the_time_of_a_run_went_is_known_on_every_node(study: Study) -> None:
    run = study.propose(study.nodes[0], ROUNDS, DIGITS)
    study.all_end(run)
    ids = {node.node_id for node in study.nodes}
    aggregators = {row["round"]: row["aggregator"] for row in study.nodes[0].client.rounds(run)["rounds"]}
    wanted = {(other, number) for other in ids for number in range(1, ROUNDS + 1)}

    def of(node: RealNode, name: str) -> set[tuple[str, int]]:
        spans = node.client.spans(run)["spans"]
        return {(span["node_id"], span["round"]) for span in spans if span["name"] == name}

    def has_all(node: RealNode) -> bool:
        known = {(aggregator, number) for number, aggregator in aggregators.items()}
        return of(node, "train") >= wanted and of(node, "encode") >= wanted and of(node, "aggregate") >= known

    for node in study.nodes:
        wait_until(lambda node=node: has_all(node), f"{node.name} has the last reports, too")
        spans = node.client.spans(run)["spans"]
        others = [span for span in spans if span["node_id"] != node.node_id]
        assert max(Counter((span["node_id"], span["round"], span["name"]) for span in others).values()) == 1
        trained = {(span["node_id"], span["round"]): span["seconds"] for span in spans if span["name"] == "train"}
        assert trained.keys() == wanted
        assert min(trained.values()) > 0
        encoded = {(span["node_id"], span["round"]): span["bytes"] for span in spans if span["name"] == "encode"}
        assert encoded.keys() == trained.keys()
        assert len(set(encoded.values())) == 1  # all updates of a run are equally long
        aggregated = {span["round"]: span["node_id"] for span in spans if span["name"] == "aggregate"}
        assert aggregated == aggregators
        assert {span["name"] for span in spans} >= {"wait", "fetch", "upload", "evaluate"}
        check_own(node.node_id, spans, ids)
        usage = node.client.system(run, scope="worker", key="memory_bytes")["system"]
        assert {row["node_id"] for row in usage} == ids
        # Python alone takes more; a worker measured early has not loaded torch yet.
        assert min(row["value"] for row in usage) > 5e6


def check_own(me: str, spans: list[dict[str, Any]], ids: set[str]) -> None:
    """What a node measured itself names whom it was with, and fits into the run."""
    own = [span for span in spans if span["node_id"] == me]
    for span in own:
        assert span["source_node"] == me
        if span["name"] in ("fetch", "upload"):
            assert span["peer"] in ids - {me}
            assert span["bytes"] > 0
        assert 0 <= span["seconds"] < 60
    starts = [span["started_at"] for span in own if span["name"] == "train"]
    assert starts == sorted(starts)


def test_machines_are_measured_while_a_run_goes_on(study: Study) -> None:
    node = study.nodes[0]
    run = study.propose(node, ENDLESS, DIGITS)
    node.wait_for_round(run, 2)

    def measured() -> bool:
        rows = node.client.system_summary(run, node=node.name)["summary"]
        known = {(row["scope"], row["key"]) for row in rows}
        return known >= set(SAMPLES.items()) and ("host", "network_sent_bytes") in known

    wait_until(measured, "the first sample")
    rows = node.client.system(run, node=node.name, scope="host")["system"]
    assert all(row["round"] >= 1 for row in rows)
    text = node.cli("metrics").stdout
    assert "fednode_host_cpu_percent" in text
    assert 'fednode_span_seconds_count{span="train"}' in text
    counted = next(line for line in text.splitlines() if line.startswith("fednode_rounds_committed_total "))
    assert float(counted.split()[1]) >= 1
    assert node.node_id not in text
    shown = node.cli("run", "system", run, "--json")
    assert {row["scope"] for row in json.loads(shown.stdout)} >= {"host", "node", "worker"}
    assert "TRAIN" in node.cli("run", "spans", run).stdout
    node.client.stop_run(run, "it has been measured")
    study.all_end(run)
