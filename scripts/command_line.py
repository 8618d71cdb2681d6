"""The reference of the command line, from the code: the site's page `command-line.md` asks for it by `{{ verbs }}`."""

from __future__ import annotations

import contextlib
import io
import os
import re
from typing import Any

from manifill import cli

WIDTH = "110"  # characters of a line


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put what every verb says of itself in the place of `{{ verbs }}`: called by mkdocs for each page."""
    if "{{ verbs }}" not in markdown:
        return markdown
    verbs = [*(f"{name} all" if name == "train" else name for name in cli.VERBS), "train report"]
    return markdown.replace("{{ verbs }}", "\n\n".join(f"## {verb}\n\n```text\n{said(verb)}```" for verb in verbs))


def said(verb: str) -> str:
    """Return what `manifill VERB --help` says, without the lines between its parts."""
    before, shown = os.environ.get("COLUMNS"), io.StringIO()
    os.environ["COLUMNS"] = WIDTH
    try:
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            cli.main([*verb.split(), "--help"])
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    return re.sub(r"^ *-+ *\n| +$", "", shown.getvalue(), flags=re.MULTILINE)
