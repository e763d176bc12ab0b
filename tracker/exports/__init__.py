"""The record as other tools read it: Parquet and TensorBoard's event files."""
