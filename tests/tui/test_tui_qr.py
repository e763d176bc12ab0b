"""QR codes of half blocks: read back square by square, and compared with what the standard's encoder says."""

import pytest
import segno

from tui.drawing.qr import QUIET_MODULES, QUIET_MODULES_LEAST, qr_picture, qr_size

TOKEN = "FEDNODE1-" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" * 11
HALVES = {" ": (1, 1), "▀": (0, 1), "▄": (1, 0), "█": (0, 0)}  # 1: dark, as in segno's matrix


def squares(picture):
    """The drawing as rows of squares, two rows for each line."""
    rows = []
    for line in picture.lines:
        text = "".join(span.text for span in line).ljust(picture.width)
        rows += [[HALVES[char][half] for char in text] for half in (0, 1)]
    return rows


@pytest.mark.parametrize("text", ["A", "fednode1-abc", TOKEN, "é" * 40])
def test_the_drawing_is_the_code_with_its_frame(text):
    picture = qr_picture(text, 200, 100)
    code = [list(row) for row in segno.make_qr(text, error="l").matrix]
    side, read = len(code) + 2 * QUIET_MODULES, squares(picture)
    assert (picture.width, picture.height) == (side, (side + 1) // 2)
    inner = [row[QUIET_MODULES:-QUIET_MODULES] for row in read[QUIET_MODULES : QUIET_MODULES + len(code)]]
    assert inner == code
    frame = read[:QUIET_MODULES] + read[QUIET_MODULES + len(code) : side]
    assert not any(map(any, frame))
    assert all(set(row[:QUIET_MODULES] + row[-QUIET_MODULES:]) == {0} for row in read[:side])


def test_its_colours_do_not_depend_on_the_theme():
    assert {span.style for line in qr_picture(TOKEN, 200, 100).lines for span in line} == {"qr"}


def test_the_frame_shrinks_before_the_code_is_refused():
    columns, lines = qr_size(TOKEN)
    least = qr_picture(TOKEN, columns, lines)
    assert (least.width, least.height) == (columns, lines)
    code = segno.make_qr(TOKEN, error="l").matrix
    assert columns == len(code) + 2 * QUIET_MODULES_LEAST
    for width, height in ((columns - 1, lines), (columns, lines - 1), (0, 0), (3, 1), (-1, -1)):
        told = qr_picture(TOKEN, width, height)
        assert "█" not in told.plain()
        assert told.width == max(width, 0)


def test_it_says_how_much_room_it_needs():
    columns, lines = qr_size(TOKEN)
    told = qr_picture(TOKEN, 60, 20, (7, 2)).plain()
    assert f"needs a terminal of {columns + 7} × {lines + 2} cells" in told
    assert "this one has 67 × 22." in told


def test_what_no_code_can_hold_is_said():
    assert "too long for a QR code" in qr_picture("x" * 5000, 200, 100).plain()
    assert qr_size("x" * 5000) == (0, 0)


def test_capitals_make_a_smaller_code():
    assert qr_size(TOKEN) < qr_size(TOKEN.lower())
