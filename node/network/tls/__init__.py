"""Streams for blobs over TLS, beside the connections that have proved who is at their ends."""
