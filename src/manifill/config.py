"""Sizes of networks and options of sampling as frozen dataclasses whose defaults are the paper's.

Standard library only, so that a configuration can be read, printed and compared without loading PyTorch.
"""

from __future__ import annotations

import dataclasses
import json
import math
import operator
import secrets
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypedDict, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")
Crop = Literal["centre", "random", "jitter", "squeeze"]  # how a picture becomes a square to train on
NETWORKS = ("vqvae", "structure", "texture", "discriminator")  # of a model folder, in the order of training
SMALLEST = 1e-6  # temperature and top_p: below it nothing changes, and far below it 32 bits are too few


class ModelError(ValueError):
    """A model folder that cannot be used; the message names the file, what was found and what was expected."""


class ManifillWarning(UserWarning):
    """What a person may not have meant, or will want to know: of a photo, a mask, pictures to train on."""


def option(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    served: tuple[float, float] | None = None,
) -> Any:
    """Declare an option: all there is to say of it, for the command line, the web and whoever checks it.

    It is at least `least`, more than `above` and at most `most`; a server takes numbers in the range `served` alone.
    """
    said = {"help": help, "least": least, "above": above, "most": most, "served": served}
    return field(default=default, metadata=said)


def check_options(options: Any) -> None:
    """Raise ValueError for an option that is out of the range it was declared with; None stands for no number."""
    for f in dataclasses.fields(options):
        said, m = getattr(options, f.name), f.metadata
        numbers = [x for x in (said if isinstance(said, tuple) else (said,)) if isinstance(x, int | float)]
        for value in numbers if "help" in m else []:
            low, above, high = m["least"], m["above"], m["most"]
            finite = not isinstance(value, float) or math.isfinite(value)
            inside = finite and (low is None or value >= low) and (above is None or value > above)
            if not inside or (high is not None and value > high):
                least = "a finite number" if above is None else f"more than {above:.6g}"
                more = f"{low:.6g} or more" if low is not None else least
                most = f", at most {high}" if high is not None else ""
                raise ValueError(f"{f.name} is {value}; expected {more}{most}")


def overrides(*kinds: type) -> type:
    """Return a dataclass with the options of all `kinds`, by name, each None: where it is not said in place of theirs.

    Help and range are those of the first kind that declares it.
    """
    found: dict[str, tuple[str, Any, Any]] = {}
    for kind in kinds:
        hints = get_type_hints(kind)
        for f in dataclasses.fields(kind):
            found.setdefault(f.name, (f.name, hints[f.name] | None, field(default=None, metadata=f.metadata)))
    return dataclasses.make_dataclass("Overrides", found.values(), frozen=True)


@dataclass(frozen=True)
class SamplingOptions:
    """How codes are sampled from logits: divided by `temperature`, cut to the `top_k` likeliest, then to `top_p`."""

    temperature: float = option(
        1.0, "Above 0; smaller is likelier and less diverse.", least=SMALLEST, served=(0.01, 100)
    )
    top_k: int = option(0, "Sample among the k likeliest codes, 0 for all.", least=0, most=1 << 30, served=(0, 1 << 20))
    top_p: float = option(
        1.0, "Sample among the likeliest codes that hold this fraction.", least=SMALLEST, most=1, served=(0, 1)
    )

    def __post_init__(self) -> None:
        check_options(self)


class Sampling(TypedDict, total=False):
    """Sampling options by keyword, as `Inpainter` takes them; None is the model's own."""

    temperature: float | None
    top_k: int | None
    top_p: float | None


SEED_BITS = 40  # of a seed: what lies above says which crop, and which completion, the noise belongs to


def seeds_from(seed: int | None, count: int) -> range:
    """Return `count` seeds from `seed` on, a random one for None and -1. Raises ValueError."""
    try:
        first = secrets.randbelow(2**31) if seed is None or seed == -1 else operator.index(seed)
    except TypeError:
        raise ValueError(f"seed is {seed!r}; expected a whole number") from None
    if not 0 <= first < 2**SEED_BITS:
        raise ValueError(f"seed is {first}; expected 0 to 2**{SEED_BITS} - 1, or -1 for a random one")
    return range(first, first + count)


def check_counts(num_samples: int, of: int | None = None) -> None:
    """Raise ValueError unless so many completions can be asked for, of so many that are sampled."""
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}; expected 1 or more")
    if of is not None and of < num_samples:
        raise ValueError(f"of is {of}; expected at least the {num_samples} that are to be kept")


DEEPEST = 64  # layers of a network: three times the paper's, and as many as the native sampler can tell apart
WIDEST = 1 << 16


def dimension(default: Any, least: int = 1, most: int = WIDEST) -> Any:
    """Declare a size of a network: what a file may say of it."""
    return option(default, "", least=least, most=most)


@dataclass(frozen=True)
class VQVAEConfig:
    """Hierarchical VQ-VAE (section 3.1)."""

    width: int = dimension(128, 2)
    residual_width: int = dimension(64)
    codebook_size: int = dimension(512, 2)
    codebook_dim: int = dimension(64)


@dataclass(frozen=True)
class StructureConfig(SamplingOptions):
    """Diverse structure generator (section 3.2): condition network and PixelCNN.

    `condition_features` gives the condition network the VQ encoder's features of the masked picture (not in the paper).
    What it inherits are the model's own defaults for sampling.
    `both_directions` says that the PixelCNN reads rows from left to right and from right to left (not in the paper).
    """

    codebook_size: int = dimension(512, 2)
    codebook_dim: int = dimension(64)
    width: int = dimension(128, 2)
    layers: int = dimension(20, 1, DEEPEST)
    attention_layers: int = dimension(4, 0, DEEPEST)
    heads: int = dimension(8, 1, 1024)
    output_blocks: int = dimension(20, 0, DEEPEST)
    dropout: float = dimension(0.1, 0, 1)
    condition_width: int = dimension(32)
    dilations: tuple[int, ...] = dimension((1, 1, 1, 2, 4, 8, 16, 1, 1, 1), 1, 1024)
    condition_features: bool = False
    both_directions: bool = False

    # fields of earlier versions, and the value with which they did nothing
    RETIRED: ClassVar[dict[str, Any]] = {"guidance": 0.0, "unconditional": False}
    # fields that models saved earlier do not name, and what that means; all name the first three of sampling
    YOUNGER: ClassVar[dict[str, Any]] = {"both_directions": False} | {
        f.name: f.default for f in dataclasses.fields(SamplingOptions)[3:]
    }

    def __post_init__(self) -> None:
        """Leave the numbers to `from_dict`, which says whose they are."""

    @property
    def sampling(self) -> SamplingOptions:
        """The model's own sampling options."""
        return SamplingOptions(**{f.name: getattr(self, f.name) for f in dataclasses.fields(SamplingOptions)})


@dataclass(frozen=True)
class TextureConfig:
    """Texture generator with structural attention (section 3.3); the attention options are those of Table 2."""

    codebook_dim: int = dimension(64)
    width: int = dimension(64, 2)
    attention: Literal["full", "cross", "none"] = "full"
    scores: Literal["structural", "learned"] = "structural"
    fuse: bool = True


@dataclass(frozen=True)
class DiscriminatorConfig:
    """SN-PatchGAN discriminator (section 3.3)."""

    width: int = dimension(64, 2)
    layers: int = dimension(6, 1, DEEPEST)


@dataclass(frozen=True)
class ModelConfig:
    """One complete model; `image_size` is the side of the square pictures it was trained on, in pixels."""

    image_size: int = 256
    vqvae: VQVAEConfig = field(default_factory=VQVAEConfig)
    structure: StructureConfig = field(default_factory=StructureConfig)
    texture: TextureConfig = field(default_factory=TextureConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)


Strategy = Literal["auto", "crop", "resize", "original"]


@dataclass(frozen=True)
class Fit:
    """How a hole is fitted to the model and the result to the photo; lengths in pixels of the photo."""

    strategy: Strategy = option(
        "auto",
        "crop completes squares around the holes, resize the whole photo at the model's size, original squares of the "
        "model's size without any scaling, one after another; auto puts a face as training had it, with "
        "a model that knows faces; where there is none, it is resize for a square photo of up to four times the "
        "model's size, and crop otherwise.",
    )
    crop_margin: int | None = option(
        None, "Context on each side of a hole; half the hole's extent unless given.", least=0, served=(0, 4096)
    )
    dilate: int = option(0, "Grow the hole by so many pixels, for sloppy masks.", least=0, served=(0, 32))
    feather: int = option(
        0,
        "Adapt the result's colours so far from the hole's border alone, fading out, in place of everywhere.",
        least=0,
        served=(0, 256),
    )
    seamless: bool = option(
        True,
        "Adapt the result to the colours around the hole, by a gradient-domain paste. Off, it is pasted as painted, "
        "which is what published metrics measure.",
    )
    detail: bool = option(True, "Carry the photo's fine detail into results that are scaled up.")
    thin: bool = option(
        True,
        "Fill parts of the hole that are a few pixels thin, such as scratches, from what is beside them, without the "
        "model. Off, the model fills them too, which is what published metrics measure.",
    )

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            raise ValueError(f"strategy is {self.strategy!r}; expected {', '.join(get_args(Strategy))}")
        check_options(self)


def to_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass as plain dicts and lists, as JSON has them."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def without_retired(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return saved values of the dataclass `kind` without the fields that are no more.

    Fields younger than the values get what was so before them. Raises ValueError, which names it, for a field that is
    no more and had an effect.
    """
    retired: dict[str, Any] = getattr(kind, "RETIRED", {})
    for name, off in retired.items():
        if values.get(name, off) != off:
            raise ValueError(f"{name} is {values[name]}; this version knows {off} alone")
    return getattr(kind, "YOUNGER", {}) | {name: value for name, value in values.items() if name not in retired}


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
    try:
        config = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        check_options(config)
        _check_together(config)
    except ValueError as error:
        raise ValueError(f"{kind.__name__}: {error}") from None
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


def _check_together(config: Any) -> None:
    """Raise ValueError for sizes of a network that do not go together, whoever wrote them."""
    for name, value in vars(config).items():
        if isinstance(value, tuple) and len(value) > DEEPEST:
            raise ValueError(f"{len(value)} {name}; expected at most {DEEPEST}")
    if isinstance(config, StructureConfig):
        if config.attention_layers > config.layers:
            raise ValueError(f"{config.attention_layers} attention_layers of {config.layers} layers")
        if config.width % 8:
            raise ValueError(f"width is {config.width}; expected a multiple of 8")
