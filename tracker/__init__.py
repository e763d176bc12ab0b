"""The record: the DuckDB store, its named queries, the blob store. No network."""
