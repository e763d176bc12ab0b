"""Makes the event stream that the dashboard's tests replay, line by line as /v1/events sends it (docs/api.md).

`python tests/tui/tui_recording.py > tests/tui/recorded.ndjson` writes the file anew; the draws are seeded.
"""

import json
import math
import random
import sys
from datetime import UTC, datetime, timedelta

NAMES = ("ward-north", "ward-south", "icu", "lab", "radiology")
MEMBERS = ("anna", "ben", "chen", "dana")
CLAIMED = {
    "anna": {"organisation": "North Hospital", "contact": "anna@north.example"},
    "ben": {"organisation": "South Hospital, Radiology", "contact": "+49 30 1234567"},
}
START = datetime(2026, 11, 21, 14, 0, 0, tzinfo=UTC)
CAPACITY = {
    "cpu_cores": 8,
    "memory_bytes": 32 * 2**30,
    "memory_free_bytes": 21 * 2**30,
    "disk_free_bytes": 412_000_000_000,
    "gpus": [],
    "load_1m": 0.42,
}


def node_id(index):
    return f"12D3KooW{'abcdefghijklmnop'[index % 16] * 6}{index:03d}{NAMES[index % 5][:3]}"


class Recorder:
    """Writes events down while a small story happens: nodes, runs, rounds, an aggregator that dies and comes back."""

    def __init__(self, nodes=5, runs=("digits-mlp",), rounds=10, seed=7):
        self.random = random.Random(seed)
        self.now = START
        self.events = []
        self.seq = 0
        self.rounds = rounds
        self.names = [NAMES[i] if nodes <= 5 else f"node-{i:02d}" for i in range(nodes)]
        self.ids = [node_id(i) for i in range(nodes)]
        self.peers = [self.peer(i) for i in range(nodes)]
        self.runs = [self.run(i, name) for i, name in enumerate(runs)]

    def at(self, seconds=0.0):
        self.now += timedelta(seconds=seconds)
        return self.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def emit(self, **event):
        self.events.append(event)

    def log(self, node, message, level="INFO", run="", logger="fednode.run"):
        self.seq += 1
        line = {"seq": self.seq, "time": self.at(0.01), "level": level, "node_id": self.ids[node]}
        self.emit(type="log", log=line | {"run_id": run, "logger": logger, "message": message})

    def peer(self, i):
        capacity = CAPACITY | {"load_1m": round(0.2 + 0.3 * i % 5, 2), "gpus": ["RTX 4090"] if i == 4 else []}
        return {
            "node_id": self.ids[i],
            "name": self.names[i],
            "member_id": f"member-{MEMBERS[i % 4]}",
            "self": i == 0,
            "connected": i != 0,
            "last_seen": self.at(),
            "addresses": [f"/ip4/10.0.0.{i + 1}/tcp/4001"],
            "version": "0.1.0",
            "groups": ["g-hospital"],
            "runs": [],
            "capacity": capacity,
        }

    def run(self, i, name):
        participants = [
            {"node_id": n, "name": self.names[j], "state": "READY", "reason": "", "round": 0}
            | {"samples": 120 + 17 * (j % 9), "voter": j < 31}
            for j, n in enumerate(self.ids)
        ]
        return {
            "run_id": f"{i:02d}5f3a9c2e7b41d8",
            "name": name,
            "project": "ward-study",
            "experiment": "baseline",
            "group_id": "g-hospital",
            "task": "digits",
            "data": "digits",
            "proposer": self.ids[1],
            "proposer_name": self.names[1],
            "state": "RUNNING",
            "reason": "",
            "note": "",
            "round": 0,
            "rounds": self.rounds,
            "term": 1,
            "aggregator": self.ids[2],
            "aggregator_name": self.names[2],
            "elections": 1,
            "created_at": self.at(1),
            "started_at": self.at(2),
            "ended_at": None,
            "accuracy": None,
            "loss": None,
            "decision": "accepted",
            "bytes_sent": 0,
            "bytes_received": 0,
            "participants": participants,
        }

    def group(self):
        members = [
            {"member_id": f"member-{name}", "name": name, "role": "admin" if k == 0 else "member"}
            | {"admitted_at": "2026-11-20T09:30:00Z"}
            | CLAIMED.get(name, {"organisation": "", "contact": ""})
            | {"nodes": [{"node_id": n, "name": self.names[j]} for j, n in enumerate(self.ids) if j % 4 == k]}
            for k, name in enumerate(MEMBERS)
        ]
        invitation = {"invite_id": "inv-3f9a", "role": "observer", "uses": 3, "used": 1}
        invitation |= {"expires_at": "2026-11-28T09:30:00Z", "revoked": False, "by": "anna"}
        group = {"group_id": "g-hospital", "name": "hospital-study", "created_at": "2026-11-20T09:00:00Z"}
        return group | {
            "role": "admin",
            "operations": 14,
            "heads": ["9b"],
            "members": members,
            "revoked": [
                {"node_id": "12D3KooWoldlaptop", "name": "old-laptop", "member_id": "member-anna", "member": "anna"}
                | {"by": "ward-north", "at": "2026-11-21T08:15:00Z"}
            ],
            "invitations": [invitation],
        }

    def status(self):
        sent = sum(run["bytes_sent"] for run in self.runs)
        return {
            "node_id": self.ids[0],
            "name": self.names[0],
            "member_id": "member-anna",
            "version": "0.1.0",
            "home": "/home/anna/.local/share/fednode",
            "pid": 4711,
            "started_at": START.isoformat().replace("+00:00", "Z"),
            "uptime_s": (self.now - START).total_seconds(),
            "addresses": ["/ip4/10.0.0.1/tcp/4001"],
            "entrance_addresses": ["/ip4/10.0.0.1/tcp/4002"],
            "groups": [{"group_id": "g-hospital", "name": "hospital-study"}],
            "runs_active": len(self.runs),
            "peers_connected": sum(peer["connected"] for peer in self.peers),
            "bytes_sent": sent,
            "bytes_received": sum(run["bytes_received"] for run in self.runs),
            "stranger_bytes": 0,
            "refused_at_door": 2,
        }

    def snapshot(self):
        copy = json.loads(json.dumps({"groups": [self.group()], "peers": self.peers, "runs": self.runs}))
        self.emit(type="snapshot", status=self.status(), **copy)

    def emit_run(self, run):
        self.emit(type="run", run=json.loads(json.dumps(run)))

    def emit_peer(self, i):
        self.emit(type="peer", peer=json.loads(json.dumps(self.peers[i])))

    def metric(self, run, node, key, value, at, scope="global", split="eval", epoch=None, step=None, samples=100):
        place = {"run_id": run["run_id"], "node_id": node, "scope": scope, "split": split, "key": key, "class": None}
        return place | {
            "round": at,
            "epoch": epoch,
            "step": step,
            "value": round(value, 5),
            "time": self.at(),
            "samples": samples,
        }

    def quality(self, node, at):
        """Accuracy and loss of node's model in round `at`: learning curves that part and meet again."""
        goal = 0.965 - 0.012 * (node % 5)
        accuracy = goal - 0.82 * math.exp(-at / (2.2 + 0.35 * (node % 5))) + self.random.gauss(0, 0.008)
        return min(max(accuracy, 0.05), 0.999), 0.09 + 2.2 * math.exp(-at / 3.1) + self.random.gauss(0, 0.02)

    def states(self, run, state, at=None, skip=()):
        for index, part in enumerate(run["participants"]):
            if part["state"] not in ("LOST", "DECLINED") and index not in skip:
                part["state"] = state
                if at is not None:
                    part["round"] = at
        self.emit_run(run)

    def transfers(self, run, kind, at, size=1_240_000):
        leader = run["aggregator"]
        for part in run["participants"]:
            if part["node_id"] != leader and part["state"] not in ("LOST", "DECLINED"):
                ends = (part["node_id"], leader) if kind == "update" else (leader, part["node_id"])
                self.emit(
                    type="transfer",
                    run_id=run["run_id"],
                    **{"from": ends[0], "to": ends[1]},
                    kind=kind,
                    bytes=size,
                    round=at,
                )
        run["bytes_sent"] += size
        run["bytes_received"] += size

    def train(self, run, at):
        self.states(run, "TRAINING", at)
        for epoch in (1, 2):
            rows = []
            for index, part in enumerate(run["participants"]):
                if part["state"] == "TRAINING":
                    accuracy, loss = self.quality(index, at - 0.5 + 0.3 * epoch)
                    for key, value in (("loss", loss), ("accuracy", min(accuracy + 0.02, 1.0))):
                        row = self.metric(run, part["node_id"], key, value, at, "local", "train", epoch, epoch * 4)
                        rows.append(row)
            self.emit(type="metrics", metrics=rows)
        self.states(run, "UPLOADING")
        self.transfers(run, "update", at)

    def commit(self, run, at):
        rows, sums = [], {"accuracy": 0.0, "loss": 0.0}
        alive = [i for i, part in enumerate(run["participants"]) if part["state"] not in ("LOST", "DECLINED")]
        for index in alive:
            accuracy, loss = self.quality(index, at)
            for key, value in (("accuracy", accuracy), ("loss", loss)):
                rows.append(self.metric(run, self.ids[index], key, value, at))
                sums[key] += value / len(alive)
        rows += [self.metric(run, "", key, value, at, samples=100 * len(alive)) for key, value in sums.items()]
        run["round"] = at
        run["accuracy"], run["loss"] = round(sums["accuracy"], 4), round(sums["loss"], 4)
        self.states(run, "WAITING", at)
        self.transfers(run, "checkpoint", at)
        self.emit(type="metrics", metrics=rows)
        leader = self.ids.index(run["aggregator"])
        text = f"round {at} committed with {len(alive)} updates, accuracy {run['accuracy']:.4f}"
        self.log(leader, text, run=run["run_id"])

    def aggregator_dies(self, run, dead, heir, at):
        self.peers[dead] |= {"connected": False, "last_seen": self.at()}
        self.emit_peer(dead)
        run["participants"][dead] |= {"state": "LOST", "reason": "connection lost"}
        run["note"] = "no aggregator: electing"
        self.emit_run(run)
        self.log(0, f"aggregator {self.names[dead]} is silent for 4.0 s", "WARNING", run["run_id"], "fednode.election")
        self.log(heir, f"standing for term {run['term'] + 1}", run=run["run_id"], logger="fednode.election")
        run |= {"term": run["term"] + 1, "elections": run["elections"] + 1, "note": ""}
        run |= {"aggregator": self.ids[heir], "aggregator_name": self.names[heir]}
        self.emit_run(run)
        text = f"elected aggregator of term {run['term']} with 4 of 5 votes; round {at} goes on"
        self.log(heir, text, run=run["run_id"], logger="fednode.election")

    def comes_back(self, run, index):
        self.peers[index] |= {"connected": True, "last_seen": self.at()}
        self.emit_peer(index)
        run["participants"][index] |= {"state": "READY", "reason": ""}
        self.emit_run(run)
        self.log(index, f"back in {run['name']}, catching up from round {run['round']}", run=run["run_id"])

    def finish(self, run):
        self.states(run, "FINISHED")
        run |= {"state": "FINISHED", "ended_at": self.at(0.5), "reason": "all rounds done"}
        self.emit_run(run)
        self.log(0, f"{run['name']} finished", run=run["run_id"])


def recorded():
    """Five nodes, one run of ten rounds whose aggregator dies in the fifth and comes back, and one that asks us."""
    story = Recorder(runs=("digits-mlp", "xray-cnn"))
    first, second = story.runs
    second |= {"state": "GATHERING", "decision": "undecided", "term": 0, "elections": 0, "started_at": None}
    second |= {"aggregator": None, "aggregator_name": None, "rounds": 30, "task": "xray.py", "data": "xray"}
    second["note"] = "waits for 2 more nodes until 14:10"
    for index, part in enumerate(second["participants"]):
        part["state"] = "READY" if index in (1, 4) else "INVITED"
    story.snapshot()
    story.log(0, "joined hospital-study as ward-north", logger="fednode.node")
    for at in range(1, 11):
        story.at(2)
        story.train(first, at)
        if at == 3:
            second["participants"][3] |= {"state": "DECLINED", "reason": "no data set called xray"}
            story.emit_run(second)
        if at == 5:
            story.aggregator_dies(first, 2, 3, at)
        if at == 8:
            story.comes_back(first, 2)
        story.commit(first, at)
        story.emit(type="status", status=story.status())
        story.emit(type="alive")
    story.finish(first)
    return story.events


if __name__ == "__main__":
    for event in recorded():
        sys.stdout.write(json.dumps(event, separators=(",", ":")) + "\n")
