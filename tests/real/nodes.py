"""Real nodes for tests: many at once, the processes that live for them, and a group that trains."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from real_node import ENDED as ENDED
from real_node import STOP_S as STOP_S
from real_node import Json as Json
from real_node import RealNode as RealNode
from real_node import wait_until as wait_until

from fednode import NodeNotRunning


# --- many nodes ------------------------------------------------------------------------------------------------
def start_all(nodes: Iterable[RealNode]) -> None:
    """Start them at once."""
    launched = [node for node in nodes if not node.is_running]
    for node in launched:
        node.launch()
    for node in launched:
        node.ready()


def wait_until_connected(nodes: list[RealNode]) -> None:
    names = {node.name for node in nodes}
    for node in nodes:
        wait_until(lambda node=node: node.connected_to() >= names - {node.name}, f"{node.name} meets all")


@contextmanager
def real_nodes(
    base: Path, *names: str, breakable: bool = False, kind: type[RealNode] = RealNode
) -> Iterator[list[RealNode]]:
    """Running nodes, which end with the context; none of their processes may outlive it, and no stranger's byte may
    have reached a handler."""
    nodes = [kind(base, name, breakable=breakable) for name in names]
    try:
        start_all(nodes)
        yield nodes
        for node in nodes:
            if node.is_running:
                assert node.client.status()["stranger_bytes"] == 0
                assert node.end() < STOP_S, f"{node.name} stopped too slowly"
                assert node.exit_code == 0, node.stderr()
            assert not node.broken_lines(), "\n".join([f"the log of {node.name} says:", *node.broken_lines()])
        wait_until(lambda: not processes_of(base), "all processes end")
    finally:
        for node in nodes:
            if node.is_running:
                node.kill()


def processes_of(base: Path) -> list[psutil.Process]:
    """Every process that lives for a node below `base`: nodes have it in their command line, workers work there."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(base) in f"{process.cmdline()} {process.cwd()}" and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def check_nothing_stays_behind(base: Path, nodes: Iterable[RealNode]) -> None:
    """Between tests there are the running nodes, and no worker: all runs have ended."""
    ours = {node.pid for node in nodes if node.is_running}
    wait_until(lambda: {process.pid for process in processes_of(base)} <= ours, "only the nodes themselves are left")


# --- a group that trains ---------------------------------------------------------------------------------------
MEAN_TASK = Path(__file__).parent / "mean_task.py"
DIGITS = '[task]\nname = "digits"\n'
# Training that takes a moment leaves time to do something in a round.
MEAN = f'[task]\npath = "{MEAN_TASK}"\n[task.parameters]\npause_s = {{pause_s}}\n'
CONFIGURATION = """
name = "{name}"
seed = 7
{task}
[data]
name = "{data}"
[training]
rounds = {rounds}
[roster]
nodes_min = {nodes}
{timing}
"""
QUICK = "[timing]\nheartbeat_s = 0.3\nelection_timeout_s = 1.5\nrank_step_s = 0.3\nlost_after_s = 3\n"
ENDLESS = 100_000  # rounds of a run that the test will stop


class Study:
    """Nodes of one group that all have digits of their own and accept every run."""

    def __init__(self, nodes: list[RealNode], base: Path) -> None:
        self.nodes = nodes
        self.base = base
        self._runs = 0
        self._knows_task = False

    def form(self) -> None:
        """The first creates the group, the others join; everybody gets a data set and a policy."""
        from node.data.shares import digits_split

        first, *others = self.nodes
        paths = digits_split(len(self.nodes), seed=7).write(self.base / "digits")
        first.client.create_group("study")
        token = first.client.invite(uses=len(self.nodes))["token"]
        for node in others:
            node.client.join(token)
        for node, path in zip(self.nodes, paths, strict=True):
            node.client.add_data("digits", path)
            node.client.set_policy(["all"])
        wait_until_connected(self.nodes)

    def propose(
        self,
        by: RealNode,
        rounds: int = ENDLESS,
        task: str = "",
        *,
        pause_s: float = 0.05,
        until: Path | None = None,
        data: str = "digits",
        timing: str = QUICK,
    ) -> str:
        """Propose a run that needs all of the nodes, of the task in mean_task.py if not told otherwise; its id."""
        self._runs += 1
        config = CONFIGURATION.format(
            name=f"run-{self._runs}",
            task=task or MEAN.format(pause_s=pause_s) + (f'until = "{until}"\n' if until else ""),
            data=data,
            rounds=rounds,
            nodes=len(self.nodes),
            timing=timing,
        )
        run = str(by.client.start_run(config)["run_id"])
        if not task:
            self._have_task_accepted(by, run)
        return run

    def _have_task_accepted(self, by: RealNode, run: str) -> None:
        """The first time each owner must say where the task's file is; from then on their node knows it."""
        if not self._knows_task:
            for node in self.nodes:
                if node is not by:
                    node.wait_for_run(run, lambda seen: seen["decision"] == "declined", "the want of the file")
                    node.client.accept(run, task=MEAN_TASK)
            self._knows_task = True

    def heal(self) -> None:
        """Thaw who is frozen, start who is not running, make whole all links that can be broken."""
        for node in self.nodes:
            if node.is_running:
                node.thaw()
            for other in self.nodes if node.is_breakable else ():
                node.mend_link(other)
        start_all(self.nodes)
        wait_until_connected(self.nodes)

    def clear(self) -> None:
        """Stop what a failed test has left going on."""
        for node in self.nodes:
            mine = [run for run in node.client.runs()["runs"] if run["proposer_name"] == node.name]
            for run in mine:
                if run["state"] not in ENDED:
                    node.client.stop_run(run["run_id"], "the test has failed")
                    self.all_end(run["run_id"])

    def aggregator_of(self, run: str) -> RealNode:
        ids = {node.node_id: node for node in self.nodes if node.is_running}

        def reigning() -> RealNode | None:
            views = [node.client.run(run)["aggregator"] for node in ids.values()]
            return ids.get(views[0]) if len(set(views)) == 1 else None

        return wait_until(reigning, "all agree on the aggregator")

    def all_end(self, run: str) -> list[Json]:
        return [node.wait_for_end(run) for node in self.nodes if node.is_running]

    def check_same_commits(self, run: str) -> dict[int, tuple[str, str]]:
        """No two running nodes hold different checkpoints of one round, and all have the same newest model. Gives what
        they hold together; one who was away holds less."""
        nodes = [node for node in self.nodes if node.is_running]
        together: dict[int, tuple[str, str]] = {}
        for node in nodes:
            commits = node.committed(run)
            assert commits == {**commits, **{key: together[key] for key in commits.keys() & together.keys()}}
            together |= commits
        newest = {b"".join(node.client.model(run)) for node in nodes}
        assert len(newest) == 1
        return together

    def takes_part(self, node: RealNode, run: str) -> bool:
        """Whether the newest round that another running node knows of has an update of every node."""
        other = next(other for other in self.nodes if other.is_running and other is not node)
        return bool(other.client.rounds(run)["rounds"][-1]["updates_used"] == len(self.nodes))


def is_gone(node: RealNode) -> bool:
    try:
        node.client.status()
    except NodeNotRunning:
        return True
    return False
