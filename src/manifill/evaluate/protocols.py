"""The masks of published evaluations, by name: seeded, the same on every machine, and told by a hash.

Drawn in a square of 256 units and asked of the pixels' centres, so that lengths scale with size / 256, as in training.
The papers' own mask files, where there are any, are not here; a description says what is theirs and what is ours.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from manifill import __version__
from manifill.evaluate.holes import UNITS, Dice, moved, open_box, segment
from manifill.networks.atomic import write_atomic
from manifill.networks.checkpoint import check_new

SMALLEST = 32
FACTS = "masks.json"
Draw = Callable[[int, Dice], np.ndarray]


def _until(draw: Draw, low: float, high: float, size: int, dice: Dice) -> np.ndarray:
    """Draw until the hole's fraction of the picture lies in (low, high]."""
    while True:
        hole = draw(size, dice)
        if low < hole.mean() <= high:
            return hole


def _middle(part: int, inside: bool, size: int, dice: Dice) -> np.ndarray:
    """Return the square of a `part`-th of the side in the middle, or with `inside` False all but that."""
    hole, side = np.full((size, size), not inside), size // part
    first = (size - side) // 2
    hole[first : first + side, first : first + side] = inside
    return hole


def _half(size: int, dice: Dice) -> np.ndarray:
    """Return the right half."""
    return np.tile(np.arange(size) >= size // 2, (size, 1))


def _lattice(step: int, size: int, dice: Dice) -> np.ndarray:
    """Return all but every `step`-th pixel of every second row; does not scale."""
    hole = np.ones((size, size), np.bool_)
    hole[::2, ::step] = False
    return hole


def _wander(low: float, high: float, size: int, dice: Dice) -> np.ndarray:
    """Return brush strokes that wander until they cover a fraction drawn from (low, high]; the parameters are ours.

    A stroke has 2 to 12 segments of 8 to 40 units, is 4 to 32 wide and turns by up to 1.2 each time.
    """
    hole, target = np.zeros((size, size), np.bool_), dice.uniform(low, high)
    while True:
        point, angle, width = dice.point(), dice.uniform(0, 2 * math.pi), dice.uniform(4, 32)
        for _ in range(dice.integer(2, 12)):
            angle += dice.uniform(-1.2, 1.2)
            end = moved(point, angle, dice.uniform(8, 40))
            segment(hole, point, end, width)
            if hole.mean() > target:
                return hole
            point = end


def _chains(count: tuple[int, int], length: int, width: int, size: int, dice: Dice) -> np.ndarray:
    """Return LaMa's polygonal chains: 1 to 5 segments in four directions, mirrored for every second chain."""
    hole = np.zeros((size, size), np.bool_)
    for chain in range(dice.integer(*count)):
        point = dice.point()
        for _ in range(dice.integer(1, 5)):
            down = 0.01 + dice.integer(0, 3)  # radians from the vertical
            angle = math.pi / 2 + (down if chain % 2 == 0 else -down)
            end = moved(point, angle, dice.integer(10, 9 + length))
            segment(hole, point, end, dice.integer(5, 4 + width))
            point = end
    return hole


def _boxes(count: int, smallest: int, largest: int, margin: int, size: int, dice: Dice) -> np.ndarray:
    """Return LaMa's boxes: 1 to `count`, at least `margin` from the border."""
    hole = np.zeros((size, size), np.bool_)
    for _ in range(dice.integer(1, count)):
        width, height = dice.integer(smallest, largest), dice.integer(smallest, largest)
        left = dice.integer(margin, UNITS - margin - width)
        open_box(hole, left, dice.integer(margin, UNITS - margin - height), width, height)
    return hole


def _either(chains: Draw, boxes: Draw, size: int, dice: Dice) -> np.ndarray:
    """Return chains or, with LaMa's weights 1 to 0.3, boxes."""
    return (chains if dice.uniform() < 1 / 1.3 else boxes)(size, dice)


def _free_form(halves: int, wholes: int, strokes: int, size: int, dice: Dice) -> np.ndarray:
    """Return CoModGAN's masks: fewer than so many boxes up to half the side, up to the side, and brush strokes."""
    hole = np.zeros((size, size), np.bool_)
    for count, side in ((halves, UNITS // 2), (wholes, UNITS)):
        for _ in range(dice.integer(0, count - 1)):
            width, height = dice.integer(0, side - 1), dice.integer(0, side - 1)
            left = dice.integer(-(width // 2), UNITS - width + width // 2 - 1)
            open_box(hole, left, dice.integer(-(height // 2), UNITS - height + height // 2 - 1), width, height)
    brushed = np.zeros((size, size), np.bool_)
    for _ in range(dice.integer(0, strokes - 1)):
        _brush(brushed, dice)
    return hole | brushed[:: dice.integer(0, 1) * 2 - 1, :: dice.integer(0, 1) * 2 - 1]


def _authors(size: int, dice: Dice) -> np.ndarray:
    """Return the authors' test masks: three rectangles for an even index, five times 1 to 3 strokes for an odd one."""
    hole = np.zeros((size, size), np.bool_)
    if dice.index % 2 == 0:
        for _ in range(3):
            left, top, x, y = dice.integer(0, 127), dice.integer(0, 127), dice.integer(0, 32), dice.integer(0, 32)
            open_box(hole, left + x, top + y, 128 - 2 * x, 128 - 2 * y)
    else:
        for _ in range(sum(dice.integer(1, 3) for _ in range(5))):
            _brush(hole, dice, most=11, widest=40)
    return hole


def _brush(hole: np.ndarray, dice: Dice, most: int = 17, widest: int = 48) -> None:
    """Draw one of CoModGAN's strokes: 4 to 17 segments, 12 to 48 units (there: pixels at any size) wide, zigzag."""
    reach = UNITS * math.sqrt(2) / 8
    around, spread = 2 * math.pi / 5, 2 * math.pi / 15
    low, high = around - dice.uniform(0, spread), around + dice.uniform(0, spread)
    segments, width, point = dice.integer(4, most), dice.uniform(12, widest), dice.point()
    for k in range(segments):
        angle = dice.uniform(low, high)
        length = min(max(dice.normal(reach, reach / 2), 0), 2 * reach)
        end = moved(point, angle if k % 2 else -angle, length)
        segment(hole, point, end, width)
        point = end


@dataclass(frozen=True)
class Protocol:
    """A published evaluation in words, and `draw`: the hole, bool (size, size), of a size and a mask's random numbers.

    `best` says, where not every sample counts, how many of the likeliest do, and of how many.
    """

    description: str
    draw: Draw
    best: tuple[int, int] | None = None


def _pconv(percent: int) -> Protocol:
    low, high = max(percent - 10, 1) / 100, percent / 100
    text = (
        f"Liu et al. (ECCV 2018, partial convolutions), holes of more than {low:.0%} up to {high:.0%}, 2,000 pictures: "
        "the bin is theirs, the wandering strokes and their parameters are ours, in place of their mask files."
    )
    return Protocol(text, partial(_until, partial(_wander, low, high), low, high))


def _lama(count: tuple[int, int], length: int, width: int, *boxes: int) -> tuple[str, Draw]:
    """Return a setting of LaMa's generator in words and as masks; `boxes` are what `_boxes` takes."""
    text = f"{count[0]} to {count[1]} chains of segments 10 to {9 + length} long and 5 to {4 + width} wide"
    draw: Draw = partial(_chains, count, length, width)
    if boxes:
        text += f", or else 1 to {boxes[0]} boxes of {boxes[1]} to {boxes[2]}"
        draw = partial(_either, draw, partial(_boxes, *boxes))
    return f"{text}, the hole half of the picture at most", partial(_until, draw, 0.0, 0.5)


def _comod(source: str, halves: int, wholes: int, strokes: int) -> Protocol:
    text = (
        f"{source} on 36,500 pictures of Places2: fewer than {halves} boxes up to half the side, {wholes} up to the "
        f"side and {strokes} strokes of 4 to 17 segments, 12 to 48 wide at 256."
    )
    return Protocol(text, partial(_until, partial(_free_form, halves, wholes, strokes), 0.0, 1 - 1e-9))


def _repaint(text: str, draw: Draw) -> Protocol:
    return Protocol(f"Lugmayr et al. (CVPR 2022, RePaint), {text}; 100 pictures.", draw)


_LAMA = {
    "thin": _lama((4, 51), 40, 10),
    "medium": _lama((4, 6), 100, 50, 5, 10, 50, 0),
    "thick": _lama((1, 6), 200, 100, 3, 30, 150, 10),
}
PROTOCOLS = {
    "paper-centre": Protocol(
        "Peng et al. (CVPR 2021), the 128x128 hole in the centre of 256, 1,000 pictures, every sample counted; "
        "50 samples a picture are those of Zheng et al.'s diversity score.",
        partial(_middle, 2, True),
    ),
    "authors-random": Protocol(
        "Peng et al. (CVPR 2021), the 10,000 test masks of their models for random holes, as issue 10 of their code "
        "makes them: even ones are three rectangles of 64 to 128 a side, odd ones five times 1 to 3 brush strokes.",
        _authors,
    ),
    "pic-best50": Protocol(
        "Zheng et al. (CVPR 2019, PIC), the 128x128 hole in the centre of 256 on 20,000 pictures of ImageNet: of 50 "
        "samples the 10 that rank first (there by the discriminator, here by likelihood), of these the one "
        "nearest the original (their diversity score takes all).",
        partial(_middle, 2, True),
        (10, 50),
    ),
    **{f"pconv-{percent}": _pconv(percent) for percent in range(10, 70, 10)},
    **{
        f"lama-{kind}": Protocol(
            f"Suvorov et al. (WACV 2022, LaMa), {kind} masks at 256 on 2,000 pictures of CelebA-HQ: {text}.", draw
        )
        for kind, (text, draw) in _LAMA.items()
    },
    "comod-small": _comod("The small free-form masks that Li et al. (CVPR 2022, MAT) made of Zhao et al.'s", 2, 2, 3),
    "comod-large": _comod("The free-form masks of Zhao et al. (ICLR 2021, CoModGAN)", 10, 5, 20),
    "repaint-wide": _repaint(f"wide masks, LaMa's thick ones: {_LAMA['thick'][0]}", _LAMA["thick"][1]),
    "repaint-narrow": _repaint(f"narrow masks, LaMa's thin ones: {_LAMA['thin'][0]}", _LAMA["thin"][1]),
    "repaint-half": _repaint("one half is the hole, which half is our choice: the right one", _half),
    "repaint-expand": _repaint("all but the central 64x64 of 256 is the hole", partial(_middle, 4, False)),
    "repaint-sr2x": _repaint("only every second pixel of every second row is known, at any size", partial(_lattice, 2)),
    "repaint-altlines": _repaint("every second row is the hole, at any size", partial(_lattice, 1)),
}


def mask(protocol: str, index: int, size: int = UNITS) -> np.ndarray:
    """Return mask `index` of a protocol: bool (size, size), True = hole.

    It depends on nothing but its arguments. Raises ValueError for an unknown name, a negative index, a size below 32.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"{protocol}: no such protocol; there are {', '.join(PROTOCOLS)}")
    if index < 0 or size < SMALLEST:
        raise ValueError(f"mask {index} of {size} pixels: masks count from 0 and have {SMALLEST} pixels or more")
    return PROTOCOLS[protocol].draw(size, Dice(protocol, index))


def _each(protocol: str, count: int, size: int) -> Iterator[np.ndarray]:
    """Return the first masks one by one; a mistake is told at once, before anything is written."""
    if count < 1:
        raise ValueError(f"{count} masks: ask for one or more")
    mask(protocol, 0, size)
    return (mask(protocol, k, size) for k in range(count))


def masks(protocol: str, count: int, size: int = UNITS) -> np.ndarray:
    """Return the first `count` masks: bool (count, size, size). Raises ValueError as `mask` does."""
    return np.stack(list(_each(protocol, count, size)))


def _hash(hole: np.ndarray) -> str:
    return hashlib.sha256(f"{hole.shape} ".encode() + np.packbits(hole).tobytes()).hexdigest()[:16]


def _digest(hashes: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()[:16]


def digest(protocol: str, count: int, size: int = UNITS) -> str:
    """Return the hash of a set of masks, 16 hex digits of SHA-256: what results name their masks by."""
    return _digest(_hash(hole) for hole in _each(protocol, count, size))


def write_masks(protocol: str, out: Path, count: int, size: int = UNITS) -> str:
    """Write `out`/00000.png ..., white = hole, and last masks.json, and return the set's digest.

    Raises ModelError, a ValueError, when `out` is not empty, and ValueError as `mask` does; nothing is written then.
    """
    holes, hashes = _each(protocol, count, size), []
    check_new(out)
    out.mkdir(parents=True, exist_ok=True)
    for k, hole in enumerate(holes):
        write_atomic(out / f"{k:05d}.png", partial(Image.fromarray(hole).save, format="PNG"))
        hashes.append(_hash(hole))
    facts = {
        "protocol": protocol,
        "description": PROTOCOLS[protocol].description,
        "count": count,
        "size": size,
        "digest": _digest(hashes),
        "version": __version__,
        "masks": hashes,
    }
    write_atomic(out / FACTS, json.dumps(facts, indent=1))
    return facts["digest"]


def read_masks(folder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Return a written set: masks, bool (count, size, size), and what masks.json says of them.

    Raises ValueError naming the file that is missing, unreadable, of another size or changed.
    """
    path = folder / FACTS
    try:
        facts = json.loads(path.read_bytes())
        sound = facts["count"] == len(facts["masks"]) > 0 and facts["size"] >= SMALLEST
        sound = sound and facts["digest"] == _digest(facts["masks"]) and isinstance(facts["protocol"], str)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: missing or not what `manifill masks` writes ({error!r})") from error
    if not sound:
        raise ValueError(f"{path}: changed; its digest {facts['digest']} is not that of the masks it lists")
    holes = [_read_mask(folder / f"{k:05d}.png", facts["size"], wanted) for k, wanted in enumerate(facts["masks"])]
    return np.stack(holes), facts


def _read_mask(path: Path, size: int, wanted: str) -> np.ndarray:
    try:
        with Image.open(path) as file:
            hole = np.asarray(file.convert("L")) >= 128
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: missing or not an image that can be read ({error!r})") from error
    if hole.shape != (size, size):
        raise ValueError(f"{path}: {hole.shape[1]}x{hole.shape[0]} pixels; {FACTS} says {size}x{size}")
    if _hash(hole) != wanted:
        raise ValueError(f"{path}: changed since it was written (hash {_hash(hole)}, {FACTS} says {wanted})")
    return hole
