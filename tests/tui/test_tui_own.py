"""One's own nodes in the dashboard: the list, links, revoking, the profile, and what the doctor finds."""

from dataclasses import replace
from datetime import UTC, datetime

from tui_answers_own import ANSWERS, CHECKS, NODES, RADIOLOGY, own_node
from tui_fakes import FakeClient, recorded
from tui_stage import play, stage

from fednode import ClientError
from tui.facts.own import CHECK_STATES, checks_of, own_nodes_of, profile_of
from tui.views.own import OwnPanel, revoke_text
from tui.views.own_rows import link_rows, own_page, own_rows
from tui.widgets.windows import TokenWindow

BEFORE = datetime(2026, 11, 20, tzinfo=UTC)


def client_of(**answers):
    return FakeClient([recorded()[0]], {**ANSWERS, **answers})


async def at_own(on, *keys):
    await on.press("5", "o", *keys)
    await on.at_rest()


def told(client, *parts):
    return [(method, body) for method, path, body in client.bodies if path == parts]


# --- what is known -------------------------------------------------------------------------------------------------
def test_rows_say_where_one_is_and_who_holds_the_key():
    own = own_nodes_of(NODES)
    rows = {row.cells[0].text: [cell.text for cell in row.cells[1:3]] for row in own_rows(own, is_record=False)}
    assert rows == {
        "ward-north": ["● us", "holds it"],
        "radiology": ["✗ away", "–"],
        "old-laptop": ["⊘ revoked", "–"],
    }
    assert [node.name for node in own.holders] == ["ward-north"]
    assert {row.cells[1].text for row in own_rows(own, is_record=True)} == {"–", "⊘ revoked"}


def test_links_say_who_used_them_and_that_they_are_over():
    own = own_nodes_of(NODES)
    assert [row.cells[1].text for row in link_rows(own, BEFORE)] == ["nobody yet", "radiology"]
    late = datetime(2060, 1, 1, tzinfo=UTC)
    assert [row.cells[1].text for row in link_rows(own, late)] == ["nobody: expired", "radiology"]


def test_the_worst_check_comes_first_and_what_is_fine_has_no_remedy():
    checks = checks_of({"checks": [*CHECKS, {"name": "odd", "state": "on fire", "text": "new"}]})
    assert [check.state for check in checks] == ["wrong", "on fire", "warning", "ok", "ok", "ok"]
    assert CHECK_STATES[-1] == "ok"
    text = "\n".join("".join(span.text for span in line) for line in own_page(None, "", checks, "", 60))
    assert "2 wrong, 1 warning, 3 in order" in text
    assert "→ fednode key protect" in text
    assert "✗ odd: new" in text


def test_a_hostile_answer_does_not_break_the_page():
    own = own_nodes_of({"nodes": [{"name": "\x1b[2J[red]x"}, 7], "links": "none", "member": 3})
    (row,) = own_rows(own, is_record=False)
    assert row.cells[0].text == "·[2J[red]x"
    assert link_rows(own, BEFORE) == []
    assert checks_of({"checks": [{}, None]})[0].state == ""
    assert profile_of({"name": None, "contact": ["x"]}).name == ""


def test_the_question_says_what_a_key_that_is_lost_means():
    plain, holder, nowhere = (
        own_nodes_of({"nodes": [own_node("12D3KooWx", "lab", **changes)]}).nodes[0]
        for changes in ({}, {"holds_member_key": True}, {"groups": []})
    )
    assert "lab (…2D3KooWx) out of hospital-study, for good" in revoke_text(plain)
    assert "your member's key" not in revoke_text(plain)
    assert "your member's key" in revoke_text(holder)
    assert "whatever groups" in revoke_text(nowhere)


# --- the view ------------------------------------------------------------------------------------------------------
def test_own_nodes_profile_and_doctor_are_on_one_page_in_a_small_terminal():
    async def scene():
        client = client_of()
        async with stage(client, (80, 24)) as on:
            await at_own(on)
            text = on.text()
            for part in ("Own nodes 3 of anna", "old-laptop ⊘ revoked", "Device links 2", "North Hospital"):
                assert part in text
            assert "1 wrong, 1 warning, 3 in order" in text
            await on.press("o")
            assert "Own nodes" not in on.text()
            assert on.app.view.table("nodes").has_focus

    play(scene)


def test_nothing_is_asked_while_it_is_out_of_sight():
    async def scene():
        client = client_of()
        async with stage(client) as on:
            await on.press("5")
            await on.at_rest()
            assert not {"nodes", "doctor", "profile"} & {each[0] for each in client.asked}
            await on.press("o")
            await on.at_rest()
            assert {"nodes", "doctor", "profile"} <= {each[0] for each in client.asked}
            count = len([each for each in client.asked if each[0] == "doctor"])
            await on.press("D")
            await on.at_rest()
            assert len([each for each in client.asked if each[0] == "doctor"]) == count + 1

    play(scene)


def test_a_link_shows_its_token_with_a_code():
    async def scene():
        client = client_of()
        async with stage(client, (120, 60)) as on:
            await at_own(on, "L")
            await on.press("enter")
            await on.until(lambda: isinstance(on.app.screen, TokenWindow))
            await on.settle()
            text = on.text()
            assert "fednode start --link TOKEN" in text
            assert "Good for one machine" in text
            assert "fednodelink1" in text
            assert "█▀" in text
            assert told(client, "nodes", "link") == [("POST", {"expires_s": 3600})]
            await on.press("y")
            assert on.app.clipboard == ANSWERS["link"]["token"]

    play(scene)


def test_a_node_is_revoked_after_a_question_that_names_it():
    async def scene():
        client = client_of()
        async with stage(client, (80, 24)) as on:
            await at_own(on, "j", "d")
            text = " ".join(on.text().replace("┃", " ").replace("│", " ").split())
            assert "Revoke radiology?" in text
            assert "out of hospital-study, for good" in text
            await on.press("n")
            assert not told(client, "nodes", "revoke")
            await on.press("d", "y")
            await on.until(lambda: "radiology is revoked" in on.told())
            assert told(client, "nodes", "revoke") == [("POST", {"node": RADIOLOGY})]
            await on.press("G", "d")
            assert "not revoked" in on.told()
            await on.press("g", "d")
            assert "a node does not revoke itself" in on.told()

    play(scene)


def test_a_device_link_is_taken_back_after_a_question():
    async def scene():
        client = client_of(**{"7c21aa90f3": {"link_id": "7c21aa90f3", "expires_at": "2056-11-21T14:15:00Z"}})
        async with stage(client, (80, 24)) as on:
            await at_own(on)
            on.app.view.table("device-links").focus()
            await on.settle()
            assert "Take the device link back" in [deed.name for deed in on.app.deeds()]
            await on.press("d")
            assert "Take the device link 7c21aa90f3 back?" in on.text()
            await on.press("n")
            assert not told(client, "nodes", "links", "7c21aa90f3")
            await on.press("d", "y")
            await on.until(lambda: "7c21aa90f3 is taken back" in on.told())
            assert told(client, "nodes", "links", "7c21aa90f3") == [("DELETE", {})]
            await on.press("j", "d")
            assert "a machine has used this device link" in on.told()

    play(scene)


def test_a_link_that_was_taken_back_says_so():
    (link, _) = NODES["links"]
    own = own_nodes_of({**NODES, "links": [{**link, "revoked": True}]})
    assert [row.cells[1].text for row in link_rows(own, BEFORE)] == ["nobody: revoked"]


def test_without_the_member_key_it_says_where_that_is():
    async def scene():
        nodes = [{**each, "holds_member_key": each["node_id"] == RADIOLOGY} for each in NODES["nodes"]]
        client = client_of(nodes={**NODES, "holds_member_key": False, "nodes": nodes})
        async with stage(client) as on:
            await at_own(on, "j", "d")
            assert "revoke from one that does (radiology)" in on.told()
            assert "the member's key is elsewhere" in on.text()

    play(scene)


def test_what_one_says_of_oneself_is_changed():
    async def scene():
        client = client_of()
        async with stage(client) as on:
            await at_own(on, "e")
            await on.until(lambda: "as your claim: nobody checks it" in on.text())
            await on.press("down", *" (South)", "enter")
            await on.until(lambda: "your profile is on its way" in on.told())
            changed = {"name": "anna", "organisation": "North Hospital (South)", "contact": "anna@north.example"}
            assert told(client, "profile") == [("PUT", changed)]

    play(scene)


def test_what_cannot_be_told_says_why():
    async def scene():
        refusal = ClientError("the node is too old for this", remedy="upgrade it")
        client = client_of(nodes=refusal, doctor=refusal, profile=refusal)
        async with stage(client, (120, 36)) as on:
            await at_own(on)
            assert on.text().count("the node is too old for this") == 3
            await on.press("e")
            await on.until(lambda: "too old" in on.told())
            await on.press("d")
            assert "put the cursor on a node of yours" in on.told()

    play(scene)


def test_five_and_o_lead_to_own_nodes_however_often():
    async def scene():
        async with stage(client_of()) as on:
            for keys in (("5", "o"), ("1", "5", "o"), ("5", "o"), ("8", "5", "o")):
                await on.press(*keys)
                await on.at_rest()
                assert on.app.view.shows_own, keys
            await on.press("5")
            assert not on.app.view.shows_own
            assert on.app.view.table("nodes").has_focus

    play(scene)


def test_a_node_that_is_just_being_linked_is_asked_for_every_second():
    async def scene():
        async with stage(client_of()) as on:
            await at_own(on)
            panel, glance = on.app.view.query_one(OwnPanel), on.app.glance
            first, later = (
                {wish.ask.parts[0]: wish.stamp for wish in panel.wishes(replace(glance, now=now))}
                for now in (50.0, 51.0)
            )
            assert first["nodes"] != later["nodes"]
            assert first["doctor"] == later["doctor"]

    play(scene)


def test_the_palette_leads_there():
    async def scene():
        async with stage(client_of()) as on:
            (deed,) = [deed for deed in on.app.deeds() if deed.name.startswith("Go to own nodes")]
            deed.do()
            await on.at_rest()
            assert "Own nodes 3 of anna" in on.text()
            names = [deed.name for deed in on.app.deeds()]
            assert "Revoke ward-north" in names
            assert any(name.startswith("Link a device") for name in names)
            on.app.look_at_node(RADIOLOGY)
            await on.settle()
            assert on.app.view.table("nodes").cursor_key == RADIOLOGY
            assert not on.app.view.shows_own

    play(scene)
