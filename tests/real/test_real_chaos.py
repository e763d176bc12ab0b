"""The short form of `make chaos`: one script of faults, the aggregator's death among them, on four real nodes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import play
from fault_script import LINK_FAULTS, script

NODES, ROUNDS, SECONDS = 4, 8, 14.0
SEED = 32  # has what the first test asks for


def test_the_short_script_has_what_matters_and_is_the_same_every_time() -> None:
    faults = script(SEED, NODES, SECONDS)
    assert faults == script(SEED, NODES, SECONDS) != script(SEED + 1, NODES, SECONDS)
    kinds = {fault.kind for fault in faults}
    assert {"kill", "freeze"} < kinds
    assert kinds & set(LINK_FAULTS)
    assert any(fault.kind == "kill" and fault.target is None for fault in faults)


def test_a_run_survives_kills_freezes_and_broken_links_and_all_agree(tmp_path: Path) -> None:
    play(tmp_path, SEED, nodes=NODES, rounds=ROUNDS, seconds=SECONDS, say=print)
