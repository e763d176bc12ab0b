"""`fednode demo`: real nodes on this machine that train one model."""
