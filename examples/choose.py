"""Sample many completions of a photo, keep those that differ most, and go on from one: `python examples/choose.py`."""

from __future__ import annotations

from pathlib import Path

from manifill import Completion, Fit, ImageError, Inpainter, Preview

EXAMPLES = Path(__file__).parent


def main(out: Path = Path("out/choose")) -> list[Path]:
    """Write four completions that differ, the one that the model finds likeliest, and two that are near it."""
    out.mkdir(parents=True, exist_ok=True)
    inpainter = Inpainter.from_pretrained("faces-128")
    try:
        completions = inpainter(
            EXAMPLES / "astronaut.png", EXAMPLES / "centre.png", num_samples=4, of=8, seed=0, fit=Fit(feather=8)
        )
    except ImageError as error:  # names the file, what was found in it and what was expected
        raise SystemExit(str(error)) from error
    found: list[Completion] = []
    for event in completions.events():
        if isinstance(event, Preview):
            print(f"{event.index + 1} of {len(completions)}: seed {event.seed}")
        else:
            found.append(event)
    likeliest = max(found, key=lambda completion: completion.log_likelihood)
    named = {f"seed_{completion.seed}": completion for completion in found} | {"likeliest": likeliest}
    named |= {f"near_{c.seed}": c for c in inpainter.near(likeliest, amount=0.3, num_samples=2, seed=100)}
    paths = [out / f"{name}.png" for name in named]
    for path, completion in zip(paths, named.values(), strict=True):
        completion.image.save(path)
    return paths


if __name__ == "__main__":
    print(*main(), sep="\n")
