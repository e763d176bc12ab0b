"""The running node: trio, libp2p (in one place), bulk transfer, workers, local API, command line.

The only room that touches a network.
"""
