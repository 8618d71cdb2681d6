"""Completions as files: a picture and a manifest line each, and a grid; nothing half-written, nothing overwritten."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from manifill.networks.atomic import locked, remove_stray, write_atomic
from manifill.photos.decode import ImageError
from manifill.photos.encode import SUFFIX, Format, encode

if TYPE_CHECKING:
    from manifill.completion import Completion
    from manifill.inpainter import Completions

LARGE = 1 << 20  # pixels from which a PNG is written fast rather than small
CELL = 256  # pixels of the longer side of a picture in the grid; photos up to twice as large keep their size


def planned(out: Path, name: str, count: int, format: Format = "png") -> list[Path]:
    """Return the paths of the completions and, last, of the grid; `name` may hold folders."""
    return [*(out / f"{name}_{k:03d}{SUFFIX[format]}" for k in range(count)), out / f"{name}_grid.png"]


def structure_path(path: Path) -> Path:
    """Return where the structure of a completion goes."""
    return path.with_name(f"{path.stem}_structure.png")


@dataclasses.dataclass(frozen=True)
class Output:
    """Where and how results are written: `manifest` is a file in `out`, `quality` 1 to 100 or the format's own."""

    out: Path
    manifest: str = "manifest.jsonl"
    quality: int | None = None
    structures: bool = False

    def held(self) -> AbstractContextManager[None]:
        """Keep other processes from writing into the same manifest meanwhile.

        The lock's file is in the system's folder for such, so that only processes of one machine see each other.
        Raises ImageError when another process holds it.
        """
        place = hashlib.sha256(os.fsencode(os.path.realpath(self.out / self.manifest))).hexdigest()[:24]
        refusal = f"{self.out}: another process is writing results here; wait for it or name another folder"
        lock = Path(tempfile.gettempdir()) / f"manifill-{place}.lock"
        return locked(lock, ImageError(f"{refusal} (nothing was written)"), 0o666)

    def write(
        self, completions: Completions, name: str, mask: str, format: Format, callback: Callable[[Path], None]
    ) -> Path:
        """Write every completion as it is ready, then the grid; return the grid's path.

        `mask` names the mask in the manifest; `callback` gets each path.
        """
        *paths, grid_path = planned(self.out, name, len(completions), format)
        grid_path.parent.mkdir(parents=True, exist_ok=True)
        cells, kept, began = Overview(completions), {}, time.perf_counter()
        for path, completion in zip(paths, completions, strict=True):
            line = describe(completions, completion, mask) | {"file": path.relative_to(self.out).as_posix()}
            text = png_text(completions, completion.seed)
            remove_stray(path)
            write_atomic(path, encode(completions.photo, completion.samples, format, self.quality, text, kept))
            if self.structures:
                save_png(completion.structure, structure_path(path), text)
            line["seconds"] = round(time.perf_counter() - began, 3)
            with (self.out / self.manifest).open("a") as f:
                f.write(json.dumps(line) + "\n")
            cells.add(completion)
            callback(path)
            began = time.perf_counter()
        save_png(cells.sheet(), grid_path, {"model": completions.inpainter.weights})
        return grid_path


def forget(manifest: Path, names: set[str]) -> None:
    """Drop the lines of files that are about to be written again, and a line that was cut short by a kill."""
    if not manifest.exists():
        return
    lines = manifest.read_text(errors="surrogateescape").splitlines(True)
    kept = [line for line in lines if (file := file_of(line)) is not None and file not in names]
    if len(kept) < len(lines):
        write_atomic(manifest, "".join(kept).encode(errors="surrogateescape"))


def file_of(line: str) -> str | None:
    """Return the file that a manifest's line is about, None for a line cut short."""
    try:
        found = json.loads(line)["file"] if line.endswith("\n") else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def describe(completions: Completions, completion: Completion, mask: str) -> dict[str, Any]:
    """Return what the manifest says of a completion."""
    model, request = completions.inpainter, completions.request
    options, photo = request.options, request.photo
    scores = {"log_likelihood": completion.log_likelihood, "coherence": completion.coherence}
    return {
        "photo": photo.name,
        "mask": mask,
        "seed": completion.seed,
        **dataclasses.asdict(options),
        "known_codes": request.known_codes,
        "dtype": str(model.dtype).removeprefix("torch."),
        "model": f"{model.name} {model.weights}",
        "size": [photo.rgb.shape[1], photo.rgb.shape[0]],
        "fit": dataclasses.asdict(request.fit),
        "filled_by": filled_by(completions),
        "notes": list(request.notes),
        **{k: None if v is None else round(v, 5) for k, v in scores.items()},
        "codes": completion.codes.tolist(),
    }


def filled_by(completions: Completions) -> dict[str, int]:
    """Return how many pixels of the hole each model fills; "diffusion" fills the parts that are thin."""
    found: dict[str, int] = {}
    if (thin := completions.request.thin) is not None:
        found["diffusion"] = int(thin.which.sum())
    for crop in completions.crops:
        name = completions.inpainter.of(crop).name
        found[name] = found.get(name, 0) + int(crop.own.sum())
    return found


def fillers(completions: Completions) -> list[dict[str, str | None]]:
    """Return the `model`s that fill the hole and `why`, None for what fills whatever nothing else does."""
    known = {"diffusion": "thin parts need no model"}
    known |= {completions.inpainter.of(crop).name: "a face was found" for crop in completions.crops if crop.face}
    return [{"model": name, "why": known.get(name)} for name in filled_by(completions)]


def png_text(completions: Completions, seed: int) -> dict[str, str]:
    """Return a PNG's text chunks: the seed, and the name and weights of the model."""
    return {"seed": str(seed), "model": f"{completions.inpainter.name} {completions.inpainter.weights}"}


def save_png(picture: Image.Image, path: Path, text: dict[str, str]) -> None:
    """Write a PNG with text chunks, whole or not at all."""
    remove_stray(path)
    write_atomic(path, png_bytes(picture, text))


def png_bytes(picture: Image.Image, text: dict[str, str]) -> bytes:
    """Return a picture as PNG with text chunks; a large one is written fast rather than small."""
    chunks, buffer = PngInfo(), io.BytesIO()
    for key, value in text.items():
        chunks.add_text(key, value)
    picture.save(buffer, "PNG", pnginfo=chunks, compress_level=1 if picture.width * picture.height > LARGE else 6)
    return buffer.getvalue()


class Overview:
    """The grid: photo over masked photo, then the completions in two rows, transparent parts on white."""

    def __init__(self, completions: Completions) -> None:
        photo, hole = completions.photo, completions.hole
        h, w = hole.shape
        scale = min(max(h, w, CELL), 2 * CELL) / max(h, w)
        self.size = max(1, round(w * scale)), max(1, round(h * scale))
        self.alpha, self.hole = photo.alpha, hole
        self.photo, self.masked = self.cell(photo.rgb, photo.alpha), self.cell(np.asarray(completions.masked()), None)
        self.cells: list[np.ndarray] = []

    def add(self, completion: Completion) -> None:
        """Add a completion."""
        alpha = None if self.alpha is None else np.where(self.hole, np.uint8(255), self.alpha)
        self.cells.append(self.cell(completion.rgb, alpha))

    def cell(self, rgb: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
        """Return a picture as uint8 (h, w, 3) of the grid's size."""
        picture = Image.fromarray(rgb)
        if alpha is not None:
            picture = Image.composite(picture, Image.new("RGB", picture.size, "white"), Image.fromarray(alpha))
        return np.asarray(picture.resize(self.size, Image.Resampling.LANCZOS, reducing_gap=3))

    def sheet(self) -> Image.Image:
        """Return the grid."""
        from manifill.photos.tensors import grid  # loads PyTorch, which nothing else here does

        columns = [np.stack([self.photo, self.masked])]
        cells = [*self.cells, np.full_like(self.photo, 255)] if len(self.cells) % 2 else self.cells
        columns += [np.stack(pair) for pair in zip(cells[0::2], cells[1::2], strict=True)]
        return grid(columns, gap=4)
