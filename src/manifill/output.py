"""Completions as files: one PNG each, a grid and a manifest line each; nothing half-written, nothing overwritten."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from manifill.checkpoint import write_atomic
from manifill.image import ImageError, grid
from manifill.inpainter import Completion, Completions

CELL = 256  # pixels a picture in the grid; photos up to twice as large keep their size


def planned(out: Path, stem: str, count: int) -> list[Path]:
    """Return the paths of the completions and, last, of the grid."""
    return [*(out / f"{stem}_{k:03d}.png" for k in range(count)), out / f"{stem}_grid.png"]


def check_free(paths: list[Path]) -> None:
    """Raise ImageError when one of the files is there already."""
    taken = [p for p in paths if p.exists()]
    if taken:
        raise ImageError(f"{taken[0]}: exists already; name another folder or use --overwrite (nothing was written)")


def write(
    completions: Completions, out: Path, stem: str, mask: str, structures: bool = False,
    callback: Callable[[Path], None] | None = None,
) -> Path:  # fmt: skip
    """Write every completion as it is ready, then the grid; return the grid's path.

    `mask` names the mask in the manifest; `structures` also writes the decoded structures; `callback` gets each path.
    """
    out.mkdir(parents=True, exist_ok=True)
    *paths, grid_path = planned(out, stem, len(completions))
    forget(out / "manifest.jsonl", {path.name for path in paths})
    images, began = [], time.perf_counter()
    for path, completion in zip(paths, completions, strict=True):
        line = describe(completions, completion, path, mask) | {"seconds": round(time.perf_counter() - began, 3)}
        save_png(completion.image, path, {"seed": str(completion.seed), "model": str(line["model"])})
        if structures:
            save_png(completion.structure, path.with_name(f"{path.stem}_structure.png"), {"seed": str(completion.seed)})
        with (out / "manifest.jsonl").open("a") as f:
            f.write(json.dumps(line) + "\n")
        images.append(completion.image)
        if callback:
            callback(path)
        began = time.perf_counter()
    save_png(overview(completions, images), grid_path, {"model": completions.inpainter.weights})
    return grid_path


def forget(manifest: Path, names: set[str]) -> None:
    """Drop the lines of files that are about to be replaced."""
    if manifest.exists():
        kept = [line for line in manifest.read_text().splitlines(True) if json.loads(line)["file"] not in names]
        write_atomic(manifest, lambda f: f.write("".join(kept).encode()))


def describe(completions: Completions, completion: Completion, path: Path, mask: str) -> dict[str, Any]:
    """Return what the manifest says of a completion."""
    model, options = completions.inpainter, completions.options
    return {
        "photo": completions.photo.name, "mask": mask, "file": path.name, "seed": completion.seed,
        "temperature": options.temperature, "top_k": options.top_k, "top_p": options.top_p,
        "known_codes": completions.known_codes, "dtype": str(model.dtype).removeprefix("torch."),
        "model": f"{model.name} {model.weights}", "size": list(completion.image.size),
        "log_likelihood": round(completion.log_likelihood, 5), "codes": completion.codes.tolist(),
    }  # fmt: skip


def save_png(picture: Image.Image, path: Path, text: dict[str, str]) -> None:
    """Write a PNG with text chunks and the picture's colour profile, whole or not at all."""
    chunks, buffer = PngInfo(), io.BytesIO()
    for key, value in text.items():
        chunks.add_text(key, value)
    picture.save(buffer, "PNG", pnginfo=chunks, icc_profile=picture.info.get("icc_profile"))
    write_atomic(path, lambda f: f.write(buffer.getvalue()))


def overview(completions: Completions, images: list[Image.Image]) -> Image.Image:
    """Lay out photo over masked photo, then the completions in two rows."""
    photo = Image.fromarray(completions.photo.rgb)
    side = min(max(photo.width, CELL), 2 * CELL)
    cells = [cell(p, side) for p in (photo, *images[0::2], completions.masked(), *images[1::2])]
    columns = 1 + (len(images) + 1) // 2
    if len(images) % 2:
        cells.append(np.full_like(cells[0], 255))
    return grid([np.stack([cells[j], cells[columns + j]]) for j in range(columns)], gap=4)


def cell(picture: Image.Image, side: int) -> np.ndarray:
    """Return a picture as uint8 (side, side, 3), transparent parts on white."""
    flat = Image.new("RGBA", picture.size, "white")
    flat.alpha_composite(picture.convert("RGBA"))
    return np.asarray(flat.convert("RGB").resize((side, side), Image.Resampling.LANCZOS))
