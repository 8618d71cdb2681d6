"""What a model says of the pictures it was trained on: in the header of its VQ-VAE's file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Framing:
    """How faces lie in the pictures of a model that knows faces: mean places (x, y) in parts of the picture's side.

    Right is the person's own. Raises ValueError for places that are no face.
    """

    right_eye: tuple[float, float]
    left_eye: tuple[float, float]
    mouth: tuple[float, float]

    def __post_init__(self) -> None:
        places = (self.right_eye, self.left_eye, self.mouth)
        if not all(len(place) == 2 and all(0 < v < 1 for v in place) for place in places):
            raise ValueError(f"framing has the places {places}; expected pairs of numbers between 0 and 1")
        if not (self.right_eye[0] < self.left_eye[0] and max(self.right_eye[1], self.left_eye[1]) < self.mouth[1]):
            raise ValueError(f"framing has the places {places}; expected two eyes side by side over a mouth")


@dataclass(frozen=True)
class Domain:
    """What pictures a model was trained on, so that the pipeline can frame a photo alike and tell what lies outside.

    `subject` names them, such as "faces". `framing` says how faces lie in them, None where they are no faces. Nearly
    all of the model's validation pictures are reconstructed by its VQ-VAE with at least `least_psnr` dB, and their
    codes under a centre hole take at most `most_bits` bits each; None where that was not measured.
    """

    subject: str
    framing: Framing | None = None
    least_psnr: float | None = None
    most_bits: float | None = None


def domain_from_dict(values: dict[str, Any]) -> Domain:
    """Build a Domain from plain values. Raises ValueError for missing, foreign or impossible ones."""
    try:
        framing = values.get("framing")
        places = None if framing is None else Framing(**{k: (float(x), float(y)) for k, (x, y) in framing.items()})
        return Domain(**{**values, "framing": places})
    except TypeError as error:
        raise ValueError(f"not the domain of a model ({error})") from error
