"""Bulk transfer: blobs served and fetched, chunk by chunk, from many at once, at the pace that the owner sets."""
