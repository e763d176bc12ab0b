"""The network seam over libp2p, the door, links to peers, questions, and bulk transfer."""
