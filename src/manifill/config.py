"""Sizes and training settings as frozen dataclasses whose defaults are the paper's.

Standard library only, so that a configuration can be read, printed and compared without loading PyTorch.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")
CodebookStart = Literal["auto", "random", "data"]
DiscriminatorNorm = Literal["spectral", "none"]

# the numbers of a training, by what they may be
COUNTS = {"steps", "batch_size", "limit", "accumulate", "log_every", "validate_every", "checkpoint_every"}
RATES = {"learning_rate", "discriminator_rate", "minutes"}
SHARES = {"averaging", "decay", "structure_only", "perturb", "drawn", "geometry"}
NOT_NEGATIVE = {
    "commitment_weight", "known_weight", "clip", "weight_decay", "l1_weight", "adversarial_weight", "feature_weight",
    "adversarial_share", "autoguidance", "workers",
}  # fmt: skip

DEEPEST = 64  # layers of a network: three times the paper's, and as many as the native sampler can tell apart
SIZES: dict[str, tuple[float, float]] = {
    "width": (2, 1 << 16), "residual_width": (1, 1 << 16), "codebook_size": (2, 1 << 16), "codebook_dim": (1, 1 << 16),
    "condition_width": (1, 1 << 16), "layers": (1, DEEPEST), "attention_layers": (0, DEEPEST), "heads": (1, 1024),
    "output_blocks": (0, DEEPEST), "dropout": (0, 1), "dilations": (1, 1024), "temperature": (1e-6, 1e6),
    "top_k": (0, 1 << 16), "top_p": (1e-6, 1),
}  # fmt: skip  # what the sizes of a network in a file may be


@dataclass(frozen=True)
class VQVAEConfig:
    """Hierarchical VQ-VAE (section 3.1)."""

    width: int = 128
    residual_width: int = 64
    codebook_size: int = 512
    codebook_dim: int = 64


@dataclass(frozen=True)
class StructureConfig:
    """Diverse structure generator (section 3.2): condition network and PixelCNN.

    `condition_features` gives the condition network the VQ encoder's features of the masked picture (not in the paper).
    `temperature`, `top_k` and `top_p` are the model's own defaults for sampling.
    `both_directions` says that the PixelCNN reads rows from left to right and from right to left (not in the paper).
    """

    codebook_size: int = 512
    codebook_dim: int = 64
    width: int = 128
    layers: int = 20
    attention_layers: int = 4
    heads: int = 8
    output_blocks: int = 20
    dropout: float = 0.1
    condition_width: int = 32
    dilations: tuple[int, ...] = (1, 1, 1, 2, 4, 8, 16, 1, 1, 1)
    condition_features: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    both_directions: bool = False


@dataclass(frozen=True)
class TextureConfig:
    """Texture generator with structural attention (section 3.3); the attention options are those of Table 2."""

    codebook_dim: int = 64
    width: int = 64
    attention: Literal["full", "cross", "none"] = "full"
    scores: Literal["structural", "learned"] = "structural"
    fuse: bool = True


@dataclass(frozen=True)
class DiscriminatorConfig:
    """SN-PatchGAN discriminator (section 3.3)."""

    width: int = 64
    layers: int = 6


@dataclass(frozen=True)
class ModelConfig:
    """One complete model; `image_size` is the side of the square pictures it was trained on, in pixels."""

    image_size: int = 256
    vqvae: VQVAEConfig = field(default_factory=VQVAEConfig)
    structure: StructureConfig = field(default_factory=StructureConfig)
    texture: TextureConfig = field(default_factory=TextureConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)


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

    def __post_init__(self) -> None:
        check_numbers(self)


@dataclass(frozen=True)
class Preset:
    """A model and how to train its three stages."""

    model: ModelConfig = field(default_factory=ModelConfig)
    vqvae: VQVAETraining = field(default_factory=VQVAETraining)
    structure: StructureTraining = field(default_factory=StructureTraining)
    texture: TextureTraining = field(default_factory=TextureTraining)


Strategy = Literal["auto", "crop", "resize", "original"]


@dataclass(frozen=True)
class Fit:
    """How a hole is fitted to the model and the result to the photo; lengths in pixels of the photo.

    Attributes:
        strategy: crop completes squares around the holes, resize the whole photo at the model's size, original squares
            of the model's size without any scaling, one after another; auto is resize for a square photo of up to four
            times the model's size, which is how models are trained, and crop otherwise.
        crop_margin: Context on each side of a hole; half the hole's extent unless given.
        dilate: Grow the hole by so much, for sloppy masks.
        seamless: Adapt the result to the colours around the hole, by a gradient-domain paste. Off, it is pasted as
            painted, which is what published figures measure.
        feather: Adapt it so far from the border alone, fading out, in place of everywhere.
        detail: Carry the photo's fine detail into results that are scaled up.

    """

    strategy: Strategy = "auto"
    crop_margin: int | None = None
    dilate: int = 0
    feather: int = 0
    seamless: bool = True
    detail: bool = True

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            raise ValueError(f"strategy is {self.strategy!r}; expected {', '.join(get_args(Strategy))}")
        for name in ("crop_margin", "dilate", "feather"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} is {value}; expected 0 or more pixels")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass as plain dicts and lists, ready for JSON."""
    return dataclasses.asdict(config)


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


RETIRED: dict[type, dict[str, Any]] = {
    StructureConfig: {"guidance": 0.0, "unconditional": False},
    StructureTraining: {"condition_dropout": 0.0},
    TextureTraining: {"lecam_weight": 0.0},
}  # fields of earlier versions, and the value with which they did nothing
YOUNGER: dict[type, dict[str, Any]] = {
    StructureConfig: {"both_directions": False},
}  # fields that models saved earlier do not name, and what that means


def without_retired(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return saved values of the dataclass `kind` without the fields that are no more.

    Fields younger than the values get what was so before them. Raises ValueError, which names it, for a field that is
    no more and had an effect.
    """
    retired = RETIRED.get(kind, {})
    for name, off in retired.items():
        if values.get(name, off) != off:
            raise ValueError(f"{name} is {values[name]}; this version knows {off} alone")
    return YOUNGER.get(kind, {}) | {name: value for name, value in values.items() if name not in retired}


def from_dict(kind: type[T], values: dict[str, Any]) -> T:
    """Build the flat dataclass `kind` from plain values, as of a file.

    Raises ValueError for a missing or foreign field, a value of another type and a size that no network has. Fields of
    earlier versions may be there, switched off.
    """
    values = without_retired(kind, values)
    names = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if set(values) != names:
        missing, foreign = sorted(names - set(values)), sorted(set(values) - names)
        raise ValueError(f"{kind.__name__}: missing fields {missing}, unknown fields {foreign}")
    hints = get_type_hints(kind)
    for name, value in values.items():
        if not _fits(hints[name], value):
            wanted = getattr(hints[name], "__name__", hints[name])
            raise ValueError(f"{kind.__name__}: {name} is {str(value)[:40]!r}; expected {wanted}")
    config = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    _check_sizes(config)
    return config


def _fits(hint: Any, value: Any) -> bool:
    """Say whether a value read from JSON is of an annotated type."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, list | tuple) and all(_fits(get_args(hint)[0], v) for v in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return type(value) is hint


def _check_sizes(config: Any) -> None:
    """Raise ValueError for a size of a network that cannot be, whoever wrote it."""
    for name, value in vars(config).items():
        low, high = SIZES.get(name, (-math.inf, math.inf))
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not low <= number <= high:
                raise ValueError(f"{type(config).__name__}: {name} is {number}; expected {low} to {high}")
        if isinstance(value, tuple) and len(value) > DEEPEST:
            raise ValueError(f"{type(config).__name__}: {len(value)} {name}; expected at most {DEEPEST}")
    if isinstance(config, StructureConfig):
        if config.attention_layers > config.layers:
            raise ValueError(f"StructureConfig: {config.attention_layers} attention_layers of {config.layers} layers")
        if config.width % 8:
            raise ValueError(f"StructureConfig: width is {config.width}; expected a multiple of 8")
