"""What a run leaves for its curves: series, thinned points, what befell it, what became of each update."""

from pathlib import Path
from typing import Any

from hostile_ground import CONFIGURATION, HostileGround, Life, on_hostile_ground

from node.api.node_service import Service
from node.api.service.service import MetricsQuery
from protocol.keys import RunId

NO_FILTERS: dict[str, Any] = {"after_round": None, "before_round": None, "node": None, "limit": 1000}


def service_of(life: Life) -> Service:
    service: Service = life.node.service
    return service


async def propose(ground: HostileGround, life: Life, *, rounds: int, nodes: int) -> RunId:
    text = CONFIGURATION.format(rounds=rounds, nodes=nodes, name="run", join_deadline_s=600.0, audit="full")
    text = text.replace('codec = "fp32"', 'codec = "fp32"\nnorm_max = 1000.0')
    return RunId((await service_of(life).start_run(text, None, None, {}))["run_id"])


def test_updates_say_what_became_of_each_and_norms_where_they_were_computed(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await propose(ground, lives[0], rounds=3, nodes=3)
        await ground.ended(run, lives)
        for life in lives:
            told = await service_of(life).curves.updates(run, NO_FILTERS)
            assert [row["round"] for row in told] == [3, 3, 3, 2, 2, 2, 1, 1, 1]
            assert {row["node_id"] for row in told} == {other.node.identity.node_id for other in lives}
            assert {(row["outcome"], row["audited"]) for row in told} == {("used", 2)}
            assert all(row["samples"] > 0 and row["bytes"] > 0 and row["weight"] > 0 for row in told)
        computed = [row["norm"] for row in told]
        assert all(norm is None or 0 < norm <= 1000.0 for norm in computed)
        assert any(computed), "under a full audit every voter computes norms"
        node = lives[1].node.identity.node_id
        mine = await service_of(lives[0]).curves.updates(run, {**NO_FILTERS, "node": node, "after_round": 1})
        assert [(row["round"], row["node_id"]) for row in mine] == [(3, node), (2, node)]
        assert mine[0]["node_name"]

    on_hostile_ground(tmp_path, test)


def test_the_timeline_tells_of_elections_ends_and_more_rounds(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        first = service_of(lives[0])
        run = await ground.propose(lives[0], rounds=2, nodes=3)
        await ground.ended(run, lives)
        await first.extend_run(run, 1)
        await ground.settled(lambda: not any(life.node.runs.known[run].is_over for life in lives), "the extension")
        await ground.ended(run, lives)
        kinds = [row["kind"] for row in await first.curves.timeline(run, 100)]
        assert kinds[0] == "started"
        assert "elected" in kinds
        assert [kind for kind in kinds if kind in ("finished", "resumed", "extended")].count("finished") == 2
        assert "extended" in kinds
        assert kinds[-1] == "finished"

    on_hostile_ground(tmp_path, test)


def test_a_lie_is_told_in_the_timeline(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await ground.propose(lives[0], rounds=1, nodes=3)
        await ground.ended(run, lives)
        chronicle = lives[0].node.runs.known[run].chronicle
        chronicle.log("ERROR", "fednode.run.deposed", "icu lied: two-issues. What it signed is kept in the journal")
        told = await service_of(lives[0]).curves.timeline(run, 100)
        assert [row["text"][:9] for row in told if row["kind"] == "deposed"] == ["icu lied:"]

    on_hostile_ground(tmp_path, test)


def test_curves_are_named_and_thinned_out(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(2)
        run = await ground.propose(lives[0], rounds=8, nodes=2)
        await ground.ended(run, lives)
        curves = service_of(lives[0]).curves
        (series,) = [row for row in await curves.series(run) if (row["scope"], row["key"]) == ("global", "accuracy")]
        assert (series["split"], series["class"], series["nodes"], series["last_round"]) == ("eval", None, 2, 8)
        wanted = MetricsQuery(scope="global", key="accuracy", class_="", node=lives[1].node.identity.node_id)
        whole = await curves.metrics(run, wanted)
        assert [row["round"] for row in whole] == list(range(9)), "the starting model too"
        thin = await curves.metrics(run, MetricsQuery(scope="global", key="accuracy", node=wanted.node, points=4))
        assert (thin[0], thin[-1]) == (whole[0], whole[-1])
        assert 2 <= len(thin) <= 4
        assert all(row in whole for row in thin)

    on_hostile_ground(tmp_path, test)
