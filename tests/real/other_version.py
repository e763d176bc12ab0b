"""`fednode` as a program of another protocol version would be: `other_version.py VERSION ARGUMENTS`."""

import sys

from protocol import version

version.PROTOCOL_VERSION = int(sys.argv.pop(1))  # before anything has read it

from node.cli import main  # noqa: E402

main()
