"""Runs of real nodes: to the end, stopped, decided by hand, with a task from a file; and what stays when nodes go."""

import json
import signal
from pathlib import Path

import pytest
from nodes import DIGITS, MEAN_TASK, STOP_S, RealNode, Study, is_gone, wait_until
from safetensors.numpy import load_file

ROUNDS = 5


@pytest.fixture(scope="module")
def finished(whole_study: Study) -> str:
    """A run that all three nodes took part in and that has ended."""
    run = whole_study.propose(whole_study.nodes[0], ROUNDS, DIGITS)
    for seen in whole_study.all_end(run):
        assert (seen["state"], seen["reason"], seen["round"]) == ("FINISHED", "", ROUNDS)
    return run


def figures_at(node: RealNode, run: str) -> set[tuple[str, str, str, int, float]]:
    """What nodes have signed about their rounds, as one node's store has it."""
    rows = node.client.metrics(run)["metrics"]
    return {
        (row["node_id"], row["scope"], row["key"], row["round"], row["value"])
        for row in rows
        if row["node_id"] and not row["epoch"] and not row["step"]
    }


# --- to the end ------------------------------------------------------------------------------------------------
def test_all_nodes_end_with_the_same_checkpoints(study: Study, finished: str) -> None:
    commits = study.check_same_commits(finished)
    assert sorted(commits) == list(range(1, ROUNDS + 1))
    for node in study.nodes:
        seen = node.client.run(finished)
        assert wait_until(lambda node=node: node.client.run(finished)["accuracy"], "what the last model is worth") > 0.3
        assert seen["started_at"] <= seen["ended_at"]
        for row in node.client.rounds(finished)["rounds"]:
            assert (row["updates_used"], row["updates_refused"]) == (3, [])


def test_the_metrics_of_all_nodes_are_on_every_node(study: Study, finished: str) -> None:
    ids = {node.node_id for node in study.nodes}
    wanted = {
        (node_id, scope, key, round_number)
        for node_id in ids
        for scope, key in [("local", "loss"), ("global", "loss"), ("global", "accuracy")]
        for round_number in range(1, ROUNDS + 1)
    }
    for node in study.nodes:
        wait_until(lambda node=node: {row[:4] for row in figures_at(node, finished)} >= wanted, "the last reports")
    wait_until(lambda: len({frozenset(figures_at(node, finished)) for node in study.nodes}) == 1, "the same everywhere")


def test_the_model_is_one_file_that_loads_everywhere(study: Study, finished: str, tmp_path: Path) -> None:
    loaded = []
    for node in study.nodes:
        target = tmp_path / f"{node.name}.safetensors"
        told = node.told("model", "get", finished[:12], "-o", str(target))
        assert told["bytes"] == target.stat().st_size
        loaded.append((target.read_bytes(), load_file(target)))
    assert {name: array.shape for name, array in loaded[0][1].items()} == {
        "0.weight": (256, 64),
        "0.bias": (256,),
        "2.weight": (128, 256),
        "2.bias": (128,),
        "4.weight": (10, 128),
        "4.bias": (10,),
    }
    assert loaded[0][0] == loaded[1][0] == loaded[2][0]
    code, _ = study.nodes[0].refusal("model", "get", finished[:12], "-o", str(tmp_path / "alpha.safetensors"))
    assert code == 1  # the file is there already


def test_the_task_can_be_followed_on_the_command_line(study: Study, finished: str) -> None:
    node = study.nodes[1]
    shown = node.cli("run", "show", finished[:12])
    assert shown.returncode == 0, shown.stderr
    assert "FINISHED" in shown.stdout
    assert node.told("run", "metrics", finished[:12])
    assert finished in {run["run_id"] for run in node.told("run", "list")}


# --- what stays ------------------------------------------------------------------------------------------------
def test_a_restart_keeps_everything(study: Study, finished: str) -> None:
    node = study.nodes[1]

    def possessions() -> dict[str, object]:
        status = node.client.status()
        identity = {key: status[key] for key in ("node_id", "member_id", "name", "addresses", "entrance_addresses")}
        run = node.client.run(finished)
        for counted_while_it_goes_on in ("bytes_sent", "bytes_received"):
            del run[counted_while_it_goes_on]
        return {
            **identity,
            **run,
            "groups": node.client.groups(),
            "data sets": node.client.data(),
            "policy": node.client.policy(),
            "rounds": node.client.rounds(finished),
            "figures": figures_at(node, finished),
        }

    before = possessions()
    assert node.end(signal.SIGINT) < STOP_S
    assert node.exit_code == 0
    assert is_gone(node)
    assert not (node.home / "api.sock").exists()
    node.start()
    after = possessions()
    assert {key: (after[key], before[key]) for key in before if after[key] != before[key]} == {}


def test_sql_on_a_running_and_on_a_stopped_node(study: Study, finished: str) -> None:
    node = study.nodes[2]
    statement = f"select count(*), max(round) from rounds where run_id = '{finished}'"
    asked = node.told("sql", statement)
    assert asked["rows"] == [[ROUNDS, ROUNDS]]
    code, error = node.refusal("sql", "delete from rounds")
    assert code in (2, 4)
    assert error["what"]
    assert node.end() < STOP_S
    assert node.told("sql", statement) == asked
    code, _ = node.refusal("status")
    assert code == 3


def test_a_second_node_on_one_home_names_the_first(study: Study) -> None:
    node = study.nodes[0]
    code, error = node.refusal("start", "--listen", "127.0.0.1")
    assert code == 4
    assert f"process {node.pid}" in error["what"]
    assert node.client.status()["pid"] == node.pid


# --- decided by hand -------------------------------------------------------------------------------------------
def test_a_run_waits_for_owners_who_want_to_be_asked(study: Study) -> None:
    alpha, beta, gamma = study.nodes
    for node in (beta, gamma):
        node.told("policy", "remove", "all")
    try:
        run = study.propose(alpha, 2, DIGITS)
        for node in (beta, gamma):
            seen = node.wait_for_run(run, lambda seen: True, "the proposal")
            assert (seen["state"], seen["decision"]) in {("PROPOSED", "undecided"), ("GATHERING", "undecided")}
        gamma.told("run", "decline", run, "--reason", "not on a Sunday")
        declined = alpha.wait_for_run(run, lambda seen: gamma.state_in(seen) == "DECLINED", "gamma's answer")
        assert next(entry for entry in declined["participants"] if entry["state"] == "DECLINED")["reason"] == (
            "not on a Sunday"
        )
        beta.told("run", "accept", run)
        alpha.wait_for_run(run, lambda seen: beta.state_in(seen) == "READY", "beta's answer")
        assert alpha.client.run(run)["state"] == "GATHERING"  # three are wanted
        gamma.told("run", "accept", run)
        for seen in study.all_end(run):
            assert (seen["state"], seen["round"]) == ("FINISHED", 2)
        code, error = gamma.refusal("run", "accept", run)
        assert (code, error["code"]) == (4, "run-is-over")
    finally:
        for node in (beta, gamma):
            node.client.set_policy(["all"])


def test_a_task_from_a_file_runs_where_its_owner_has_put_it(study: Study, tmp_path: Path) -> None:
    """Two have the file; the third does not, and nobody's code comes to it."""
    alpha, beta, gamma = study.nodes
    for place in ("alpha", "beta"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "mean.py").write_text(MEAN_TASK.read_text() + "# another one\n")
    study_file = tmp_path / "alpha" / "study.toml"
    study_file.write_text('name = "means"\n[task]\npath = "mean.py"\n[data]\nname = "digits"\n[training]\nrounds = 3\n')
    run = alpha.told("run", "start", str(study_file))["run_id"]
    seen = gamma.wait_for_run(run, lambda seen: seen["decision"] == "declined", "gamma declines")
    beta.wait_for_run(run, lambda seen: seen["decision"] == "declined", "beta declines what it does not have")
    code, error = gamma.refusal("run", "accept", run)
    assert (code, error["code"]) == (1, "no-such-task")
    assert "mean.py" in error["what"]
    beta.told("run", "accept", run, "--task", str(tmp_path / "beta" / "mean.py"))
    for node in (alpha, beta):
        seen = node.wait_for_end(run)
        assert (seen["state"], seen["round"], seen["task"]) == ("FINISHED", 3, "mean.py")
        assert node.committed(run) == alpha.committed(run)
    assert {entry["name"] for entry in seen["participants"] if entry["state"] != "DECLINED"} == {"alpha", "beta"}


def test_owners_audit_a_round_whose_updates_they_may_read(study: Study, finished: str) -> None:
    """And are told why not, where they may not."""
    run = study.propose(study.nodes[0], 2, f'{DIGITS}[updates]\nreaders = "members"\n[aggregation]\ncodec = "int8"\n')
    study.all_end(run)
    for node in study.nodes:
        told = node.told("run", "audit", run[:12], "--round", "2")["rounds"]
        assert [(each["round"], each["verdict"], each["updates_used"]) for each in told] == [(2, "agrees", 3)]
        done = node.cli("run", "audit", finished[:12], "--json")
        assert done.returncode == 4
        newest = json.loads(done.stdout)["rounds"][0]
        assert (newest["round"], newest["verdict"]) == (ROUNDS, "unknown")
        assert "its updates are not here, and are kept for nobody" in newest["why"]


# --- stopped by hand -------------------------------------------------------------------------------------------
def test_a_stopped_run_ends_alike_on_all_nodes(study: Study) -> None:
    """Stopped by its proposer while a member who may not stop it is refused."""
    _, beta, gamma = study.nodes
    run = study.propose(beta)
    gamma.wait_for_round(run, 3)
    code, error = gamma.refusal("run", "stop", run)
    assert (code, error["code"]) == (4, "not-directing")
    beta.told("run", "stop", run, "--reason", "seen enough")
    ends = [(seen["state"], seen["reason"], seen["round"], seen["note"]) for seen in study.all_end(run)]
    last = max(study.check_same_commits(run))
    assert ends == [("STOPPED", "seen enough", last, "")] * 3
    wait_until(lambda: not any(node.workers() for node in study.nodes), "all workers end")
