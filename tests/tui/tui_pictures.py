"""Screens as they should look, character by character, in files of their own.

Set FEDNODE_REDRAW=1 to write the pictures under tests/tui/pictures anew; look at them before you keep them.
"""

import os
from pathlib import Path

PICTURES = Path(__file__).with_name("pictures")
SIZES = ((80, 24), (120, 36), (200, 60))


def compare(name, text):
    """`text` is the picture of that name, to the last character."""
    path = PICTURES / f"{name}.txt"
    if os.environ.get("FEDNODE_REDRAW"):
        PICTURES.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
