"""What a node says of a run's proposal, and what may be in its inbox."""

CODE = {
    "task": "xray.py",
    "kind": "file",
    "hash": "9f" * 32,
    "path": "",
    "here": False,
    "what": "It runs the task file xray.py (BLAKE3 9f9f9f9f9f9f…), which somebody wrote; code never travels by itself. "
    "It is not here: get it from ward-south, read it, and accept with its path.",
}
DATA = {
    "wanted": "xray",
    "needed": True,
    "here": ["digits", "scans"],
    "what": "It trains on a data set of yours called xray. The data stays here; what is learned from it leaves. "
    "None here is called so: accept with another of yours (digits, scans), or add it first.",
}
ANSWERS = {
    "proposal": {
        "run_id": "015f3a9c2e7b41d8",
        "name": "xray-cnn",
        "proposer": "12D3KooWsouth",
        "proposer_name": "ward-south",
        "proposer_member": "Msouth",
        "proposer_member_name": "South Ward",
        "configuration": {
            "aggregation.codec": "bf16",
            "aggregation.rule": "mean",
            "data.name": "xray",
            "evaluation.every": 1,
            "name": "xray-cnn",
            "project": "radiology",
            "round.deadline_s": 600.0,
            "seed": 7,
            "tags": '["chest", "second try"]',
            "task.file": "xray.py",
            "training.learning_rate": 0.01,
            "training.rounds": 20,
        },
        "code": CODE,
        "data": DATA,
        "previous": {
            "run_id": "005f3a9c2e7b41d8",
            "name": "xray-small",
            "created_at": "2026-11-20T09:30:00Z",
            "decision": "accepted",
        },
        "differences": [
            {"key": "aggregation.codec", "before": None, "now": "bf16"},
            {"key": "round.late", "before": "use", "now": None},
            {"key": "training.rounds", "before": 5, "now": 20},
        ],
    }
}


def item(item_id, kind, title, text, actions=("seen",), **changes):
    facts = {"id": item_id, "kind": kind, "time": "2026-11-21T13:58:00Z", "title": title, "text": text}
    return {**facts, "run_id": "", "node_id": "", "group_id": "", "needs": "look", "actions": list(actions), **changes}


ITEMS = [
    item(
        "proposal-015f3a9c2e7b41d8",
        "proposal",
        "Run xray-cnn waits for your answer",
        "ward-south of South Ward proposes it to hospital-study: it runs the task file xray.py on a data set called "
        "xray. Accept it to take part, or decline it.",
        ("accept", "decline", "run"),
        run_id="015f3a9c2e7b41d8",
        needs="answer",
    ),
    item(
        "joiner-1",
        "joiner",
        "East Clinic came into hospital-study as member",
        "icu has admitted East Clinic with its node east-1. If you do not know who that is, ask icu.",
        ("group", "node", "seen"),
    ),
    item(
        "refused-updates-1",
        "refused-updates",
        "Our updates were refused in digits-mlp",
        "Ours were refused 3 times in digits-mlp, last by icu in round 5: norm: 41.2 is over the limit of 10. "
        "See the reason, then our log of the run: our data or our copy of the task may be wrong.",
        ("run", "node", "seen"),
        run_id="005f3a9c2e7b41d8",
    ),
    item(
        "low-disk-1",
        "low-disk",
        "The disk is nearly full",
        "1.2 GiB are free where /home/ann/fednode lies; below 2 GiB a round may not fit, and a full disk stops the "
        "record and our part in runs. Make room there, or see fednode store prune.",
    ),
]
GONE = [
    item(
        "revoked-1",
        "revoked",
        "Your node old-laptop was revoked in hospital-study",
        "ward-north has put it out. It is out for good, and the group's messages get a new key. If it was none of you, "
        "somebody has your member's key: have an admin remove you, and join anew.",
        ("group", "seen"),
        group_id="g-hospital",
    ),
    item(
        "gone-1",
        "gone",
        "eve is out of hospital-study: its invitation was used twice",
        "chen let eve in while others elsewhere let somebody in by the same invitation, which did not have room for "
        "all. Who came first has stayed, and the group's messages get a new key. If eve belongs to hospital-study, "
        "an admin can send a new invitation.",
        ("group", "seen"),
        group_id="g-hospital",
    ),
]
