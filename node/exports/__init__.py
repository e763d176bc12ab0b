"""Runs as files and in other tools: MLflow, TensorBoard, reports, plots."""
