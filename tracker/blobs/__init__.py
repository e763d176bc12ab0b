"""Bytes named by their hash: chunks, halves on their way in, and whole ones, each a file."""
