"""Reads with MLflow's own client, or TensorBoard's own reader, what was exported, and prints it as JSON.

Run by the Python that has them:  export_readback.py mlflow URI RUN_ID  |  export_readback.py tensorboard FOLDER
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any


def artifact_files(client: Any, run_id: str, folder: str | None) -> list[str]:
    found = []
    for artifact in client.list_artifacts(run_id, folder):
        found += artifact_files(client, run_id, artifact.path) if artifact.is_dir else [artifact.path]
    return found


def mlflow_runs(uri: str, run_id: str) -> list[dict[str, Any]]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = []
    for run in client.search_runs(experiments, f"tags.`fed.run_id` = '{run_id}'"):
        info = run.info
        points = [
            [key, point.step, point.timestamp, repr(float(point.value))]
            for key in run.data.metrics
            for point in client.get_metric_history(info.run_id, key)
        ]
        artifacts = {}
        for path in artifact_files(client, info.run_id, None):
            content = Path(client.download_artifacts(info.run_id, path)).read_bytes()
            artifacts[path] = hashlib.sha256(content).hexdigest()
        told = {"id": info.run_id, "status": info.status, "start": info.start_time, "end": info.end_time}
        told |= {"experiment": client.get_experiment(info.experiment_id).name, "points": sorted(points)}
        found.append(told | {"params": run.data.params, "tags": run.data.tags, "artifacts": artifacts})
    return found


def tensorboard_scalars(folder: str) -> dict[str, list[Any]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for place in sorted(path for path in Path(folder).iterdir() if path.is_dir()):
        accumulator = EventAccumulator(str(place), size_guidance={"scalars": 0})
        accumulator.Reload()
        found[place.name] = sorted(
            [tag, scalar.step, scalar.wall_time, repr(scalar.value)]
            for tag in accumulator.Tags()["scalars"]
            for scalar in accumulator.Scalars(tag)
        )
    return found


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    print(json.dumps({"mlflow": mlflow_runs, "tensorboard": tensorboard_scalars}[kind](*arguments)))
