"""What each codec costs and keeps in the demo: bytes a round and accuracy, four real nodes on this machine.

python tests/demo_codecs.py [CODEC ...]      prints the table; about half a minute a codec
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CODECS = ("fp32", "bf16", "int8")
NODES, ROUNDS = 4, 10
DEADLINE_S = 600.0


def told(codec: str) -> dict[str, Any]:
    """What `fednode demo --json` says in its last line."""
    command = [sys.executable, "-m", "node", "demo", "--codec", codec, "--json"]
    sizes = ["--nodes", str(NODES), "--rounds", str(ROUNDS)]
    done = subprocess.run(
        [*command, *sizes], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=DEADLINE_S
    )
    outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return outcome


def main(codecs: list[str]) -> None:
    print(f"{NODES} nodes, {ROUNDS} rounds; bytes sent by all nodes together, the starting model's included\n")
    print("| codec | bytes a round | accuracy after the first round | after the last |")
    print("| --- | --- | --- | --- |")
    for codec in codecs or CODECS:
        outcome = told(codec)
        first, final = outcome["accuracy_first"], outcome["accuracy_final"]
        print(f"| {codec} | {outcome['bytes_per_round']:,} | {100 * first:.1f} % | {100 * final:.1f} % |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
