"""`manifill figures`: the paper's figures of one's own model and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes

from manifill.cli.options import FOLDER, SamplingArguments, check_folder, plainly


@plainly
def figures(
    *,
    data: tuple[Path, ...],
    out: Annotated[Path, FOLDER],
    model: tuple[str, ...] = ("faces-128",),
    pred: tuple[Path, ...] = (),
    run: Path | None = None,
    protocol: str = "paper-centre",
    count: int = 4,
    samples: int = 5,
    seed: int = 0,
    sampling: OmitArgPrefixes[SamplingArguments] = SamplingArguments(),  # type: ignore[valid-type]  # noqa: B008
    device: str = "auto",
) -> int:
    """Draw the paper's figures: structures and completions, the two levels, methods and ablations side by side.

    Args:
        data: The pictures: folders, .tar shards or single files.
        out: Folder for figure1.png, figure2.png, figure3.png and, with RUN, figure5.png and figure6.png.
        model: Models' names, folders or USER/REPO; figures 1 and 2 are of the first, figure 3 of all.
        pred: Folders of other systems' results for figure 3, named after the pictures.
        run: Folder of `manifill ablate`, for figures 5 and 6.
        protocol: Where the holes are.
        count: The first pictures alone.
        samples: Completions of each picture.
        seed: Seed of the first completion.
        sampling: How codes are sampled.
        device: auto, cpu, cuda, ...

    """
    check_folder(out)
    from manifill.data.pictures import Pictures
    from manifill.evaluate.paper_figures import write_figures
    from manifill.inpainter import Inpainter

    models = [Inpainter.from_pretrained(name, device) for name in model]
    pictures = Pictures(data, models[0].image_size, count)
    print(*write_figures(models, pictures, out, protocol, samples, seed, vars(sampling), pred, run), sep="\n")
    return 0
