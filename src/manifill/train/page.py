"""Reports and cards as text, from templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"


def rendered(template: Path, values: dict[str, Any]) -> str:
    """Return a template filled with values, in HTML escaped; it may extend one of TEMPLATES."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = environment.get_template(template.name).render(values)
    return text.encode(errors="backslashreplace").decode()  # the name of a folder may be of bytes that are no text
