"""A self-contained HTML page that makes no requests, readable on a phone, with a dark and a light theme."""

from __future__ import annotations

import base64
import html
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from transfer3d.text import visible

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Content Security Policy: a browser runs no script and fetches nothing."""
INKS = {
    "fill: #ffffff": "fill: none",
    "stroke: #000000": "stroke: currentColor",
    "fill: #555555": "fill: var(--soft)",
    "stroke: #555555": "stroke: var(--soft)",
}
"""Colours of matplotlib's figures, with their replacements for light and dark themes."""
STYLE = """
:root { color-scheme: light dark; --ink: #1c2126; --paper: #ffffff; --line: #d5dae0; --soft: #5b6570;
  --tile: #f1f4f7; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --paper: #14181c; --line: #3a424a; --soft: #9aa5b1; --tile: #1e242a;
    --link: #7ab8f5; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.2rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; line-height: 1.25; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 0; } h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
a { color: var(--link); }
p.note { color: var(--soft); margin: .2rem 0 .8rem; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: .6rem 0;
  border-bottom: 1px solid var(--line); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .7rem;
  margin: 1rem 0; }
.tile { background: var(--tile); border-radius: 6px; padding: .6rem .8rem; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile small { display: block; color: var(--soft); }
.wide, pre { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; overflow-wrap: normal; }
td, th { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  max-width: 20rem; overflow-wrap: break-word; }
th { text-align: left; } tbody th { font-weight: normal; }
th:first-child { position: sticky; left: 0; min-width: 8.5rem; max-width: min(45vw, 20rem);
  background: var(--paper); }
td.best b::after { content: " \\2605"; color: var(--link); }
td small { color: var(--soft); display: block; }
.number { text-align: right; font-variant-numeric: tabular-nums; } td.number { white-space: nowrap; }
dl { display: grid; grid-template-columns: fit-content(40%) 1fr; gap: .25rem 1rem; margin: .6rem 0; }
dt { color: var(--soft); } dd { margin: 0; min-width: 0; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 0 1rem; }
figure { margin: .6rem 0; padding: .6rem 0; }
figure svg, figure img { max-width: 100%; height: auto; display: block; }
figure svg { overflow: visible; }
figure svg text { fill: currentColor; stroke: var(--paper); stroke-width: 2px; paint-order: stroke; }
figcaption { font-size: .9rem; color: var(--soft); margin-top: .3rem; }
p.verdict { font-size: 1.15rem; margin: .8rem 0; }
pre { font-size: .85rem;
  border: 1px solid var(--line); padding: .6rem; border-radius: 6px; }
summary { cursor: pointer; color: var(--link); }
ol.chain { list-style: none; padding: 0; margin: 1rem 0; }
ol.chain li { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .8rem; }
ol.chain li + li { margin-top: 2rem; position: relative; }
ol.chain li + li::before { content: "\\2193"; position: absolute; top: -1.85rem; left: 1rem;
  font-size: 1.2rem; color: var(--soft); }
ol.chain li.beside::before { content: "+"; }
"""


def escape(text: str) -> str:
    """Returns text as HTML; marks that would change its direction, and control characters, become visible."""
    return html.escape(visible(text))


@dataclass(frozen=True)
class Section:
    """A section of a page with its heading.

    Attributes:
        title: also used in the table of contents.
        parts: HTML, from the functions of this module.
        note: a line of explanation below the heading.
    """

    title: str
    parts: Sequence[str]
    note: str = ""


def heading(text: str) -> str:
    """Returns a heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str) -> str:
    """Returns a line of explanation."""
    return f'<p class="note">{escape(text)}</p>'


def verdict(text: str) -> str:
    """Returns the highlighted main conclusion of the page."""
    return f'<p class="verdict">{escape(text)}</p>'


def tiles(rows: Sequence[tuple[str, str, str]]) -> str:
    """Returns tiles with the most important numbers: value, name and details."""
    cells = (f'<div class="tile"><b>{escape(value)}</b>{escape(what)}<small>{escape(more)}</small></div>'
             for value, what, more in rows)  # fmt: skip
    return f'<div class="tiles">{"".join(cells)}</div>'


@dataclass(frozen=True)
class Cell:
    """A table cell with additional content.

    Attributes:
        text: text of the cell.
        more: a second line, in small letters.
        best: whether it is marked as the best of its row.
    """

    text: str
    more: str = ""
    best: bool = False


def table(
    header: Sequence[str], rows: Sequence[Sequence[str | Cell]], *, numbers: Collection[int] = ()
) -> str:
    """Returns a table; its first column, which names the rows, stays in view.

    Args:
        header: names of the columns.
        rows: their cells.
        numbers: indices of right-aligned columns.
    """
    kinds = ["number" if column in numbers else "" for column in range(len(header))]
    head = "".join(_cell("th", ' scope="col"', cell, kind) for cell, kind in zip(header, kinds, strict=True))
    body = "".join(f"<tr>{_cells(row, kinds)}</tr>" for row in rows)
    label = escape(f"Table: {', '.join(header)}")
    return (
        f'<div class="wide" tabindex="0" role="group" aria-label="{label}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cells(row: Sequence[str | Cell], kinds: Sequence[str]) -> str:
    first, *others = zip(row, kinds, strict=True)
    cells = [_cell("th", ' scope="row"', *first), *(_cell("td", "", cell, kind) for cell, kind in others)]
    return "".join(cells)


def _cell(tag: str, attributes: str, cell: str | Cell, kind: str) -> str:
    cell = cell if isinstance(cell, Cell) else Cell(cell)
    kinds = " ".join(filter(None, (kind, "best" if cell.best else "")))
    attributes += f' class="{kinds}"' if kinds else ""
    text = f"<b>{escape(cell.text)}</b>" if cell.best else escape(cell.text)
    more = f"<small>{escape(cell.more)}</small>" if cell.more else ""
    return f"<{tag}{attributes}>{text}{more}</{tag}>"


def definitions(rows: Sequence[tuple[str, str]]) -> str:
    """Returns a list of names and values; long values wrap."""
    return "<dl>" + "".join(f"<dt>{escape(n)}</dt><dd>{escape(v)}</dd>" for n, v in rows) + "</dl>"


def chain(links: Sequence[tuple[str, Sequence[tuple[str, str]], bool]]) -> str:
    """Returns boxes from top to bottom, each with a title and its rows.

    An arrow leads from each box to the next, or a plus sign if the next one is `beside`.
    """
    boxes = "".join(
        f'<li class="{"beside" if beside else "after"}">'
        f"<strong>{escape(title)}</strong>{definitions(rows)}</li>"
        for title, rows, beside in links
    )
    return f'<ol class="chain">{boxes}</ol>'


def grid(parts: Sequence[str]) -> str:
    """Returns parts side by side if there is room."""
    return f'<div class="grid">{"".join(parts)}</div>' if parts else ""


def folded(title: str, part: str) -> str:
    """Returns a collapsed part that opens when its title is clicked."""
    return f"<details><summary>{escape(title)}</summary>{part}</details>"


def svg_figure(svg: str, caption: str) -> str:
    """Returns a figure with its caption, in the colours of the page, no wider than the page.

    Args:
        svg: written by matplotlib: white backgrounds become transparent, black and grey follow the theme.
        caption: below it.
    """
    text = escape(caption)
    for drawn, themed in INKS.items():
        svg = svg.replace(drawn, themed)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{text}" ', 1)
    return f"<figure>{svg}<figcaption>{text}</figcaption></figure>"


def png_figure(png: bytes, caption: str) -> str:
    """Returns an embedded image with its caption, no wider than the page."""
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def preformatted(text: str) -> str:
    """Returns preformatted text."""
    return f'<pre tabindex="0">{escape(text)}</pre>'


def page(title: str, note: str, sections: Sequence[Section]) -> str:
    """Returns the whole page, with a table of contents at the top; empty sections are omitted."""
    sections = [section for section in sections if section.note or any(section.parts)]
    contents = "".join(f'<a href="#s{i}">{escape(part.title)}</a>' for i, part in enumerate(sections, 1))
    body = "".join(_section(i, part) for i, part in enumerate(sections, 1))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f'<header><h1>{escape(title)}</h1><p class="note">{escape(note)}</p></header>'
        f'<nav aria-label="Contents">{contents}</nav><main>{body}</main></body></html>\n'
    )


def _section(number: int, section: Section) -> str:
    note = paragraph(section.note) if section.note else ""
    return f'<section id="s{number}"><h2>{escape(section.title)}</h2>{note}{"".join(section.parts)}</section>'
