"""What /v1/devices says of the recorded nodes: ours is measured and has a GPU, two others announce themselves."""

import math
from datetime import UTC, datetime, timedelta

from tui_fakes import recorded

END = datetime(2026, 11, 21, 14, 0, 20, tzinfo=UTC)
IDS = [peer["node_id"] for peer in recorded()[0]["peers"]]


def line(value_of, every_s, since_s=3600, until_s=0):
    """Points of the hour before END, one in `every_s` seconds."""
    count = (since_s - until_s) // every_s
    times = [END - timedelta(seconds=until_s + every_s * (count - 1 - index)) for index in range(count)]
    return [[f"{time:%Y-%m-%dT%H:%M:%S}Z", value_of(index / max(count - 1, 1))] for index, time in enumerate(times)]


def announced(load, away_s=0):
    """What a node told of itself until `away_s` before the end."""
    return {
        "load_1m": line(lambda part: load * (1 + math.sin(9 * part)), 60, until_s=away_s),
        "memory_percent": line(lambda part: 30 + 12 * part, 60, until_s=away_s),
        "memory_bytes": line(lambda part: (30 + 12 * part) * 343_597_383, 60, until_s=away_s),
        "disk_free_bytes": line(lambda part: 412e9 - 9e9 * part, 60, until_s=away_s),
    }


MEASURED = {
    "cpu_percent": line(lambda part: 50 + 48 * math.sin(14 * part), 40),
    "memory_percent": line(lambda part: 34 + 30 * (part > 0.5), 40),
    "disk_bytes": line(lambda part: 88e9 + 2e9 * part, 40),
    "disk_free_bytes": line(lambda part: 412e9 - 2e9 * part, 40),
    "network_received_bytes_per_s": line(lambda part: 6e6 * max(math.sin(40 * part), 0), 40),
    "network_sent_bytes_per_s": line(lambda part: 1e6 * max(math.sin(40 * part), 0), 40),
    "gpu_percent": line(lambda part: 99 * part, 40),
}


def change(minutes_ago, state, reason=""):
    return {"time": f"{END - timedelta(minutes=minutes_ago):%Y-%m-%dT%H:%M:%S}Z", "state": state, "reason": reason}


def device(number, samples, *history):
    return {"node_id": IDS[number], "name": "", "samples": samples, "history": list(history)}


ANSWERS = {
    "devices": {
        "devices": [
            device(
                0,
                MEASURED,
                change(3000, "STARTED"),
                change(410, "STARTED", "had not been stopped in order"),
                change(62, "STOPPED"),
                change(61, "STARTED"),
            ),
            device(1, announced(2.0), change(300, "HERE")),
            device(2, announced(0.4, away_s=900), change(200, "HERE"), change(15, "AWAY", "after 3 h")),
            device(3, {}, change(4, "HERE")),
        ]
    }
}
