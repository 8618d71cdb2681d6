"""Run `examples/notebook.ipynb` in this process and store what its cells show, as a notebook server would.

    python scripts/notebook.py

Run it after a change of the notebook or of the bundled models.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parents[1] / "examples" / "notebook.ipynb"


def shown(value: Any) -> dict[str, Any]:
    """Return what a notebook keeps of a value: its text and, where it has one, its picture."""
    data: dict[str, Any] = {"text/plain": repr(value).splitlines(keepends=True)}
    if hasattr(value, "_repr_png_"):
        data["image/png"] = base64.b64encode(value._repr_png_()).decode()
    return data


def run(source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Run a cell; return its outputs: what it printed and, in the end, the value of its last line."""
    tree, outputs, printed = ast.parse(source), [], io.StringIO()
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None  # type: ignore[attr-defined]
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "notebook", "exec"), names)
        value = None if last is None else eval(compile(last, "notebook", "eval"), names)
    if text := printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)})
    if value is not None:
        data = {"data": shown(value), "metadata": {}, "execution_count": count}
        outputs.append({"output_type": "execute_result", **data})
    return outputs


def execute(notebook: dict[str, Any]) -> dict[str, Any]:
    """Run all cells in order and store their outputs; return their names."""
    names: dict[str, Any] = {}
    for count, cell in enumerate((c for c in notebook["cells"] if c["cell_type"] == "code"), 1):
        cell["outputs"], cell["execution_count"] = run("".join(cell["source"]), names, count), count
    return names


if __name__ == "__main__":
    os.chdir(NOTEBOOK.parent)
    found = json.loads(NOTEBOOK.read_text())
    execute(found)
    NOTEBOOK.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
