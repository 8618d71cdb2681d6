"""What the pages of reports are made of: HTML in one file, in the reader's light or dark colours, without scripts."""

from __future__ import annotations

import html
from collections.abc import Sequence

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
th, td {{ padding: .25rem .75rem; border-bottom: 1px solid #8884; text-align: right }}
th:first-child, td:first-child {{ text-align: left }}
img {{ max-width: 100%; height: auto }}
.wide {{ overflow-x: auto }}
{style}</style></head><body><main><h1>{title}</h1>{body}</main></body></html>
"""


def page(title: str, body: str, style: str = "") -> str:
    """Return a page; `body` is HTML, `style` CSS beyond what all pages have."""
    return PAGE.format(title=html.escape(title), body=body, style=style)


def section(title: str, body: str) -> str:
    """Return a section of the page; `body` is HTML."""
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def paragraph(text: str) -> str:
    """Return plain text as a paragraph."""
    return f"<p>{html.escape(text)}</p>"


def rows(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a table; where it is wider than the screen it scrolls, by the keyboard too."""
    head = "".join(f"<th>{html.escape(cell)}</th>" if cell else "<td></td>" for cell in header)
    lines = ("".join(f"<td>{html.escape(cell)}</td>" for cell in line) for line in body)
    table = f"<tr>{head}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide" tabindex="0"><table>{table}</table></div>'


def picture(source: str, text: str) -> str:
    """Return an image element with its text alternative; `source` is a file's name or a data: address."""
    return f'<img src="{html.escape(source)}" alt="{html.escape(text)}">'
