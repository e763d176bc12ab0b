"""A person's first evening, by keys alone, in a terminal in tmux: join, accept a run, watch it, fetch the model."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes import CONFIGURATION, DIGITS, QUICK, RealNode, real_nodes, wait_until
from terminal import TMUX, Terminal, terminal

from node.data.shares import digits_split
from tui.facts.state import State
from tui.feeds.recording import read_recording
from tui.feeds.replay import ReplayFeed, replay_of_node

pytestmark = pytest.mark.skipif(not TMUX, reason="no tmux here; apt-get install tmux")
SIZES = ((120, 36), (80, 24))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RealNode]]:
    """ann, who has a group, and ben, who has data and nothing else."""
    base = tmp_path_factory.mktemp("evening")
    with real_nodes(base, "ann", "ben") as nodes:
        paths = digits_split(2, seed=7).write(base / "digits")
        for node, path in zip(nodes, paths, strict=True):
            node.client.add_data("digits", path)
        nodes[0].client.set_policy(["all"])
        yield nodes


def dashboard_of(node: RealNode, *options: str) -> list[str]:
    return [sys.executable, "-m", "node", "tui", "--home", str(node.home), *options]


def at_its_end(feed: ReplayFeed) -> State:
    """What a replay has told when it has been played to its end."""
    state = State()
    while not feed.head.is_ended:
        for event in feed.head.advance(1.0):
            state.apply(event, 0.0)
    return state


def choose(screen: Terminal, typed: str, name: str) -> None:
    """Ctrl+P, begin to type, Enter on the first that is found."""
    screen.press("C-p")
    screen.shows("Search for commands")
    screen.types(typed)

    def found_first() -> bool:
        lines = iter(screen.text.splitlines())
        below = [line.strip() for line in lines if typed not in line] if any(typed in line for line in lines) else []
        return next(filter(None, below), "").startswith(name)

    wait_until(found_first, f"{name} is what is found first")
    screen.press("Enter")


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_join_accept_watch_and_fetch_by_keys_alone(pair: list[RealNode], tmp_path: Path, size: tuple[int, int]) -> None:
    ann, ben = pair
    group = f"study-{size[0]}"
    group_id = ann.client.create_group(group)["group_id"]
    token = ann.client.invite(group=group)["token"]
    recording = tmp_path / "evening.ndjson.gz"
    with terminal(tmp_path, dashboard_of(ben, "--record", str(recording)), *size) as screen:
        screen.shows("● live", "ben")
        choose(screen, "join a group", "Join a group with a token")
        screen.shows("paste it")
        screen.pastes(token)
        screen.press("Enter")
        screen.shows(f"you are in {group} as member")
        assert group_id in {each["group_id"] for each in ben.client.groups()["groups"]}

        wait_until(lambda: "ben" in ann.connected_to(), "ann sees ben")
        config = CONFIGURATION.format(name=group, task=DIGITS, data="digits", rounds=3, nodes=2, timing=QUICK)
        run = str(ann.client.start_run(config, group=group)["run_id"])
        screen.shows(f"run {group}", "waits for your answer")
        screen.press("a")
        screen.shows(f"Accept {group}?", "proposes it.", "a data set of yours called digits", "y  yes")
        screen.press("y")
        screen.shows(f"accepted {group}")
        screen.shows("✓ FINISHED")
        assert ben.wait_for_end(run)["state"] == "FINISHED"

        screen.press("3")
        screen.shows("3/3", "✓ FINISHED")
        choose(screen, "get the model", f"Get the model of {group}")
        screen.shows("Enter carry out")
        screen.press("Enter")
        screen.shows("done", "Esc closes")
        screen.press("Escape")
        fetched = tmp_path / f"{group}.safetensors"
        assert fetched.stat().st_size > 10_000

        wait_until(lambda: "Esc closes" not in screen.text, "the window is closed")  # else it would be Alt+q
        screen.press("q")
        wait_until(lambda: screen.is_over, "the dashboard ends")

    watched = at_its_end(ReplayFeed(*read_recording(recording))).run(run)
    assert watched is not None
    assert (watched.state, watched.round) == ("FINISHED", 3), "what was watched can be played"
    replay = replay_of_node(str(ben.home), group, 1.0)
    state = at_its_end(replay)
    played = state.run(run)
    assert played is not None
    assert (played.state, played.round, played.accuracy) == ("FINISHED", 3, watched.accuracy)
    assert {part.state for part in played.participants} == {"FINISHED"}
    assert state.transfers, "updates went from node to node"
    assert state.curves[run].kinds()
    with terminal(tmp_path, dashboard_of(ben, "--replay", group, "--speed", "1"), *size) as screen:
        screen.shows(group)
        screen.press(*[">"] * 20)
        screen.shows("■ end", group, "✓ FINISHED")
        screen.press(*["<"] * 15, "Space")  # far enough from the end that it is not there again before it is held
        screen.shows("‖ held")


def test_a_node_that_goes_away_and_comes_back(pair: list[RealNode], tmp_path: Path) -> None:
    """The dashboard says so, goes on trying, and is as before by itself; at sizes that change under it."""
    ben = pair[1]
    with terminal(tmp_path, dashboard_of(ben), 120, 36) as screen:
        screen.shows("● live")
        ben.kill()
        screen.shows("✗ away", "node is not answering")
        for columns, lines in ((20, 5), (200, 60), (10, 2), (80, 24)):
            screen.resize(columns, lines)
        screen.shows("node is not answering")
        ben.start()
        screen.shows("● live")
        assert "not answering" not in screen.text
