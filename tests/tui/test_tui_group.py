"""The group in the dashboard: who is in, what was signed, and what an admin does about it by keys."""

from tui_answers_group import ANSWERS
from tui_fakes import FakeClient, recorded
from tui_stage import play, stage

from fednode import ClientError
from tui.facts.history import history_of
from tui.facts.nodes import Group
from tui.views.group_rows import entry_text, history_rows, invitation_rows, member_rows, member_text

FORMER = {
    "member_id": "member-eli",
    "name": "eli",
    "role": "member",
    "removed": True,
    "by": "anna",
    "at": "2026-11-21T09:37:00Z",
    "reason": "left the hospital",
}
REVOKED = {"invite_id": "inv-7c21", "role": "member", "uses": 3, "used": 3, "revoked": True, "state": "revoked"}


def group_json(**changes):
    group = recorded()[0]["groups"][0]
    group["invitations"] = [REVOKED, *group["invitations"]]
    return {**group, "former": [FORMER], **changes}


def client_of(*groups, **answers):
    snapshot = {**recorded()[0], "groups": list(groups) or [group_json()]}
    return FakeClient([snapshot], {**ANSWERS, **answers})


async def at_group(on, *keys):
    await on.press("8", *keys)
    await on.until(lambda: not on.app.questions.waiting)
    await on.settle()


def told(client):
    return [(method, parts, body) for method, parts, body in client.bodies if parts[0] == "groups"]


def test_rows_say_who_is_in_and_who_is_out():
    group = Group.of(group_json())
    rows = [[cell.text for cell in row.cells[:3]] for row in member_rows(group)]
    assert rows[0] == ["anna", "admin", "ward-north, radiology"]
    assert rows[-2] == ["eli", "out", "removed by anna: left the hospital"]
    assert rows[-1] == ["old-laptop of anna", "revoked", "revoked by ward-north"]
    assert [cell.text for cell in member_rows(group)[1].cells[3:5]] == ["South Hospital, Radiology", "+49 30 1234567"]
    states = {row.key: row.cells[3].text for row in invitation_rows(group)}
    assert states == {"inv-3f9a": "open", "inv-7c21": "revoked"}
    assert next(iter(invitation_rows(group))).key == "inv-3f9a"  # the newest first


def test_a_member_in_full_has_its_nodes_and_says_what_is_only_claimed():
    group = Group.of(group_json())
    text = member_text(group, group.members[0])
    for part in ("of North Hospital", "anna@north.example, as claimed", "radiology  12D3KooWeeeeee004rad"):
        assert part in text
    assert "old-laptop  12D3KooWoldlaptop  revoked by ward-north 2026-11-21" in text
    assert "contact      –" in member_text(group, group.members[2])


def test_what_does_not_count_says_so_without_colour():
    history = history_of(ANSWERS["history"])
    texts = [row.cells[2].text for row in history_rows(history)]
    (void,) = [text for text in texts if text.startswith("✗ void:")]
    assert "an admin had taken away the right" in void
    entry = entry_text(history.find("0a" * 32))
    for part in ("0a" * 32, "09" * 32, "12D3KooWward-south", "no: an admin had taken away"):
        assert part in entry


def test_a_hostile_answer_does_not_break_the_rows():
    strange = {"operations": [{"hash": 5, "text": "\x1b[2J[red]boo", "parents": "x", "claimed_at": "never"}, 7]}
    (row,) = history_rows(history_of(strange))
    assert row.cells[2].text == "·[2J[red]boo"
    assert member_rows(Group.of({"group_id": "g", "members": [{}], "former": [3, {}]}))[-1].cells[1].text == "out"


def test_the_view_shows_all_three_and_an_entry_in_full():
    async def scene():
        client = client_of()
        async with stage(client, (120, 36)) as on:
            await at_group(on)
            text = on.text()
            for part in ("4 members · we are admin", "eli", "Invitations 1 open of 2", "Signed history 14"):
                assert part in text
            on.app.view.table("history").focus()
            await on.press("j", "enter")
            text = on.text()
            assert "0c" * 32 in text
            assert "0b" * 32 in text  # its parent
            assert "by the author's clock" in text
            await on.press("escape")
            asked = [each for each in client.asked if "history" in str(each)]
            assert len(asked) == 1

    play(scene)


def test_enter_shows_a_member_in_full():
    async def scene():
        async with stage(client_of(), (80, 24)) as on:
            await at_group(on, "j", "enter")
            assert "of South Hospital, Radiology" in on.text()
            assert "+49 30 1234567, as claimed" in on.text()
            await on.press("escape", "G", "enter")
            assert "revoked by ward-north" in on.text()

    play(scene)


def test_an_item_leads_to_its_group():
    async def scene():
        client = client_of(group_json(), group_json(group_id="g-2", name="other"))
        async with stage(client, (120, 36)) as on:
            on.app.look_at_group("g-2")
            await at_group(on)
            assert "other (2 of 2, o: next)" in on.text()
            on.app.look_at_group("gone")
            await on.settle()
            assert "hospital-study (1 of 2, o: next)" in on.text()

    play(scene)


def test_a_member_is_removed_after_being_told_what_will_happen():
    async def scene():
        client = client_of(remove={"text": "removed ben"})
        async with stage(client, (120, 36)) as on:
            await at_group(on, "j", "d")
            text = " ".join(on.text().split())
            assert "This removes ben and its nodes (ward-south)" in text
            assert "cut off at once" in text
            assert not told(client)
            await on.press(*"gone", "enter")
            await on.until(lambda: "ben is out of hospital-study" in on.told())
            parts = ("groups", "g-hospital", "members", "member-ben", "remove")
            assert told(client) == [("POST", parts, {"reason": "gone"})]
            await on.press("d", "escape")
            assert len(told(client)) == 1

    play(scene)


def test_who_is_out_already_is_not_removed():
    async def scene():
        client = client_of()
        async with stage(client, (120, 36)) as on:
            await at_group(on, "G", "d")
            assert "put the cursor on a member first" in on.told()
            await on.press("r")
            assert not told(client)

    play(scene)


def test_a_role_is_changed():
    async def scene():
        client = client_of(role={})
        async with stage(client, (120, 36)) as on:
            await at_group(on, "j", "r")
            await on.press("left", "enter")  # from member on to admin, the last of three
            await on.until(lambda: "ben has the role admin now" in on.told())
            assert told(client) == [
                ("POST", ("groups", "g-hospital", "members", "member-ben", "role"), {"role": "admin"})
            ]

    play(scene)


def test_an_invitation_is_revoked_after_a_question():
    async def scene():
        client = client_of(**{"inv-3f9a": {}})
        async with stage(client, (120, 36)) as on:
            await at_group(on)
            on.app.view.table("invitations").focus()
            await on.press("d")
            assert "Revoke this invitation?" in on.text()
            await on.press("n")
            assert not told(client)
            await on.press("d", "y")
            await on.until(lambda: "invitation inv-3f9a is revoked" in on.told())
            assert told(client) == [("DELETE", ("groups", "g-hospital", "invitations", "inv-3f9a"), {})]

    play(scene)


def test_a_refusal_is_told_where_it_was_asked():
    async def scene():
        refusal = ClientError("ben is a member, and only admins remove members", remedy="ask an admin")
        client = client_of(remove=refusal)
        async with stage(client, (120, 36)) as on:
            await at_group(on, "j", "d", "enter")
            await on.until(lambda: "only admins remove members" in on.text())

    play(scene)


def test_leaving_asks_once():
    async def scene():
        client = client_of(leave={})
        async with stage(client, (80, 24)) as on:
            await at_group(on, "L")
            assert "Leave hospital-study?" in on.text()
            await on.press("y")
            await on.until(lambda: "left hospital-study" in on.told())
            assert told(client) == [("POST", ("groups", "g-hospital", "leave"), {})]

    play(scene)


def test_one_goes_from_group_to_group_and_sees_why_one_is_out():
    async def scene():
        out = {"removed": True, "by": "zoe", "reason": "over", "text": "This node's member was removed from old by zoe"}
        client = client_of(group_json(), group_json(group_id="g-2", name="old", role="", out=out))
        async with stage(client, (120, 36)) as on:
            await at_group(on)
            assert "hospital-study (1 of 2, o: next)" in on.text()
            assert "was removed from old" not in on.text()
            await at_group(on, "o")
            assert "old (2 of 2, o: next)" in on.text()
            assert "! This node's member was removed from old by zoe" in on.text()
            assert "we are out" in on.text()

    play(scene)


def test_without_a_group_the_view_says_how_to_get_one():
    async def scene():
        client = FakeClient([{**recorded()[0], "groups": []}], ANSWERS)
        async with stage(client, (120, 36)) as on:
            await at_group(on, "d", "L")
            assert "Ctrl+P, then Create a group" in on.text()
            await on.press("I")
            assert "Invite" in on.text()

    play(scene)
