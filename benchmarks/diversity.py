"""How far two completions of a picture are apart, as a share of how far completions of different pictures are.

    python benchmarks/diversity.py --data test.tar --features squeezenet1_0-imagenet.ts [--model faces-128]

Centre holes, two completions a picture with the seeds of `manifill evaluate`, whole composites, distances of unit
feature maps; each picture's first completion is held against that of the picture after it.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import torch

from manifill.data.pictures import Pictures
from manifill.evaluate.features import TorchScriptNetwork
from manifill.evaluate.methods import ModelMethod, Picking
from manifill.evaluate.protocols import mask
from manifill.evaluate.scores import tensor
from manifill.inpainter import Inpainter


def main() -> None:
    """Print both distances and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--model", default="faces-128")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top-p", type=float)
    a = parser.parse_args()

    model, network = Inpainter.from_pretrained(a.model), TorchScriptNetwork(a.features)
    pictures = Pictures(a.data, model.image_size, a.count, quiet=True)
    method = ModelMethod(model, Picking(2), model.options(a.temperature, None, a.top_p))
    done = [
        tensor(method.complete(picture, mask("paper-centre", k, size=model.image_size), k, "").composites)
        for k, picture in enumerate(pictures.array)
    ]
    samples = torch.cat([network.perceptual(x[:1], x[1:]) for x in done])
    others = torch.cat([network.perceptual(x[:1], y[:1]) for x, y in pairwise([*done, done[0]])])
    print(f"{model.name}, weights {model.weights}, {len(done)} pictures, {method.options}")
    print(
        f"two completions of a picture {samples.mean():.3f}, of different pictures {others.mean():.3f}: "
        f"{samples.mean() / others.mean():.3f}"
    )


if __name__ == "__main__":
    main()
