"""The record seam on the store, and what is kept in it: rows, models, artifacts, for how long."""
