"""The demo's story: nodes start, data is dealt out, a group forms, a run is proposed, accepted, and trained to its end.

A node that somebody ends while the run goes on is no failure of the demo: the others go on, and so does the story.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from fednode_client import ClientError
from node.cli.show import size
from node.demo.processes import Children, DemoNode, free_ports, start_node
from node.demo.scorer import Dealt, Scorer
from node.demo.screen import Screen
from node.demo.words import Curves, configuration
from protocol.errors import FednodeError

POLL_S = 0.3  # rounds take about as long, and asking costs the node a query
STALL_S = 120.0  # nothing new of a run for so long: something is wrong, and nobody should wait for it
END_S = 2.0  # a node that does not answer any more is given so long to be known to have ended
POLICY = ("mine", "task:digits")  # what each node accepts without asking its owner
ENDED = frozenset({"FINISHED", "STOPPED", "FAILED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came of it. `run` as the API gives it, None without training; `held_out`: digits that nobody trains on."""

    run: dict[str, Any] | None = None
    curves: Curves = field(default_factory=Curves)
    held_out: int = 0
    bytes_sent: int = 0
    bytes_trained: int = 0  # of these, while the run went on
    model_bytes: int = 0

    def facts(self) -> list[tuple[str, str]]:
        """Names and values for people."""
        sent = [("bytes sent", f"{size(self.bytes_sent)} by all nodes together")]
        if self.run is None:
            return sent
        elections = "1 election" if self.run["elections"] == 1 else f"{self.run['elections']} elections"
        return [
            (
                "aggregator",
                f"{self.run['aggregator_name']}, chosen in {elections}; end a node midway: the rest go on",
            ),
            (sent[0][0], f"{sent[0][1]}; the model has {size(self.model_bytes)}"),
        ]


class Story:
    """Tell it once."""

    def __init__(self, nodes: int, rounds: int, codec: str, folder: Path, children: Children, screen: Screen) -> None:
        self._count = nodes
        self._rounds = rounds
        self._codec = codec
        self._folder = folder
        self._children = children
        self._screen = screen
        self._nodes: list[DemoNode] = []
        self._is_training = False

    async def tell(self) -> Told:
        """From the first process to the last round. Raises FednodeError and ClientError."""
        self._screen.introduce(self._count)
        scorer = Scorer(
            self._children,
            self._folder / "data",
            nodes=self._count,
            rounds=self._rounds,
            home=lambda place: self._node_that_is_up(place).home,
            scored=lambda number, accuracy: self._screen.scored(number, self._rounds, accuracy),
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scorer.run)
            await self._start_nodes()
            for node in self._nodes:
                nursery.start_soon(self._watch, node)
            dealt = await self._deal_out(scorer)
            await self._form_group()
            before = await self._bytes_sent()
            run = await self._train(scorer) if self._rounds else None
            sent = await self._bytes_sent()
            told = Told(
                run=run,
                curves=scorer.curves,
                held_out=sum(dealt.held_out),
                bytes_sent=sent,
                bytes_trained=sent - before,
                model_bytes=scorer.model_bytes,
            )
            nursery.cancel_scope.cancel()
        return told

    # --- before the run ------------------------------------------------------------------------------------------
    async def _start_nodes(self) -> None:
        self._screen.begin(f"{self._count} nodes start, each with its own keys and its own folder")
        ports = free_ports(self._count)

        async def start(number: int) -> None:
            name = f"node-{number}"
            self._nodes.append(await start_node(self._children, name, self._folder / name, ports[number]))

        async with trio.open_nursery() as nursery:
            for number in range(self._count):
                nursery.start_soon(start, number)
        self._nodes.sort(key=lambda node: ports.index(node.port))
        self._screen.done(f"{self._count} nodes are up, each with its own keys and its own folder")

    async def _watch(self, node: DemoNode) -> None:
        """Notice when a node ends. Raises FednodeError unless the others can go on without it."""
        status = await node.process.wait()
        node.is_up = False
        if not self._is_training:
            raise FednodeError(f"{node.name} has ended with status {status}", remedy=f"see {node.home / 'node.log'}")
        self._screen.say(f"! {node.name} has ended; the others go on", style="yellow")

    async def _deal_out(self, scorer: Scorer) -> Dealt:
        self._screen.begin("Real handwritten digits are dealt out")
        dealt = await scorer.dealt()
        for node, file in zip(self._nodes, dealt.files, strict=True):
            await node.client.add_data("digits", file)
        total = sum(map(sum, [*dealt.shares, dealt.held_out]))
        self._screen.done(f"{total:,} real handwritten digits are dealt out, unevenly as in life")
        self._screen.shares(dealt.shares, dealt.held_out)
        return dealt

    async def _form_group(self) -> None:
        self._screen.begin("The nodes form a group")
        founder, *others = self._nodes
        await founder.client.create_group("demo")
        for node in others:
            invitation = await founder.client.invite()
            await node.client.join(invitation["token"])
        for node in self._nodes:
            await node.client.set_policy(POLICY)
        self._screen.done(f"node-0 began a group; {len(others)} joined, each by an invitation of its own")

    # --- the run -------------------------------------------------------------------------------------------------
    async def _train(self, scorer: Scorer) -> dict[str, Any]:
        self._screen.begin("node-0 proposes a run, and each node decides whether to take part")
        proposed = await self._nodes[0].client.start_run(configuration(self._count, self._rounds, self._codec))
        self._is_training = True
        run = await self._follow(proposed["run_id"], scorer)
        if run["state"] != "FINISHED":
            raise FednodeError(f"The run {run['state'].lower()}: {run['reason']}", remedy="see the nodes' node.log")
        await scorer.measured(run["round"])  # so that the last round's line stands before
        self._screen.done(f"{run['round']} rounds are trained, each committed by a majority of the nodes")
        self._screen.begin("To compare: the same with each share alone, and all in one place")
        await scorer.complete(run["round"])
        self._screen.done("To compare: the same with each share alone, and all in one place")
        return run

    async def _follow(self, run_id: str, scorer: Scorer) -> dict[str, Any]:
        """Show the run until it has ended; every round's checkpoint is scored. Raises FednodeError when it stalls."""
        is_begun, before, since = False, None, trio.current_time()
        pids = {node.name: node.process.pid for node in self._nodes}
        while True:
            run = await self._run(run_id)
            if run["aggregator_name"] and not is_begun:
                is_begun = True
                self._screen.done("node-0 proposed a run; every node's own rule accepted it")
                self._screen.begin("")
            await scorer.ask_up_to(run_id, run["round"])
            self._screen.training(run, scorer.curves, pids)
            if run["state"] in ENDED:
                return run
            now = (run["state"], run["round"], run["term"], run["participants"])
            if now != before:
                before, since = now, trio.current_time()
            elif trio.current_time() - since > STALL_S:
                raise FednodeError(
                    f"Nothing new of the run for {STALL_S:.0f} s ({run['note'] or run['state']})",
                    remedy="see the nodes' node.log",
                )
            await trio.sleep(POLL_S)

    async def _run(self, run_id: str) -> dict[str, Any]:
        """The run as a node sees it that is up: the first, or who is left. Raises FednodeError when none is."""
        while True:
            node = self._node_that_is_up()
            try:
                run = await node.client.run(run_id)
            except ClientError:
                with trio.move_on_after(END_S):
                    await node.process.wait()
                if node.process.returncode is None:
                    raise
                node.is_up = False
            else:
                for entry in run["participants"]:
                    if entry["name"] == node.name and entry["state"] == "FAILED":
                        raise FednodeError(f"{node.name} failed: {entry['reason']}", remedy="see the nodes' node.log")
                return run

    def _node_that_is_up(self, place: int = 0) -> DemoNode:
        """The first, or another one for another `place`. Raises FednodeError when none is left."""
        up = [node for node in self._nodes if node.is_up]
        if up:
            return up[place % len(up)]
        raise FednodeError("No node of the demo is left", remedy="run it again, and leave it a majority of its nodes")

    async def _bytes_sent(self) -> int:
        """By the nodes that are up."""
        total = 0
        for node in self._nodes:
            if node.is_up:
                total += (await node.client.status())["bytes_sent"]
        return total
