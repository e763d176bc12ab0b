"""Curves: newest value of a round, means, order of kinds."""

from tui.facts.curves import Curves, Kind


def metric(node, at, value, key="accuracy", scope="global", split="eval", epoch=None, step=None, samples=1, label=None):
    place = {"node_id": node, "round": at, "value": value, "key": key, "scope": scope, "split": split}
    return place | {"epoch": epoch, "step": step, "samples": samples, "class": label}


def only(curves):
    return curves.of(curves.kinds()[0])


def test_of_a_round_the_newest_epoch_and_step_stands_in_any_order():
    rows = [metric("n", 1, 0.1, epoch=1, step=9), metric("n", 1, 0.2, epoch=2, step=1), metric("n", 2, 0.3)]
    for order in (rows, rows[::-1]):
        curves = Curves()
        assert curves.add(order)
        assert only(curves).nodes == {"n": [(1, 0.2), (2, 0.3)]}


def test_adding_again_changes_nothing():
    curves = Curves()
    curves.add([metric("n", 1, 0.1)])
    revision = curves.revision
    assert not curves.add([metric("n", 1, 0.1)])
    assert curves.revision == revision


def test_a_round_done_again_replaces_its_value():
    curves = Curves()
    curves.add([metric("n", 1, 0.1)])
    assert curves.add([metric("n", 1, 0.5)])
    assert only(curves).nodes["n"] == [(1, 0.5)]


def test_without_a_mean_from_the_node_it_is_weighted_by_samples():
    curves = Curves()
    curves.add([metric("a", 1, 0.0, samples=1), metric("b", 1, 1.0, samples=3), metric("b", 2, 0.5, samples=0)])
    assert only(curves).mean == [(1, 0.75), (2, 0.5)]


def test_the_nodes_own_mean_goes_before_ours():
    curves = Curves()
    curves.add([metric("a", 1, 0.0), metric("", 1, 0.9)])
    assert only(curves).mean == [(1, 0.9)]
    assert list(only(curves).nodes) == ["a"]


def test_what_is_no_number_is_left_out():
    curves = Curves()
    assert not curves.add(
        [metric("a", 1, None), metric("a", 1, float("nan")), metric("a", 1, 1e200), metric("a", 1, "x")]
    )
    assert curves.kinds() == []
    assert curves.latest(Kind("global", "eval", "accuracy"), "a") is None


def test_the_most_telling_kinds_come_first():
    curves = Curves()
    curves.add(
        [
            metric("a", 1, 0.1, key="recall", label="3"),
            metric("a", 1, 0.1, key="loss", scope="local", split="train"),
            metric("a", 1, 0.1, key="loss"),
            metric("a", 1, 0.1),
        ]
    )
    assert [(kind.scope, kind.key, kind.label) for kind in curves.kinds()] == [
        ("global", "accuracy", ""),
        ("global", "loss", ""),
        ("local", "loss", ""),
        ("global", "recall", "3"),
    ]
