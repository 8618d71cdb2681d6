"""What every method of an evaluation has to do: the same pictures, holes and measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from manifill.data.pictures import Pictures
from manifill.evaluate.features import FeatureNetwork, Perceptual
from manifill.evaluate.methods import Method
from manifill.evaluate.scores import Scores, measure


@dataclass(frozen=True)
class Task:
    """Pictures with their holes, and the networks that look at what fills them."""

    pictures: Pictures
    holes: Callable[[int], np.ndarray]
    networks: Sequence[FeatureNetwork]
    perceptual: Sequence[Perceptual]
    about: dict[str, Any]
    shard: tuple[int, int] = (0, 1)  # this one, of so many

    def part(self, count: int) -> Task:
        """Return the same with the first `count` pictures, undivided."""
        about = self.about | {"pictures": min(count, len(self.pictures))}
        return replace(self, about=about, shard=(0, 1))

    def indices(self) -> range:
        """Return the pictures of this shard."""
        return range(self.shard[0], self.about["pictures"], self.shard[1])

    def score(self, method: Method, quiet: bool = False) -> Scores:
        """Complete and measure every picture of this shard."""
        rows = []
        for k in tqdm(self.indices(), desc=method.name, unit="picture", disable=quiet, leave=False):
            picture, hole = self.pictures.array[k], self.holes(k)
            done = method.complete(picture, hole, k, self.pictures.names[k])
            rows.append(measure(picture, hole, done, self.networks, self.perceptual))
        values = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
        about = self.about | method.about | {"shard": f"{self.shard[0]}/{self.shard[1]}"}
        return Scores(about, np.array(self.indices(), np.int64), values)
