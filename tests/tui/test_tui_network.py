"""The home screen and the devices: nodes picked by keys and mouse, their cards, links, sparklines, and any crowd."""

import pytest
from tui_answers_devices import ANSWERS
from tui_fakes import FakeClient, recorded, rounds_answer
from tui_pictures import SIZES, compare
from tui_recording import Recorder
from tui_stage import play, stage

from tui.facts.asks import asking
from tui.widgets.picture_view import PictureView

MIDDLE = 110
ICU = "12D3KooWcccccc002icu"


def linked():
    """The recorded peers again, with what is known of the links to them."""
    events = []
    for number, peer in enumerate(recorded()[0]["peers"]):
        link = {"rtt_s": 0.0013 * (7 * number + 1), "bytes_sent": 5_000_000 * number, "bytes_received": 1_000_000}
        link |= {"sent_per_s": 1.2e6 * number, "received_per_s": 3e5, "path": "relayed" if number == 4 else "direct"}
        away = peer["node_id"] == ICU
        if not peer["self"]:
            events.append({"type": "peer", "peer": {**peer, "connected": not away, "link": {} if away else link}})
    return events


def client_of(**answers):
    return FakeClient([*recorded()[:MIDDLE], *linked()], {"rounds": rounds_answer(), **ANSWERS, **answers})


async def all_told(on, client):
    await on.until(lambda: client.told == len(client.events_told))
    await on.settle()


def to_topology(on):
    on.app.query_one("#topology").focus()


def test_the_keys_go_from_node_to_node_and_each_has_its_card():
    async def scene():
        client = client_of()
        async with stage(client) as on:
            await all_told(on, client)
            to_topology(on)
            await on.press("j")
            assert on.app.choice.node_id == "12D3KooWaaaaaa000war", "ours first"
            assert "● our own node" in on.text()
            assert "(◐)radiology" in on.text(), "the member's other node"
            await on.press("down")
            assert "▸◐◂ward-south" in on.text()
            assert "10 ms, ↑ 1.2 MB/s ↓ 300 kB/s, direct" in on.text()
            assert "ben, member" in on.text()
            await on.press("left")
            assert "✗ away, last seen 2026-11-21 14:00:00" in on.text()
            assert "no connection" in on.text()
            await on.press("c")
            assert "digits-mlp: ♛ aggregator" in on.text()
            await on.press("k", "k", "j")
            assert on.app.choice.node_id == ICU
            await on.press("escape")
            assert on.app.choice.node_id == ""
            assert "Participants 5" in on.text()
            await on.press("enter")
            assert on.app.view.id == "view-network", "no node, nothing to open"
            await on.press("g", "enter")
            assert on.app.view.id == "view-devices"
            assert on.app.view.table("nodes").cursor_key == "12D3KooWaaaaaa000war"

    play(scene)


def test_escape_with_no_node_selected_leads_back_as_everywhere():
    async def scene():
        client = client_of()
        async with stage(client) as on:
            await all_told(on, client)
            await on.press("5", "1")
            to_topology(on)
            await on.press("escape")
            assert on.app.view.id == "view-network"

    play(scene)


def test_a_click_selects_a_node_by_its_sign_or_name_and_a_second_one_opens_it():
    async def scene():
        client = client_of()
        async with stage(client) as on:
            await all_told(on, client)
            panel = on.app.query_one("#topology")
            row, line = next((y, each) for y, each in enumerate(on.text().splitlines()) if "icu away ✗" in each)
            place = (line.index("icu away") - panel.region.x, row - panel.region.y)
            await on.pilot.click("#topology", offset=place)
            await on.pilot.pause()
            assert on.app.choice.node_id == ICU
            await on.pilot.click("#topology", offset=(3, 1))
            await on.pilot.pause()
            assert on.app.choice.node_id == "", "beside all nodes"
            await on.pilot.click("#topology", offset=place, times=2)
            await on.until(lambda: on.app.view.id == "view-devices")
            assert on.app.view.table("nodes").cursor_key == ICU

    play(scene)


def test_what_is_known_of_links_stands_on_them():
    async def scene():
        client = client_of()
        async with stage(client, size=(200, 60)) as on:
            await all_told(on, client)
            text = on.text()
            assert "29 ms 3.9 MB/s" in text
            assert "38 ms 5.1 MB/s relayed" in text
            assert "4 of 5 here" in text

    play(scene)


@pytest.mark.parametrize("count", [1, 5, 24, 50, 96, 150])
@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
def test_every_node_of_any_crowd_can_be_reached(count, size):
    async def scene():
        story = Recorder(nodes=count, runs=["study"] if count > 1 else [], rounds=3)
        story.snapshot()
        async with stage(FakeClient(story.events, ANSWERS), size) as on:
            to_topology(on)
            panel = on.app.query_one("#topology")
            seen = set()
            for _ in range(count):
                panel.action_step(1)
                seen.add(panel._selected)
            assert len(seen) == count
            drawn = panel._picture.plain()
            assert sum(drawn.count(sign) for sign in "◐●◌▲♛?○✗") >= count
            await on.press("right", "down", "left", "up", "5", "1")

    play(scene)


def test_a_node_that_is_only_heard_of_is_here_too():
    async def scene():
        told = {**recorded()[0]["peers"][2], "connected": False, "here": True}
        client = FakeClient([*recorded()[:1], {"type": "peer", "peer": told}], ANSWERS)
        async with stage(client) as on:
            await all_told(on, client)
            assert on.app.state.peers[ICU].here
            assert "icu away" not in on.text()

    play(scene)


def test_devices_are_asked_for_while_they_are_in_sight_and_now_and_then():
    async def scene():
        client = client_of()
        async with stage(client) as on:
            await all_told(on, client)
            assert ("devices",) not in client.asked
            await on.press("5")
            await on.until(lambda: on.app.state.answers.known(asking("devices", points=96)))
            await on.settle()
            assert "had not been" in on.text()
            assert "most 98%" in on.text()
            asked = client.asked.count(("devices",))
            on.clock.now += 11
            on.app.paint()
            await on.until(lambda: client.asked.count(("devices",)) == asked + 1)

    play(scene)


def test_of_what_nobody_knows_nothing_is_drawn_and_a_failure_is_said():
    async def scene():
        client = client_of(devices=OSError("no such endpoint"))
        async with stage(client) as on:
            await all_told(on, client)
            await on.press("5")
            await on.until(lambda: on.app.state.answers.trouble(asking("devices", points=96)))
            await on.settle()
            text = on.text()
            assert "no such endpoint" in text
            assert "nothing was told of its machine yet" in text
            assert not set(text) & set("▁▂▃▄▅▇")

    play(scene)


@pytest.mark.parametrize("size", SIZES)
def test_the_network_with_a_node_selected_looks_as_it_did(size):
    async def scene():
        client = client_of()
        async with stage(client, size) as on:
            await all_told(on, client)
            to_topology(on)
            await on.press("j", "down")
            await on.until(lambda: not on.app.questions.waiting)
            await on.settle()
            compare(f"node-card_{size[0]}x{size[1]}", on.text())

    play(scene)


def test_the_card_is_drawn_only_while_a_node_is_selected():
    async def scene():
        client = client_of()
        async with stage(client) as on:
            await all_told(on, client)
            assert not [box for box in on.app.query(".node-card").results(PictureView) if box.size.width]
            to_topology(on)
            await on.press("j")
            assert [box.id for box in on.app.query(".node-card").results(PictureView) if box.size.width] == [
                "node-card"
            ]

    play(scene)
