"""The store's tables: which there are, how their file is opened, and whether it is sound."""
