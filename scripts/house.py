"""How the source is laid out, in numbers: `python scripts/house.py`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "manifill"
PAPER = (  # what docs/architecture.md names as the files to read
    *(f"networks/{name}.py" for name in ("layers", "vqvae", "structure", "texture", "discriminator")),
    "sampling/naive.py",
    *(f"train/{name}.py" for name in ("vqvae", "structure", "texture", "losses")),
    "data/masks.py",
    "pipeline.py",
)


def files(*places: str) -> list[Path]:
    """Return the Python files in folders or at paths of the package."""
    found = [SOURCE / place for place in places]
    return [f for place in found for f in (place.rglob("*.py") if place.is_dir() else [place])]


def lines(paths: list[Path]) -> list[str]:
    """Return all lines of files."""
    return [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


def shared_names() -> dict[str, list[str]]:
    """Return the functions and classes, at the top of modules, whose names stand for something in two of them.

    Verbs of the command line and routes of the server are named after what they call.
    """
    found: dict[str, list[str]] = {}
    for path in set(files(".")) - set(files("cli", "web/app.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.setdefault(node.name, []).append(path.relative_to(SOURCE).with_suffix("").as_posix())
    return {name: places for name, places in found.items() if len(places) > 1 and not name.startswith("_")}


def main() -> None:
    """Print the table."""
    everything, path = files("."), lines(files(*PAPER))
    comments = sum(re.search(r"(^|\s)# (?!type:|fmt:|noqa|pyright)", line) is not None for line in path)
    longest = max(everything, key=lambda f: len(lines([f])))
    rows = {
        "modules in the root (without __main__)": len(list(SOURCE.glob("*.py"))) - 1,
        "Python lines": len(lines(everything)),
        "longest file": f"{longest.relative_to(SOURCE)}, {len(lines([longest]))}",
        "lines of the paper's path": len(path),
        "comments a 100 lines there": f"{100 * comments / len(path):.1f}",
        "fmt: skip": sum("fmt: skip" in line for line in lines(everything)),
        "lines of web": len(lines(files("web"))),
        "names that mean something in two modules": len(shared_names()),
    }
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    for name, places in sorted(shared_names().items()):
        print(f"{name}: {', '.join(places)}")


if __name__ == "__main__":
    main()
