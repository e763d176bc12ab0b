"""`run stop`, `run resume` and `run extend` through the command line, with all nodes shut down in between."""

from pathlib import Path

from nodes import Study, start_all, wait_until_connected


def test_a_stopped_run_outlives_all_its_nodes_and_is_resumed_and_extended(study: Study, tmp_path: Path) -> None:
    """docs/protocol.md §8.9, §8.14: nothing committed is lost, and all the rounds are trained."""
    first, second, _ = study.nodes
    stopped = tmp_path / "stopped"  # so that the run is not over before the command that stops it has begun
    run = study.propose(first, rounds=6, until=stopped)
    first.wait_for_round(run, 2)
    code, error = first.refusal("run", "resume", run)
    assert (code, error["code"]) == (4, "not-stopped")
    first.told("run", "stop", run, "--reason", "the night is over")
    for node in study.nodes:
        seen = node.wait_for_run(run, lambda seen: seen["state"] == "STOPPED", "the stop")
        assert seen["reason"] == "the night is over"
    stopped.touch()
    before = study.check_same_commits(run)
    assert 2 <= len(before) < 6
    for node in study.nodes:
        node.end()
    start_all(study.nodes)
    wait_until_connected(study.nodes)
    code, error = first.refusal("run", "extend", run, "--rounds", "2")
    assert (code, error["code"]) == (4, "stopped")
    code, error = second.refusal("run", "resume", run)
    assert (code, error["code"]) == (4, "not-directing")
    assert "goes on after round" in first.cli("run", "resume", run).stdout
    for node in study.nodes:
        node.wait_for_run(run, lambda seen: seen["state"] == "FINISHED", "the end after the resumption")
    first.told("run", "extend", run, "--rounds", "2")
    for node in study.nodes:
        seen = node.wait_for_run(run, lambda seen: seen["rounds"] == 9 and seen["state"] == "FINISHED", "the extension")
        assert (seen["round"], seen["reason"]) == (9, "")
    commits = study.check_same_commits(run)
    assert len(commits) == 8  # six rounds and two more; the stop took the number of a ninth
    assert before.items() <= commits.items()
