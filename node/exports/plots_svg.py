"""A drawing as SVG: a file that any browser opens, or a piece of a page. It is light or dark as its reader has it."""

from html import escape

from node.exports.plots import FAINT, Box, Drawing, Label, Stroke, plain

LIGHT = {
    "page": "#ffffff", "ink": "#1a1a1a", "quiet": "#5c5c5c", "axis": "#8a8a8a", "grid": "#e4e4e4", "mean": "#1a1a1a",
    "warn": "#b45309", "bad": "#b91c1c",
    **{f"series-{i}": colour for i, colour in enumerate(
        ("#005fd7", "#3a7d00", "#8700af", "#00797d", "#b03030", "#4b4bc8", "#7a5c00", "#4d7a4d"))},
}  # fmt: skip
DARK = {
    "page": "#141618", "ink": "#ececec", "quiet": "#a6a6a6", "axis": "#777777", "grid": "#303336", "mean": "#ececec",
    "warn": "#fbbf24", "bad": "#f87171",
    **{f"series-{i}": colour for i, colour in enumerate(
        ("#5fafff", "#87d75f", "#d787ff", "#5fd7d7", "#ff8787", "#afafff", "#d7c25f", "#afd7af"))},
}  # fmt: skip


def variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


def style(root: str = "svg") -> str:
    """The style sheet that drawings need, once a page; `root` is where its colours are set."""
    rules = "".join(f".s-{name}{{stroke:var(--{name})}}.f-{name}{{fill:var(--{name})}}" for name in LIGHT)
    return (
        f"{root}{{{variables(LIGHT)}}}@media(prefers-color-scheme:dark){{{root}{{{variables(DARK)}}}}}"
        f"svg text{{font:11px ui-sans-serif,system-ui,sans-serif}}svg polyline{{fill:none;stroke-linejoin:round}}"
        + rules
    )


def svg(drawing: Drawing, *, alone: bool = True) -> str:
    """The drawing's text. `alone`: with its own style, colours and ground; else for a page that has `style()`."""
    width, height = _number(drawing.width), _number(drawing.height)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
    if alone:
        head += f' width="{width}" height="{height}"'
    head += f' role="img" aria-label="{_text(drawing.title)}">'
    ground = f'<style>{style()}</style><rect width="100%" height="100%" style="fill:var(--page)"/>' if alone else ""
    return "\n".join([head + ground, *(_shape(shape) for shape in drawing.shapes), "</svg>"])


def _shape(shape: Stroke | Box | Label) -> str:
    if isinstance(shape, Label):
        anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
        place = f'x="{_number(shape.x)}" y="{_number(shape.y)}"'
        return f'<text {place}{anchor} class="f-{shape.style}">{_text(shape.text)}</text>'
    title = f"<title>{_text(shape.title)}</title>" if shape.title else ""
    if isinstance(shape, Box):
        place = f'x="{_number(shape.x)}" y="{_number(shape.y)}"'
        size = f'width="{_number(shape.width)}" height="{_number(shape.height)}"'
        return f'<rect {place} {size} class="f-{shape.style}">{title}</rect>'
    points = " ".join(f"{_number(x)},{_number(y)}" for x, y in shape.points)
    dashes = f' stroke-dasharray="{" ".join(map(_number, shape.dashes))}"' if shape.dashes else ""
    faint = f' opacity="{FAINT}"' if shape.faint else ""
    width = "" if shape.width == 1 else f' stroke-width="{_number(shape.width)}"'
    return f'<polyline points="{points}" class="s-{shape.style}"{width}{dashes}{faint}>{title}</polyline>'


def _number(value: float) -> str:
    """At most one decimal: a tenth of a pixel is nothing to see, and the text stays short."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _text(text: str) -> str:
    """Escaped: names are other people's words."""
    return escape(plain(text))
