"""Imports point one way, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "manifill"

# What each part may import, besides itself. A part is a folder or a module of the root.
CONFIG = {"config", "memory"}
NETWORKS = CONFIG | {"networks"}
PHOTOS = NETWORKS | {"photos"}
SAMPLING = NETWORKS | {"sampling"}
CORE = PHOTOS | SAMPLING | {"hub", "completion", "model", "pipeline", "completions", "inpainter"}
DATA = PHOTOS | {"data"}
TRAIN = CORE | {"data", "train"}
LAW = {
    "config": set(),
    "memory": set(),
    "networks": CONFIG,
    "photos": NETWORKS,
    "sampling": NETWORKS,
    "hub": NETWORKS,
    "completion": PHOTOS | SAMPLING,
    "model": PHOTOS | SAMPLING | {"completion"},
    "pipeline": PHOTOS | SAMPLING | {"completion", "model"},
    "completions": PHOTOS | SAMPLING | {"completion", "model", "pipeline"},
    "inpainter": CORE,
    "files": CORE,
    "web": CORE | {"files", "__init__"},
    "data": PHOTOS,
    "train": TRAIN,
    "evaluate": TRAIN | {"files"},
    "cli": CORE | {"files"},
    "__init__": CORE,
    "__main__": {"cli"},
}
LIGHT = {"train.config"}  # what any verb may import from those: options, and the standard library alone
LAZY = {"web", "data", "train", "evaluate"}  # inside a verb alone, where nothing is imported before it runs


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


@cache
def modules() -> dict[str, Path]:
    return {module_of(path): path for path in SOURCE.rglob("*.py")}


def imported(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module of the package that a file imports, TYPE_CHECKING counted, and whether inside a function."""
    known = modules()
    tree = ast.parse(path.read_text())
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {id(n) for f in functions for n in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "manifill":
            base = (node.module or "").removeprefix("manifill").removeprefix(".")
            for alias in node.names:
                if alias.name == "__version__":
                    continue
                full = f"{base}.{alias.name}" if base else alias.name
                yield (full if full in known else base or "__init__"), id(node) in inside
        elif isinstance(node, ast.Import):
            assert not any(a.name.startswith("manifill") for a in node.names), path


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_keep_the_law(module: str) -> None:
    path = modules()[module]
    part = part_of(path)
    for found, lazy in imported(path):
        other = found.split(".")[0]
        allowed = LAW[part] | {part} | (LAZY if part == "cli" and lazy else set())
        assert other in allowed or (part == "cli" and found in LIGHT), f"{module} imports {found}"


def test_no_circles() -> None:
    graph = {module: {found for found, _ in imported(path)} for module, path in modules().items()}
    waiting = {module: set(others) - {module} for module, others in graph.items()}
    while free := {module for module, others in waiting.items() if not others & waiting.keys()}:
        waiting = {module: others for module, others in waiting.items() if module not in free}
    assert not waiting, {module: others & waiting.keys() for module, others in waiting.items()}


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_inpainting_loads_no_training_evaluation_or_tensorflow() -> None:
    loaded = loaded_by("import manifill.inpainter")
    packages = ("train", "data", "evaluate", "networks.convert", "web", "files")
    heavy = ("tensorflow", "scipy", "skimage", "sklearn", "matplotlib", "cv2")
    foreign = (*(f"manifill.{name}" for name in packages), *heavy)
    assert [m for m in loaded if m.startswith(foreign)] == []


@pytest.mark.parametrize("module", ["manifill", "manifill.cli", "manifill.config"])
def test_light_modules_do_not_load_pytorch(module: str) -> None:
    assert "torch" not in loaded_by(f"import {module}")


def test_loading_a_model_does_not_load_the_compiler() -> None:
    """PyTorch loads it, for seconds, to draw random numbers on the meta device."""
    loaded = loaded_by("import manifill; manifill.Inpainter.from_pretrained('faces-128', 'cpu')")
    assert [m for m in loaded if m.startswith(("torch._dynamo", "torch._inductor", "sympy"))] == []


def test_the_public_api_is_a_list() -> None:
    import manifill

    assert all(getattr(manifill, name) for name in manifill.__all__)


def test_files_stay_readable() -> None:
    assert {p.name: n for p in SOURCE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 350} == {}
