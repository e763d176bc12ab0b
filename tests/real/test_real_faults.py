"""Runs of real nodes that are killed, stopped and restarted while they go on."""

import signal
from pathlib import Path

import pytest
from nodes import RealNode, Study, start_all, wait_until

STOP_S = 5.0
MORE_ROUNDS = 3
ENDLESS = 10_000

# Learns nothing, and breaks where its owner's data set has the option that says so.
BREAKING_TASK = """
import numpy as np
import fednode


class Breaking(fednode.Task):
    def model(self):
        return {"weights": np.zeros(4, np.float32)}

    def data(self, source):
        self.breaks = source.options.get("breaks")
        with np.load(source.path) as arrays:
            return fednode.Data((arrays["y"],))

    def train(self, model, data, this_round):
        if self.breaks and this_round.number == 3:
            print("about to break")
            raise ZeroDivisionError("broken on purpose")
        return fednode.Result(len(data.train[0]))

    def evaluate(self, model, data):
        return None

    def arrays(self, model):
        return model

    def load(self, model, arrays):
        return model
"""


def newest_round(node: RealNode, run: str) -> int:
    return int(node.client.run(run)["round"])


def others_than(study: Study, *nodes: RealNode) -> list[RealNode]:
    return [node for node in study.nodes if node not in nodes]


def state_of(node: RealNode, run: str, other: str) -> str:
    found = node.participant(run, other)
    return str(found["state"])


def test_a_killed_aggregator_is_replaced_and_comes_back(study: Study) -> None:
    run = study.propose(study.nodes[0], {"training.rounds": 60})
    study.nodes[0].wait_for_round(run, 3)
    killed = study.aggregator_of(run)
    killed_id, survivors = killed.node_id, others_than(study, killed)
    killed.kill()
    for seen in study.all_end(run):
        assert (seen["state"], seen["round"]) == ("FINISHED", 60)
        assert seen["term"] >= 2
        assert seen["aggregator_name"] in {node.name for node in survivors}
    assert {state_of(node, run, killed_id) for node in survivors} == {"LOST"}
    killed.start()
    seen = killed.wait_for_end(run)
    assert (seen["state"], seen["round"]) == ("FINISHED", 60)
    study.check_same_commits(run)


def test_a_node_is_stopped_and_started_again_mid_run(study: Study) -> None:
    run = study.propose(study.nodes[0], {"training.rounds": ENDLESS})
    study.nodes[0].wait_for_round(run, 3)
    aggregator = study.aggregator_of(run)
    leaver, stayer = others_than(study, aggregator)
    assert leaver.end(signal.SIGTERM) < STOP_S
    assert leaver.exit_code == 0
    stayer.wait_for_round(run, newest_round(stayer, run) + MORE_ROUNDS)
    back_at = newest_round(stayer, run)
    leaver.start()
    leaver.wait_for_round(run, back_at)

    def takes_part_again() -> bool:
        rows = stayer.client.rounds(run)["rounds"]
        return any(row["round"] > back_at and row["updates_used"] == 3 for row in rows)

    wait_until(takes_part_again, f"{leaver.name} trains again")
    study.nodes[0].client.stop_run(run, "enough")
    ends = study.all_end(run)
    assert {seen["state"] for seen in ends} == {"STOPPED"}
    study.check_same_commits(run)


def test_a_killed_worker_ends_its_nodes_part_alone(study: Study) -> None:
    run = study.propose(study.nodes[0], {"training.rounds": 60})
    victim = study.nodes[1]
    victim.wait_for_round(run, 3)
    (worker,) = victim.workers()
    worker.kill()
    for seen in study.all_end(run):
        assert (seen["state"], seen["round"]) == ("FINISHED", 60)
    part = victim.participant(run, victim.node_id)
    assert part["state"] == "FAILED"
    assert "was killed (SIGKILL)" in part["reason"]
    said = "\n".join(victim.logs(run))
    assert "Training failed: The worker process was killed (SIGKILL)" in said
    for node in others_than(study, victim):
        assert state_of(node, run, victim.node_id) == "FAILED"
        assert node.client.rounds(run)["rounds"][-1]["updates_used"] == 2
    study.check_same_commits(run)


def test_a_breaking_task_ends_its_nodes_part_with_its_traceback(study: Study, tmp_path: Path) -> None:
    alpha, beta, gamma = study.nodes
    task = tmp_path / "breaking.py"
    task.write_text(BREAKING_TASK)
    for node, options in [(alpha, {}), (beta, {"breaks": True}), (gamma, {})]:
        node.client.add_data("fragile", node.client.data()["data"][0]["path"], options)
    for node in (beta, gamma):
        node.client.set_policy([])
    try:
        config = (
            '[task]\npath = "breaking.py"\n[data]\nname = "fragile"\n[training]\nrounds = 6\n[roster]\nnodes_min = 3\n'
        )
        run = study.propose(alpha, {}, config, tmp_path / "study.toml")
        for node in (beta, gamma):
            node.wait_for_run(run, lambda seen: seen["decision"] == "undecided", "the proposal")
            node.client.accept(run, task=task)
        for seen in study.all_end(run):
            assert (seen["state"], seen["round"]) == ("FINISHED", 6)
        part = beta.participant(run, beta.node_id)
        assert part["state"] == "FAILED"
        assert "ZeroDivisionError: broken on purpose" in part["reason"]
        said = beta.logs(run)
        traceback = next(message for message in said if message.startswith("Traceback"))
        assert 'raise ZeroDivisionError("broken on purpose")' in traceback
        assert "about to break" in said
        assert [row["updates_used"] for row in alpha.client.rounds(run)["rounds"]] == [3, 3, 2, 2, 2, 2]
    finally:
        for node in study.nodes:
            node.client.remove_data("fragile")
            node.client.set_policy(["all"])


def test_a_run_outlives_all_of_its_nodes(study: Study) -> None:
    """Every node is killed at once; what was committed is there when they are back, and the run goes on from it."""
    run = study.propose(study.nodes[2], {"training.rounds": ENDLESS})
    study.nodes[0].wait_for_round(run, 3)
    for node in study.nodes:
        node.kill()
    start_all(study.nodes)
    held = {node.name: node.committed(run) for node in study.nodes}
    reached = max(max(commits) for commits in held.values())
    assert reached >= 3
    for node in study.nodes:
        node.wait_for_round(run, reached + MORE_ROUNDS)
    study.nodes[2].client.stop_run(run)
    study.all_end(run)
    final = study.check_same_commits(run)
    for commits in held.values():
        assert commits.items() <= final.items()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_trains_stops_within_5_seconds(study: Study, number: signal.Signals) -> None:
    """All three at once, in the middle of a long training; their workers end with them."""
    run = study.propose(study.nodes[0], {"training.rounds": ENDLESS, "training.epochs": ENDLESS})
    for node in study.nodes:
        node.wait_for_run(run, lambda seen, node=node: state_in(seen, node) == "TRAINING", "training")
    for node in study.nodes:
        assert node.end(number) < STOP_S
        assert node.exit_code == 0
    study.heal()
    study.nodes[0].client.stop_run(run)
    study.all_end(run)


def state_in(seen: dict[str, object], node: RealNode) -> str:
    entries = seen["participants"]
    assert isinstance(entries, list)
    return next((entry["state"] for entry in entries if entry["name"] == node.name), "")
