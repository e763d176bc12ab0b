"""Runs of real nodes that are killed, stopped and restarted while they go on."""

import signal

from nodes import STOP_S, RealNode, Study, start_all, wait_until

ROUNDS = 30
MORE_ROUNDS = 3


def others_than(study: Study, *nodes: RealNode) -> list[RealNode]:
    return [node for node in study.nodes if node not in nodes]


def newest_round(node: RealNode, run: str) -> int:
    return int(node.client.run(run)["round"])


def figures(node: RealNode, run: str) -> dict[tuple[object, ...], float]:
    """What every node has measured of every round's model, as this node knows it."""
    rows = node.client.metrics(run, scope="global")["metrics"]
    return {(row["node_id"], row["key"], row["round"]): row["value"] for row in rows if row["node_id"]}


def test_a_killed_aggregator_is_replaced_and_comes_back(study: Study) -> None:
    run = study.propose(study.nodes[0], ROUNDS)
    study.nodes[0].wait_for_round(run, 3)
    killed = study.aggregator_of(run)
    survivors = others_than(study, killed)
    killed.kill()
    for seen in study.all_end(run):
        assert (seen["state"], seen["round"]) == ("FINISHED", ROUNDS)
        assert seen["term"] >= 2
        assert seen["aggregator_name"] in {node.name for node in survivors}
        assert killed.state_in(seen) == "LOST"
    killed.start()
    seen = killed.wait_for_end(run)
    assert (seen["state"], seen["round"]) == ("FINISHED", ROUNDS)
    assert sorted(study.check_same_commits(run)) == list(range(1, ROUNDS + 1))
    wait_until(lambda: sorted(killed.committed(run)) == list(range(1, ROUNDS + 1)), "the rounds that it missed")
    wait_until(lambda: figures(survivors[0], run).items() <= figures(killed, run).items(), "the figures of them")


def test_a_node_is_stopped_and_started_again_mid_run(study: Study) -> None:
    run = study.propose(study.nodes[0])
    study.nodes[0].wait_for_round(run, 3)
    leaver, stayer = others_than(study, study.aggregator_of(run))
    assert leaver.end(signal.SIGTERM) < STOP_S
    assert leaver.exit_code == 0
    stayer.wait_for_round(run, newest_round(stayer, run) + MORE_ROUNDS)
    leaver.start()
    leaver.wait_for_round(run, newest_round(stayer, run))
    wait_until(lambda: study.takes_part(leaver, run), f"{leaver.name} trains again")
    study.nodes[0].client.stop_run(run, "enough")
    ends = study.all_end(run)
    assert {(seen["state"], seen["reason"], seen["round"]) for seen in ends} == {
        ("STOPPED", "enough", ends[0]["round"])
    }
    study.check_same_commits(run)


def test_a_killed_worker_ends_its_nodes_part_alone(study: Study) -> None:
    run = study.propose(study.nodes[0], ROUNDS)
    victim = study.nodes[1]
    victim.wait_for_round(run, 3)
    (worker,) = victim.workers()
    worker.kill()
    for node, seen in zip(study.nodes, study.all_end(run), strict=True):
        assert (seen["state"], seen["round"]) == ("FINISHED", ROUNDS)
        assert victim.state_in(seen) == "FAILED"
        assert node.client.rounds(run)["rounds"][-1]["updates_used"] == 2
    part = victim.participant(run, victim.node_id)
    assert "was killed (SIGKILL)" in part["reason"]
    assert "Training failed: The worker process was killed (SIGKILL)" in "\n".join(victim.logs(run))
    study.check_same_commits(run)


def test_a_breaking_task_ends_its_nodes_part_with_its_traceback(study: Study) -> None:
    alpha, beta, gamma = study.nodes
    for node, options in [(alpha, {}), (beta, {"breaks": 3}), (gamma, {})]:
        node.client.add_data("fragile", node.client.data()["data"][0]["path"], options)
    try:
        run = study.propose(alpha, rounds=6, data="fragile")
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


def test_a_run_outlives_all_of_its_nodes(study: Study) -> None:
    """Every node is killed at once; what was committed is there when they are back, and the run goes on from it.

    The last of their records may be lost, for only votes and checkpoints are made durable at once.
    """
    run = study.propose(study.nodes[2])
    study.nodes[0].wait_for_round(run, 3)
    before = study.nodes[0].committed(run)
    for node in study.nodes:
        node.kill()
    start_all(study.nodes)
    for node in study.nodes:
        node.wait_for_round(run, max(before) + MORE_ROUNDS)
    study.nodes[2].client.stop_run(run)
    study.all_end(run)
    assert before.items() <= study.check_same_commits(run).items()


def test_nodes_that_train_stop_within_5_seconds(study: Study) -> None:
    """In the middle of a long training; their workers end with them. Then the run is stopped while all train, and
    nobody waits for the training."""
    run = study.propose(study.nodes[0], pause_s=3600.0)
    for node in study.nodes:
        node.wait_for_run(run, lambda seen, node=node: node.state_in(seen) == "TRAINING", "training")
    for node, number in zip(study.nodes[1:], [signal.SIGTERM, signal.SIGINT], strict=True):
        assert node.end(number) < STOP_S
        assert node.exit_code == 0
    study.heal()
    study.nodes[0].client.stop_run(run)
    assert {seen["state"] for seen in study.all_end(run)} == {"STOPPED"}


def test_a_data_set_may_go_once_its_run_is_over(study: Study) -> None:
    """Not before; and the node starts without it."""
    alpha, beta, _ = study.nodes
    for node in study.nodes:
        node.client.add_data("passing", node.client.data()["data"][0]["path"])
    run = study.propose(alpha, data="passing")
    beta.wait_for_round(run, 1)
    code, error = beta.refusal("data", "remove", "passing")
    assert (code, error["code"]) == (4, "data-in-use")
    alpha.client.stop_run(run)
    study.all_end(run)
    for node in study.nodes:
        node.told("data", "remove", "passing")
    assert beta.end() < STOP_S
    beta.start()
    assert beta.client.run(run)["state"] == "STOPPED"
