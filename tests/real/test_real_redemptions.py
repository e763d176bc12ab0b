"""One invitation for one, redeemed by two while the members are apart, over real sockets."""

from pathlib import Path

from nodes import check_nothing_stays_behind, real_nodes, wait_until


def test_who_came_second_is_told_why_it_is_out(tmp_path: Path) -> None:
    """§3.46: on its own node, by the command line, in words; and another invitation lets it in."""
    with real_nodes(tmp_path, "ann", "ben", "eve", "fay") as nodes:
        ann, ben, eve, fay = nodes
        ann.told("group", "create", "street")
        ben.told("join", ann.told("invite")["token"])
        heard = "ann has heard where ben's entrance is"
        wait_until(
            lambda: next(peer for peer in ann.client.peers()["peers"] if peer["name"] == "ben")["version"], heard
        )
        token = ann.told("invite")["token"]
        heads = ann.client.group("street")["heads"]
        wait_until(lambda: ben.client.group("street")["heads"] == heads, "ben knows the invitation")
        ann.end()
        assert eve.told("join", token)["admitted_by"] == "ben"
        ben.end()
        eve.end()
        ann.start()
        assert fay.told("join", token)["admitted_by"] == "ann"
        ben.start()
        eve.start()

        def members() -> list[set[str]]:
            seen = [node.client.group("street")["members"] for node in (ann, ben)]
            return [{node["name"] for member in one for node in member["nodes"]} for one in seen]

        wait_until(lambda: members() in ([{"ann", "ben", "eve"}] * 2, [{"ann", "ben", "fay"}] * 2), "one stays")
        out = fay if "eve" in members()[0] else eve

        told = "another joiner was admitted first with this invitation; ask for a new one"
        wait_until(lambda: told in str(out.client.group("street")), "it is told why it is out")
        assert told in " ".join(out.cli("group", "show", "street").stdout.split())
        out.told("join", ann.told("invite")["token"])
        wait_until(lambda: all(out.name in names for names in members()), "another invitation lets it in")
        check_nothing_stays_behind(tmp_path, nodes)
