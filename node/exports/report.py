"""A run as one page that stands alone: no script, no request, light or dark as its reader has it.

Everything in it that other people wrote goes through `text`; a policy in the page's head forbids the browser the rest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from node.exports.plots import Drawing, plain
from node.exports.plots_svg import style, svg

ROWS_SHOWN_MAX = 2000  # of one table; the record has the rest
Row = Sequence[object]

_STYLE = """
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem;max-width:72rem;background:var(--page);color:var(--ink);
  font:15px/1.45 ui-sans-serif,system-ui,sans-serif}
header{overflow-wrap:anywhere}h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .6rem}
p{margin:.3rem 0}.quiet{color:var(--quiet)}.bad{color:var(--bad);font-weight:600}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:.6rem;margin:1rem 0}
.facts div{border:1px solid var(--grid);border-radius:6px;padding:.5rem .7rem}
.facts b{display:block;font-size:1.15rem;font-weight:600;overflow-wrap:anywhere}
.facts span{color:var(--quiet);font-size:.85rem}
.curves{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(27rem,100%),1fr));gap:1rem}
figure{margin:0}.wide svg{min-width:44rem}
h3{font-size:.95rem;margin:1.2rem 0 .4rem}svg{width:100%;height:auto;display:block}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.87rem;min-width:50%}
th,td{text-align:left;padding:.25rem .9rem .25rem 0;border-bottom:1px solid var(--grid);vertical-align:top}
th{color:var(--quiet);font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
td:first-child,td code{white-space:nowrap}
code{font:.85em ui-monospace,monospace;overflow-wrap:anywhere}summary{cursor:pointer;margin:.6rem 0}
@media print{body{max-width:none;padding:0;font-size:10pt}
  figure,tr,.facts div{break-inside:avoid}h2,h3{break-after:avoid}
  .scroll{overflow:visible}.wide svg{min-width:0}}
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: a heading, and HTML that was made by the functions below."""

    title: str
    html: str


def text(value: object) -> str:
    """`value` for a page: escaped, one line, nothing that turns the writing around."""
    return escape(plain("–" if value is None else value), quote=True)


def code(value: object) -> str:
    return f"<code>{text(value)}</code>"


def facts(entries: Iterable[tuple[str, object]]) -> str:
    """Figures at a glance; what has no value is left out."""
    shown = [
        f"<div><span>{text(name)}</span><b>{text(value)}</b></div>" for name, value in entries if value is not None
    ]
    return f'<div class="facts">{"".join(shown)}</div>'


def table(columns: Sequence[str], rows: Sequence[Row], *, codes: Sequence[int] = ()) -> str:
    """Rows of plain values; numbers stand to the right, the columns `codes` in a typewriter's letters."""
    right = [bool(rows) and all(_is_number(row[place]) for row in rows) for place in range(len(columns))]
    head = "".join(f"<th{_align(right[place])}>{text(name)}</th>" for place, name in enumerate(columns))
    body = "\n".join(f"<tr>{_cells(row, right, codes)}</tr>" for row in rows[:ROWS_SHOWN_MAX])
    left_out = len(rows) - ROWS_SHOWN_MAX
    note = f'<p class="quiet">{left_out} more rows are in the record.</p>' if left_out > 0 else ""
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}'


def _cells(row: Row, right: Sequence[bool], codes: Sequence[int]) -> str:
    return "".join(
        f"<td{_align(right[place])}>{code(value) if place in codes and value else _words(value)}</td>"
        for place, value in enumerate(row)
    )


def _words(value: object) -> str:
    return f"<bdi>{text(f'{value:.4g}' if isinstance(value, float) else value)}</bdi>"


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _align(right: bool) -> str:
    return ' class="n"' if right else ""


def heading(words: str) -> str:
    return f"<h3>{text(words)}</h3>"


def folded(summary: str, html: str) -> str:
    return f"<details><summary>{text(summary)}</summary>{html}</details>"


def note(words: str) -> str:
    return f'<p class="quiet">{text(words)}</p>'


def drawings(several: Iterable[Drawing], *, wide: bool = False) -> str:
    """Pictures beside each other where there is room; `wide` ones below each other, to be moved in a narrow one."""
    figures = "".join(f"<figure>{svg(drawing, alone=False)}</figure>" for drawing in several)
    return f'<div class="{"wide scroll" if wide else "curves"}">{figures}</div>'


def page(title: str, lead: str, trouble: str, sections: Sequence[Section], made: str) -> str:
    """The whole page. `lead` and `trouble` are words under the title; `made` says when and by what it was made."""
    body = "\n".join(f"<section><h2>{text(each.title)}</h2>\n{each.html}</section>" for each in sections)
    warning = f'<p class="bad">{text(trouble)}</p>' if trouble else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<style>{style(":root")}{_STYLE}</style>
</head>
<body>
<header><h1><bdi>{text(title)}</bdi></h1>
<p class="quiet">{text(lead)}</p>{warning}</header>
<main>
{body}
</main>
<footer><p class="quiet">{text(made)}</p></footer>
</body>
</html>
"""


def entry_text(entry: object) -> str:
    """An entry of a configuration."""
    if isinstance(entry, list | tuple):
        return ", ".join(map(str, entry))
    return str(entry).lower() if isinstance(entry, bool) else str(entry)
