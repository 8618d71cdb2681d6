"""How much of the Frechet distance of completions to photos comes from having drawn other structures than the photos'.

    manifill evaluate --data test.tar --model faces-128 --features NETWORK --true-codes --out OUT
    python benchmarks/redraws.py OUT/scores_faces-128.npz OUT/scores_faces-128-true-codes.npz

Pictures painted from the true codes share the photos' structures, so these differ by nothing; drawn ones differ as two
draws do, which a set of few pictures feels even from a perfect structure generator. Two sets of completions of the same
pictures show how much that is; what completions are farther from the true codes' pictures is the generator's own fault.

The ratio of the first two distances is then what a perfect generator would have in a world of its own: one set of
completions plays the pictures painted from true codes, the same plus what painting takes from each photo (photo less
true codes' picture, in features) plays the photos, and the other sets are completions of a generator that is right. It
takes the loss of painting to be independent of the structure.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np

from manifill.evaluate.metrics import frechet_distance


def main() -> None:
    """Print the mean distances between photos, pictures painted from true codes, and sets of completions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("completions", type=Path)
    parser.add_argument("true_codes", type=Path)
    parser.add_argument("--features", default="SqueezeNet")
    a = parser.parse_args()

    drawn, true, photos = (
        np.load(path)[f"value_{kind}_{a.features}"]
        for path, kind in ((a.completions, "features"), (a.true_codes, "features"), (a.completions, "real"))
    )
    sets, true = drawn.swapaxes(0, 1), true[:, 0]
    between = np.mean([frechet_distance(x, y) for x, y in combinations(sets, 2)])
    rows = {
        "true codes to photos": frechet_distance(true, photos),
        "completions to photos": np.mean([frechet_distance(x, photos) for x in sets]),
        "completions to true codes": np.mean([frechet_distance(x, true) for x in sets]),
        "completions to other completions of the same pictures": between,
    }
    print(f"{len(photos)} pictures, {len(sets)} completions each")
    for name, distance in rows.items():
        print(f"{name}: {distance:.4g}")
    print(f"completions over true codes: {spread(ratios(sets, true, photos))}")
    perfect = [
        ratio
        for k, played in enumerate(sets)
        for ratio in ratios(np.delete(sets, k, 0), played, played + (photos - true))
    ]
    print(f"the same in a world where the generator is right: {spread(perfect)}")


def ratios(sets: np.ndarray, true: np.ndarray, photos: np.ndarray) -> list[float]:
    """Return the distance to the photos of each set of completions, over that of the pictures from true codes."""
    least = frechet_distance(true, photos)
    return [frechet_distance(x, photos) / least for x in sets]


def spread(values: list[float]) -> str:
    """Return mean and standard deviation in words."""
    return f"{np.mean(values):.3f} (from set to set +- {np.std(values, ddof=1):.3f})"


if __name__ == "__main__":
    main()
