"""How much of the Frechet distance of completions to photos comes from having drawn other structures than the photos'.

    manifill evaluate --data test.tar --model faces-128 --features NETWORK --true-codes --out OUT
    python benchmarks/redraws.py OUT/scores_faces-128.npz OUT/scores_faces-128-true-codes.npz

Pictures painted from the true codes share the photos' structures, so these differ by nothing; drawn ones differ as two
draws do, which a set of few pictures feels even from a perfect structure generator. Two sets of completions of the same
pictures show how much that is; what completions are farther from the true codes' pictures is the generator's own fault.
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
    ratios = [frechet_distance(x, photos) / rows["true codes to photos"] for x in sets]
    print(f"completions over true codes: {np.mean(ratios):.3f} (from set to set +- {np.std(ratios, ddof=1):.3f})")


if __name__ == "__main__":
    main()
