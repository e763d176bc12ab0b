"""What a node tells of a group's signed history."""

WHO = {"anna": "ward-north", "ben": "ward-south", "chen": "icu", "dana": "lab"}
SAID = (
    ("group.create", "anna", "founded the group hospital-study", ""),
    ("invite.post", "anna", "invited a member, 3 times, until 2026-11-28 09:30 UTC (inv-7c21)", ""),
    ("member.admit", "anna", "admitted ben with node ward-south, by the invitation inv-7c21 of anna", ""),
    ("node.bind", "anna", "added node radiology of anna", ""),
    ("member.admit", "ben", "admitted chen with node icu, by the invitation inv-7c21 of anna", ""),
    ("member.admit", "ben", "admitted dana with node lab, by the invitation inv-7c21 of anna", ""),
    ("member.role", "anna", "made ben an admin", ""),
    ("member.remove", "anna", "removed eli: left the hospital", ""),
    ("key.rotate", "anna", "made a new key for the group's messages (epoch 4711)", ""),
    ("member.role", "anna", "made ben a member", ""),
    (
        "invite.post",
        "ben",
        "invited an observer, once, until 2026-11-28 09:30 UTC (inv-90aa)",
        "an admin had taken away the right to do so, without its author knowing",
    ),
    ("invite.post", "anna", "invited an observer, 3 times, until 2026-11-28 09:30 UTC (inv-3f9a)", ""),
    ("run.propose", "ben", "proposed the run xray-cnn (015f3a9c)", ""),
    ("run.start", "ben", "started the run xray-cnn (015f3a9c)", ""),
)


def operation(number):
    kind, member, text, why = SAID[number]
    return {
        "hash": f"{number:02x}" * 32,
        "kind": kind,
        "claimed_at": f"2026-11-21T09:{30 + number}:00Z",
        "by_node": f"12D3KooW{WHO[member]}",
        "by_name": WHO[member],
        "by_member": member,
        "text": text,
        "counts": not why,
        "why": why,
        "parents": [f"{number - 1:02x}" * 32] if number else [],
        "previous": f"{number - 1:02x}" * 32 if number else "",
        "bytes": 640,
    }


ANSWERS = {
    "history": {
        "operations": [operation(number) for number in reversed(range(len(SAID)))],
        "previous": None,
        "total": len(SAID),
    }
}
