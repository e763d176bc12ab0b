"""The network over libp2p, and the only place that imports it: the host, the door in it, gossip, streams."""
