"""A node's list of many runs, for tests: answers pages as docs/api.md has them, and remembers what was asked."""

from datetime import UTC, datetime, timedelta

from tui_fakes import FakeClient

START = datetime(2026, 11, 1, tzinfo=UTC)


def run_json(at, **changes):
    ended = at % 50 != 0
    return {
        "run_id": f"{at:08x}",
        "name": f"study-{at}",
        "project": f"project-{at % 4}",
        "experiment": "baseline",
        "task": "digits",
        "data": "digits",
        "state": ("FAILED" if at % 10 == 1 else "FINISHED") if ended else "RUNNING",
        "round": 20 if ended else 5,
        "rounds": 20,
        "accuracy": (at * 37 % 1000) / 1000,
        "loss": 0.5,
        "seconds_left": None if ended else 750.0,
        "created_at": (START + timedelta(minutes=at)).isoformat(),
        "started_at": (START + timedelta(minutes=at)).isoformat(),
        "ended_at": (START + timedelta(minutes=at + 4)).isoformat() if ended else None,
        "decision": "accepted",
        **changes,
    }


class ListClient(FakeClient):
    """Sorts by creation or accuracy, finds one word in names and states, and groups; 10,000 runs if wanted."""

    def __init__(self, runs=1000, answers=None):
        self.all_runs = [run_json(at) for at in range(runs)]
        newest = [{**run, "participants": []} for run in reversed(self.all_runs[-100:])]
        super().__init__([{"type": "snapshot", "status": {}, "runs": newest, "runs_total": runs}], answers)
        self.pages = []

    async def ask(self, *parts, **filters):
        if parts == ("runs",):
            self.pages.append(filters)
            return self._page(**filters)
        if parts == ("projects",):
            found = self._found(filters.get("text", ""))
            names = sorted({run["project"] for run in found})
            return {"projects": [{"project": n, "runs": sum(r["project"] == n for r in found)} for n in names]}
        if len(parts) == 2 and parts[0] == "runs":
            found = next(run for run in self.all_runs if run["run_id"] == parts[1])
            at = int(parts[1], 16)
            manifest = {
                "name": found["name"],
                "training": {"rounds": 20, "learning_rate": 0.1 * (1 + at % 2)},
                "seed": at,
            }
            return {**found, "participants": [], "manifest": manifest}
        return await super().ask(*parts, **filters)

    def _found(self, text):
        return [run for run in self.all_runs if all(w in f"{run['name']} {run['state']}".lower() for w in text.split())]

    def _page(self, limit, offset=0, sort="created", descending=True, text="", state="", by_project=False, brief=False):
        key = {"created": "created_at"}.get(sort, sort)
        found = sorted(self._found(f"{text} {state}".lower()), key=lambda run: run[key], reverse=descending)
        if by_project:
            found.sort(key=lambda run: run["project"])
        return {"runs": found[offset : offset + limit], "total": len(found)}
