"""The log of a run from all its nodes, whose owners allow nothing, errors and all; and a task that raises at one."""

import json
import os
import signal
import threading
from pathlib import Path

from nodes import MEAN_TASK, Json, RealNode, Study, wait_until

HOLD_S = 2.0  # a round: time to look while it goes on
DECIDED = ("accepted", "declined")  # a node declines until its owner has said where the task's file is
SECRET = "/srv/cohort/alice.csv"
TALK = f"""        print("reading {SECRET}", data.train[0][0].tolist())
        if this_round.number == 2 and self.breaks:
            raise ValueError("bad row of {SECRET}: 'Alice', 4711")
        target ="""


def talking_task(folder: Path) -> Path:
    """mean_task.py, which prints what is private, and raises it in the second round where its data set says so."""
    source = MEAN_TASK.read_text()
    assert "        target =" in source
    task = folder / "talking_task.py"
    task.write_text(source.replace("        target =", TALK))
    return task


def propose(study: Study, task: Path, rounds: int, pause_s: float) -> str:
    first, *others = study.nodes
    table = f'[task]\npath = "{task}"\n[task.parameters]\npause_s = {pause_s}\n'
    run = study.propose(first, rounds, table, data="talk")
    for node in others:
        seen = node.wait_for_run(run, lambda seen: seen["decision"] in DECIDED, "a decision")
        if seen["decision"] == "declined":
            node.client.accept(run, task=task)
    return run


def equip(study: Study) -> None:
    for number, node in enumerate(study.nodes):
        if "talk" not in [data["name"] for data in node.client.data()["data"]]:
            path = next(data["path"] for data in node.client.data()["data"] if data["name"] == "digits")
            node.client.add_data("talk", path, {"breaks": 99} if number == 1 else {})
    for node, policy in zip(study.nodes, ("none", "errors", "all"), strict=True):
        assert node.told("policy", "logs", policy) == policy


def shown(node: RealNode, run: str, *options: str) -> tuple[dict[str, list[str]], str]:
    """What `run logs --all` prints, by node, and what it says beside."""
    done = node.cli("run", "logs", run, "--all", "--json", *options)
    assert done.returncode == 0, done.stderr
    lines: dict[str, list[str]] = {}
    for line in map(json.loads, done.stdout.splitlines()):
        lines.setdefault(line["node_name"], []).append(line["message"])
    return lines, done.stderr


def test_each_owners_policy_counts_and_the_proposer_learns_of_a_failure(study: Study) -> None:
    alpha, beta, gamma = study.nodes
    equip(study)
    task = talking_task(study.base)
    run = propose(study, task, rounds=4, pause_s=0.1)
    study.all_end(run)
    number = task.read_text().splitlines().index(next(x for x in task.read_text().splitlines() if "bad row" in x)) + 1
    reason = f"ValueError in talking_task.py line {number} (round 2)"

    wait_until(lambda: alpha.participant(run, beta.node_id).get("reason") == reason, "the proposer's line")
    assert alpha.participant(run, beta.node_id)["state"] == "FAILED"
    told = alpha.cli("run", "show", run).stdout
    assert reason in " ".join(told.split())
    assert any(line == f"the task failed at beta: {reason}" for line in alpha.logs(run))
    assert not any("the task failed at" in line for line in gamma.logs(run))

    own = "\n".join(beta.logs(run))
    assert f"ValueError: bad row of {SECRET}: 'Alice', 4711" in own
    assert f'File "{task}", line {number}, in train' in own

    lines, beside = shown(gamma, run)
    assert set(lines) == {"beta", "gamma"}
    reasons = {told["node_name"]: told["reason"] for told in map(json.loads, beside.splitlines())}
    assert set(reasons) == {"alpha", "beta"}
    assert reasons["alpha"] == "Its owner shares no logs"
    assert "errors" in reasons["beta"]  # only part of them
    assert any(line.startswith(f"reading {SECRET} [") for line in lines["gamma"])  # its own, as they are
    (failed, traceback) = lines["beta"]
    assert failed.startswith(
        f"Training failed: Training failed at talking_task.py, line {number}, in train: ValueError"
    )
    assert f'File "<path>/talking_task.py", line {number}, in train' in traceback
    assert traceback.splitlines()[-1].startswith("ValueError: bad row of <path>")
    assert not any(word in f"{failed}{traceback}" for word in ("srv", "Alice", "4711", str(study.base)))

    lines, _ = shown(alpha, run)
    assert set(lines) == {"alpha", "beta", "gamma"}
    theirs = [line for line in lines["gamma"] if line.startswith("reading")]
    assert theirs
    assert all(line.rstrip() in ("reading <path> [<data>]", "reading <path>") for line in theirs)
    assert lines["beta"] == [failed, traceback]
    text = alpha.cli("run", "logs", run, "--all", "--node", "gamma")
    assert "gamma reading <path>" in text.stdout
    assert SECRET not in text.stdout


def worker_of(node: RealNode) -> int:
    """Its process id; 0 while there is none. A node asks other programs too, how busy the machine is."""
    return next((process.pid for process in node.workers() if "node.training.worker" in process.cmdline()), 0)


def test_a_killed_worker_is_told_of_while_the_log_is_followed(study: Study) -> None:
    alpha, _, gamma = study.nodes
    equip(study)
    run = propose(study, talking_task(study.base), rounds=3, pause_s=HOLD_S)
    heard: list[Json] = []
    following = threading.Thread(target=lambda: heard.extend(alpha.client.all_logs(run, follow=True)))
    gamma.wait_for_run(run, lambda seen: gamma.state_in(seen) == "TRAINING", "training")
    following.start()
    os.kill(wait_until(lambda: worker_of(gamma), "the worker"), signal.SIGKILL)
    reason = "The worker process was killed (SIGKILL), as the system does to what takes too much memory (round "
    wait_until(lambda: alpha.participant(run, gamma.node_id).get("reason", "").startswith(reason), "the line")
    assert alpha.participant(run, gamma.node_id)["state"] == "FAILED"
    study.all_end(run)
    following.join(60)
    assert not following.is_alive()
    lines = [line for event in heard if event["type"] == "logs" for line in event["logs"]]
    assert any(line["node_name"] == "gamma" and "was killed (SIGKILL)" in line["message"] for line in lines)
    assert any(line["node_name"] == "gamma" and line["message"].startswith("the run is ") for line in lines)
    assert {event["node_name"] for event in heard if event["type"] == "node"} == {"beta"}  # which shares errors alone
    keys = [(line["node_id"], line["seq"]) for line in lines]
    assert len(keys) == len(set(keys))
