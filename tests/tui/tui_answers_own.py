"""What a node tells of its own member: three nodes, one of them revoked, a device link, a profile, and the doctor."""

from tui_fakes import recorded

US, RADIOLOGY = (
    next(p for p in recorded()[0]["peers"] if p["name"] == name)["node_id"] for name in ("ward-north", "radiology")
)
GONE = "12D3KooWoldlaptop"


def own_node(node_id, name, **changes):
    facts = {"node_id": node_id, "name": name, "is_self": False, "holds_member_key": False, "connected": False}
    times = {"issued_at": "2026-11-20T09:30:00Z", "last_heard_at": None, "revoked_at": None}
    return {**facts, **times, "groups": ["hospital-study"], **changes}


def check(name, state, text, remedy=""):
    return {"name": name, "state": state, "text": text, "remedy": remedy}


NODES = {
    "member_id": "member-anna",
    "member": "anna",
    "holds_member_key": True,
    "nodes": [
        own_node(
            GONE, "old-laptop", revoked_at="2026-11-21T08:15:00Z", last_heard_at="2026-11-20T17:02:00Z", groups=[]
        ),
        own_node(US, "ward-north", is_self=True, holds_member_key=True, connected=True),
        own_node(RADIOLOGY, "radiology", last_heard_at="2026-11-21T13:12:00Z"),
    ],
    "links": [
        {"link_id": "7c21aa90f3", "expires_at": "2056-11-21T14:15:00Z", "used_by": None},
        {"link_id": "19d0be41c2", "expires_at": "2026-11-20T09:45:00Z", "used_by": RADIOLOGY},
    ],
}
PROFILE = {"name": "anna", "organisation": "North Hospital", "contact": "anna@north.example"}
CHECKS = [
    check("home", "ok", "/home/anna/.local/share/fednode is yours alone (0700)."),
    check(
        "member key",
        "warning",
        "It lies here without a passphrase: whoever reads this disk can make nodes in your name.",
        "fednode key protect",
    ),
    check(
        "port",
        "wrong",
        "Nobody has reached port 4001 from outside: others cannot dial this node, and it has to dial them.",
        "open TCP 4001 and 4002 in the firewall, or give an address that works: fednode start --addr HOST:PORT",
    ),
    check("clock", "ok", "It is within 0.2 s of the other nodes' clocks."),
    check("disk", "ok", "412 GB are free."),
]
ANSWERS = {
    "nodes": NODES,
    "profile": PROFILE,
    "doctor": {"checks": CHECKS},
    "link": {"link_id": "88f0", "token": "fednodelink1" + "q7x2m5ka" * 16, "expires_at": "2026-11-21T14:20:00Z"},
    "revoke": {"node_id": RADIOLOGY, "name": "radiology", "groups": ["hospital-study"]},
}
