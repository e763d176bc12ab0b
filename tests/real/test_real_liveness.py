"""Real nodes that freeze, and links that swallow everything: each is noticed in time, and the run goes on.

Times are what the run's timing says, and SLACK_S, which is the test machine's and not the protocol's.
"""

from collections.abc import Iterator

import pytest
from nodes import RealNode, Study, check_nothing_stays_behind, real_nodes, wait_until

from node.network.libp2p.secure import SIGN_OF_LIFE_S, SIGNS_MISSED_MAX

ELECTION_S, RANK_S, LOST_S = 1.5, 0.3, 3.0  # nodes.QUICK
SLACK_S = 15.0  # two busy cores, and tests beside this one
MORE_ROUNDS = 3
# A connection is given up after this, and opened again at once.
SILENCE_S = (SIGNS_MISSED_MAX + 2) * SIGN_OF_LIFE_S


@pytest.fixture(scope="module")
def whole_breakable_study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    base = tmp_path_factory.mktemp("breakable")
    with real_nodes(base, "alpha", "beta", "gamma", breakable=True) as nodes:
        study = Study(nodes, base)
        study.form()
        yield study


@pytest.fixture
def study(whole_breakable_study: Study) -> Iterator[Study]:
    """Three nodes whose links can be broken; they are thawed and whole before and after each test."""
    study = whole_breakable_study
    study.heal()
    study.clear()
    yield study
    study.heal()
    check_nothing_stays_behind(study.base, study.nodes)


def newest_round(node: RealNode, run: str) -> int:
    return int(node.client.run(run)["round"])


def goes_on(node: RealNode, run: str, within_s: float) -> None:
    node.wait_for_round(run, newest_round(node, run) + MORE_ROUNDS, within_s)


def takes_part_again(study: Study, node: RealNode, run: str, within_s: float = SLACK_S) -> None:
    """It has the newest checkpoint, and its updates count."""
    other = next(other for other in study.nodes if other is not node)
    node.wait_for_round(run, newest_round(other, run), within_s)
    wait_until(lambda: study.takes_part(node, run), f"{node.name} trains again", within_s)


def is_lost(seer: RealNode, lost: RealNode, run: str) -> None:
    seer.wait_for_run(run, lambda seen: lost.state_in(seen) == "LOST", f"{lost.name} is lost", LOST_S + SLACK_S)


def all_stop(study: Study, run: str) -> None:
    study.nodes[0].client.stop_run(run, "enough")
    assert {seen["state"] for seen in study.all_end(run)} == {"STOPPED"}
    study.check_same_commits(run)


def begun(study: Study, pause_s: float = 0.05) -> tuple[str, RealNode, list[RealNode]]:
    """A run under way: its id, its aggregator, the others."""
    run = study.propose(study.nodes[0], pause_s=pause_s)
    for node in study.nodes:
        node.wait_for_round(run, 2)
    aggregator = study.aggregator_of(run)
    return run, aggregator, [node for node in study.nodes if node is not aggregator]


def test_a_frozen_aggregator_is_replaced_in_time_and_follows_once_thawed(study: Study) -> None:
    run, frozen, others = begun(study)
    term = others[0].client.run(run)["term"]
    frozen.freeze()
    for node in others:
        seen = node.wait_for_run(
            run,
            lambda seen: seen["term"] > term and seen["aggregator_name"] in {node.name for node in others},
            "another aggregator",
            ELECTION_S + len(study.nodes) * RANK_S + SLACK_S,
        )
    goes_on(others[0], run, LOST_S + SLACK_S)
    is_lost(others[0], frozen, run)
    frozen.thaw()
    takes_part_again(study, frozen, run)
    assert frozen.client.run(run)["aggregator_name"] == seen["aggregator_name"]
    all_stop(study, run)


def test_nobody_waits_for_a_frozen_participant_until_it_is_back(study: Study) -> None:
    run, aggregator, (frozen, other) = begun(study)
    term = aggregator.client.run(run)["term"]
    frozen.freeze()
    goes_on(aggregator, run, LOST_S + SLACK_S)
    is_lost(other, frozen, run)
    wait_until(lambda: frozen.name not in aggregator.connected_to(), "its connection is given up", SILENCE_S + SLACK_S)
    frozen.thaw()
    takes_part_again(study, frozen, run, SILENCE_S + SLACK_S)
    assert aggregator.client.run(run)["term"] == term
    all_stop(study, run)


@pytest.mark.parametrize("mode", ["cut", "black-hole", "mute", "deaf"])
def test_a_broken_link_between_aggregator_and_voter_holds_nobody_up(study: Study, mode: str) -> None:
    run, aggregator, (broken, other) = begun(study)
    term = aggregator.client.run(run)["term"]
    aggregator.break_link(broken, mode)
    goes_on(other, run, SILENCE_S + LOST_S + SLACK_S)
    wait_until(lambda: not study.takes_part(broken, run), f"{broken.name} is missed", SILENCE_S + SLACK_S)
    goes_on(other, run, LOST_S + SLACK_S)
    aggregator.mend_link(broken)
    takes_part_again(study, broken, run, SILENCE_S + SLACK_S)
    assert {node.client.run(run)["term"] for node in study.nodes} == {term}
    all_stop(study, run)


def test_a_connection_that_one_end_has_forgotten_is_noticed_by_the_other(study: Study) -> None:
    run, aggregator, (forgetful, other) = begun(study)
    term = aggregator.client.run(run)["term"]
    forgetful.break_link(aggregator, "half-open")
    goes_on(other, run, SILENCE_S + LOST_S + SLACK_S)
    takes_part_again(study, forgetful, run, SILENCE_S + SLACK_S)  # the fault lasts
    assert {node.client.run(run)["term"] for node in study.nodes} == {term}
    all_stop(study, run)


def test_who_trains_long_is_not_taken_for_dead(study: Study) -> None:
    """Longer than an election timeout and the time after which nobody waits for a silent node."""
    run = study.propose(study.nodes[0], 2, pause_s=LOST_S + ELECTION_S)
    for node, seen in zip(study.nodes, study.all_end(run), strict=True):
        assert (seen["state"], seen["round"], seen["term"]) == ("FINISHED", 2, 1)
        assert [row["updates_used"] for row in node.client.rounds(run)["rounds"]] == [3, 3]
    study.check_same_commits(run)
