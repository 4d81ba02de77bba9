"""One self-contained HTML page: no request leaves it, it reads well on a phone, in dark and in light."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1c2126; --paper: #ffffff; --line: #d5dae0; --soft: #5b6570; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --paper: #14181c; --line: #3a424a; --soft: #9aa5b1; }
}
body { margin: 0 auto; max-width: 60rem; padding: 1.2rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p.note { color: var(--soft); margin-top: .2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; } td, th { padding: .3rem .8rem; border-bottom: 1px solid var(--line); }
th { text-align: left; white-space: nowrap; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; background: #ffffff; color: #1c2126; border-radius: 6px; padding: .6rem; }
figure svg, figure img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: .9rem; color: #5b6570; margin-top: .3rem; }
pre { overflow-x: auto; font-size: .85rem;
  border: 1px solid var(--line); padding: .6rem; border-radius: 6px; }
"""


def heading(text: str, note: str = "") -> str:
    """Returns a section's heading with a line of explanation."""
    return f"<h2>{escape(text)}</h2>" + (f'<p class="note">{escape(note)}</p>' if note else "")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table; cells that begin with a digit are numbers and stand at the right."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _cell(text: str) -> str:
    kind = ' class="number"' if text[:1].isdigit() else ""
    return f"<td{kind}>{escape(text)}</td>"


def svg_figure(svg: str, caption: str) -> str:
    """Returns a drawing with its caption."""
    text = escape(caption)
    return f'<figure role="img" aria-label="{text}">{svg}<figcaption>{text}</figcaption></figure>'


def png_figure(png: bytes, caption: str) -> str:
    """Returns a picture, embedded, with its caption."""
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def preformatted(text: str) -> str:
    """Returns text as it stands."""
    return f"<pre>{escape(text)}</pre>"


def page(title: str, note: str, parts: Sequence[str]) -> str:
    """Returns the whole page."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f'<h1>{escape(title)}</h1><p class="note">{escape(note)}</p>{"".join(parts)}</body></html>\n'
    )
