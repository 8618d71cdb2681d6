"""How the three stages are trained: frozen dataclasses whose defaults are the paper's. Standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from manifill.config import ModelConfig

CodebookStart = Literal["auto", "random", "data"]
DiscriminatorNorm = Literal["spectral", "none"]

# the numbers of a training, by what they may be
COUNTS = {"steps", "batch_size", "limit", "accumulate", "log_every", "validate_every", "checkpoint_every"}
RATES = {"learning_rate", "discriminator_rate", "minutes"}
SHARES = {"averaging", "decay", "structure_only", "perturb", "drawn", "geometry"}
NOT_NEGATIVE = {
    "commitment_weight",
    "known_weight",
    "clip",
    "weight_decay",
    "l1_weight",
    "adversarial_weight",
    "feature_weight",
    "adversarial_share",
    "autoguidance",
    "workers",
}


@dataclass(frozen=True)
class VQVAETraining:
    """How the VQ-VAE is trained (section 3.1).

    `structure_only` is the share of each batch decoded without texture codes, so that the structure codes learn
    something (not in the paper; 0 there). `revive` re-seeds dead codes. `start` is where the first codebooks are from:
    random numbers (the paper) or features of the first batch (data); auto is data with `revive`.
    Raises ValueError for a number out of its range.
    """

    steps: int = 1_000_000
    batch_size: int = 8
    learning_rate: float = 1e-4
    schedule: Literal["constant", "cosine", "noam"] = "constant"
    averaging: float = 0.9997
    commitment_weight: float = 0.25
    decay: float = 0.99
    structure_only: float = 0.0
    revive: bool = False
    start: CodebookStart = "auto"
    flip: bool = False

    def __post_init__(self) -> None:
        check_numbers(self)


@dataclass(frozen=True)
class StructureTraining:
    """How the structure generator is trained (section 3.2).

    `known_weight` weighs the codes outside the hole in the loss; `clip` bounds the gradient norm (0 = off).
    `autoguidance`, when not 0, is the weight of a weaker structure generator that guides a finished one, which learns
    to draw as both do together (`train/distill.py`). `geometry` is the fraction of pictures that are rotated, scaled
    and shifted a little (`data/geometry.py`). Neither is in the paper. Raises ValueError for a number out of its range.
    """

    steps: int = 1_000_000
    batch_size: int = 8
    learning_rate: float = 0.18
    schedule: Literal["constant", "cosine", "noam"] = "noam"
    averaging: float = 0.9997
    masks: tuple[str, ...] = ("rectangle", "brush")
    known_weight: float = 1.0
    clip: float = 0.0
    weight_decay: float = 0.0
    autoguidance: float = 0.0
    flip: bool = False
    geometry: float = 0.0

    RETIRED: ClassVar[dict[str, Any]] = {"condition_dropout": 0.0}  # fields of earlier versions, when off

    def __post_init__(self) -> None:
        check_numbers(self)


@dataclass(frozen=True)
class TextureTraining:
    """How the texture generator and its discriminator are trained (section 3.3, equations 8 to 12).

    `averaging` 0 keeps the last weights (the paper). `perturb` is the share of hole codes replaced by near neighbours,
    `drawn` the share of pictures whose hole is painted from codes that the structure generator has drawn, and judged by
    the discriminator and the drawn codes alone (neither is in the paper; 0 there).
    `features` picks the feature losses of Table 3: of the VQ encoder or, "perceptual", the distance of another
    network's feature maps and of their correlations (style), in their place; "all" takes both kinds.

    `discriminator_norm` "none" leaves the discriminator's convolutions as they are: spectral normalisation (the paper)
    keeps its scores so small that with few steps it stays blind. `adversarial_share`, when not 0, replaces
    `adversarial_weight`: at every painted picture the adversarial gradient is so many times as long as all others',
    less while the discriminator's mean scores of photos and completions are less than 1 apart: a blind one's is noise.
    `geometry` is as in StructureTraining.
    Raises ValueError for a number out of its range.
    """

    steps: int = 1_000_000
    batch_size: int = 8
    learning_rate: float = 1e-4
    discriminator_rate: float = 1e-4
    schedule: Literal["constant", "cosine", "noam"] = "constant"
    averaging: float = 0.0
    masks: tuple[str, ...] = ("rectangle", "brush")
    l1_weight: float = 1.0
    adversarial_weight: float = 1.0
    feature_weight: float = 0.1
    features: Literal["both", "structural", "textural", "none", "perceptual", "all"] = "both"
    perturb: float = 0.0
    drawn: float = 0.0
    discriminator_norm: DiscriminatorNorm = "spectral"
    adversarial_share: float = 0.0
    flip: bool = False
    geometry: float = 0.0

    RETIRED: ClassVar[dict[str, Any]] = {"lecam_weight": 0.0}  # fields of earlier versions, when off

    def __post_init__(self) -> None:
        check_numbers(self)


@dataclass(frozen=True)
class Preset:
    """A model and how to train its three stages."""

    model: ModelConfig = field(default_factory=ModelConfig)
    vqvae: VQVAETraining = field(default_factory=VQVAETraining)
    structure: StructureTraining = field(default_factory=StructureTraining)
    texture: TextureTraining = field(default_factory=TextureTraining)


def check_numbers(training: Any) -> None:
    """Raise ValueError for a number of a training's settings that is out of its range; None stands for no number."""
    for name, value in vars(training).items():
        if value is None:
            continue
        if name in COUNTS and value < 1:
            raise ValueError(f"{name} is {value}; expected 1 or more")
        if name in RATES and not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}; expected a number above 0")
        if name in SHARES and not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; expected a share from 0 to 1")
        if name in NOT_NEGATIVE and not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value}; expected 0 or more")
