"""Tokens as QR codes, drawn for a terminal."""

import io
import shutil
import sys

import click


def qr_code(token: str) -> str:
    """The token as a QR code of half blocks, light on dark; in capitals, which make it smaller and mean the same."""
    import segno

    code, drawn = segno.make_qr(token.upper(), error="l"), io.StringIO()
    code.terminal(drawn, border=2, compact=True)
    lines = drawn.getvalue().splitlines()
    width = shutil.get_terminal_size().columns
    if len(lines[0]) > width:
        return (
            f"The QR code is {len(lines[0])} columns wide and this terminal {width}: make it wider, or send the text."
        )
    white_on_black = click.style("", fg="bright_white", bg="black", reset=False) if sys.stderr.isatty() else ""
    return "\n".join(f"{white_on_black}{line}{click.style('') if white_on_black else ''}" for line in lines)
