"""How the stages are trained: frozen dataclasses whose defaults are the paper's. Standard library only.

An option of a training is declared here and nowhere else: from its field come its range, what a preset may say, what
the command line offers, what a run remembers and what a model's card tells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from manifill.config import Crop, ModelConfig, check_options, option, overrides

Schedule = Literal["constant", "cosine", "noam"]


@dataclass(frozen=True)
class Training:
    """What all three stages have in common. Raises ValueError for a number out of its range."""

    steps: int = option(1_000_000, "Optimiser steps of each stage.", least=1)
    batch_size: int = option(8, "Pictures a step.", least=1)
    learning_rate: float = option(1e-4, "Learning rate.", above=0)
    schedule: Schedule = option(
        "constant",
        "How the learning rate goes on: constant, cosine (down to 0, after a short warm-up), or noam (the paper's, "
        "of the structure generator).",
    )
    averaging: float = option(
        0.9997, "Decay of the moving average of the weights, which is what is kept; 0 keeps the last.", least=0, most=1
    )
    flip: bool = option(False, "Mirror half of the pictures.")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class VQVAETraining(Training):
    """How the VQ-VAE is trained (section 3.1); the last three are not in the paper."""

    commitment_weight: float = option(0.25, "Weight of the commitment loss (Eq. 3).", least=0)
    decay: float = option(0.99, "Decay of the moving averages that are the codebooks.", least=0, most=1)
    structure_only: float = option(
        0.0,
        "Fraction of pictures decoded without texture codes, so that the structure codes learn something. Not in the "
        "paper.",
        least=0,
        most=1,
    )
    revive: bool = option(
        False, "Give codes that no picture uses the place of a feature that is far from its code. Not in the paper."
    )
    codebook_init: Literal["auto", "paper", "data"] = option(
        "auto",
        "How it starts: weights and codebooks as in the authors' code (paper), or PyTorch's weights and features of "
        "the first batch (data); auto is data with revive, else paper.",
    )


@dataclass(frozen=True)
class MaskedTraining(Training):
    """What the two stages that see holes have in common."""

    masks: tuple[str, ...] = option(
        ("rectangle", "brush"),
        "Kinds of holes, each as often: centre, rectangle, brush, any, and files, those of MASK_FILES.",
    )
    geometry: float = option(
        0.0, "Fraction of pictures that are rotated, scaled and shifted a little; not in the paper.", least=0, most=1
    )


@dataclass(frozen=True)
class StructureTraining(MaskedTraining):
    """How the structure generator is trained (section 3.2)."""

    learning_rate: float = option(0.18, "Learning rate.", above=0)
    schedule: Schedule = option("noam", "constant, cosine or noam (the paper's: 0.18 times a warm-up and a decay).")
    known_weight: float = option(1.0, "Weight of the codes outside the hole in the loss.", least=0)
    clip: float = option(0.0, "Bound of the gradient's norm, a code; 0 is none.", least=0)
    weight_decay: float = option(0.0, "Weight decay.", least=0)
    autoguidance: float = option(
        0.0,
        "Train the structure generator of INIT_FROM to sample as it does when that of WEAKER guides it with this "
        "weight, which makes structures more coherent; 1 is usual. Not in the paper.",
        least=0,
    )


@dataclass(frozen=True)
class TextureTraining(MaskedTraining):
    """How the texture generator and its discriminator are trained (section 3.3, equations 8 to 12)."""

    averaging: float = option(
        0.0, "Decay of the moving average of the weights; 0 keeps the last (the paper).", least=0, most=1
    )
    discriminator_rate: float = option(1e-4, "Learning rate of the discriminator.", above=0)
    l1_weight: float = option(1.0, "Weight of the L1 loss (Eq. 8).", least=0)
    adversarial_weight: float = option(1.0, "Weight of the adversarial loss (Eq. 10).", least=0)
    feature_weight: float = option(0.1, "Weight of the feature losses (Eq. 11 and 12).", least=0)
    features: Literal["both", "structural", "textural", "none", "perceptual", "all"] = option(
        "both",
        "Feature losses (Table 3): of the VQ encoder's structure or texture or both; perceptual and style losses of "
        "another network in their place; or all.",
    )
    perturb: float = option(
        0.0,
        "Fraction of the hole's codes that the texture generator gets replaced by near ones; 0.1 is usual. Not in "
        "the paper.",
        least=0,
        most=1,
    )
    sampled_codes: float = option(
        0.0,
        "Fraction of pictures for the texture generator with codes sampled by the structure generator of OUT/model "
        "or INIT_FROM, so that it learns to paint what it will be given: judged by the discriminator and those codes "
        "alone; 0.5, with a discriminator that sees. Not in the paper.",
        least=0,
        most=1,
    )
    discriminator_norm: Literal["spectral", "none"] = option(
        "spectral",
        "Spectral normalisation of the discriminator (the paper), or none: its scores are then not small, and it "
        "soon sees with few steps too.",
    )
    # less while the mean scores of photos and completions are less than 1 apart: a blind discriminator's pull is noise
    adversarial_ratio: float = option(
        0.0,
        "Length of the adversarial gradient at each picture, as a multiple of all others', in place of a fixed "
        "weight; 0.5 to 1.5 without spectral normalisation. Not in the paper.",
        least=0,
    )


@dataclass(frozen=True)
class Preset:
    """A model and how to train its three stages."""

    model: ModelConfig = field(default_factory=ModelConfig)
    vqvae: VQVAETraining = field(default_factory=VQVAETraining)
    structure: StructureTraining = field(default_factory=StructureTraining)
    texture: TextureTraining = field(default_factory=TextureTraining)


TRAININGS: dict[str, type[Training]] = {
    "vqvae": VQVAETraining,
    "structure": StructureTraining,
    "texture": TextureTraining,
}
Overrides: Any = overrides(*TRAININGS.values())


@dataclass(frozen=True)
class RunOptions(Overrides):
    """What a run says besides its preset: any option of a training in the preset's place, and the following.

    Raises ValueError for a number out of its range, for both steps and minutes, and for a part of what autoguidance
    needs.
    """

    seed: int = option(0, "Seed of the weights, the order of the data and the masks.")
    minutes: float | None = option(
        None,
        "Time for all stages together, in place of steps: how many fit is planned as each stage begins, and again as "
        "it runs. The same command with more minutes goes on.",
        above=0,
    )
    crop: Crop = option(
        "centre",
        "The largest centred square, scaled; a random window, not scaled (the paper's Places2 and ImageNet); a "
        "random window of 256 after scaling to 266 (jitter: the paper's CelebA-HQ); or everything squeezed.",
    )
    limit: int | None = option(None, "Use the first pictures alone.", least=1)
    workers: int | None = option(
        None, "Threads that decode, where pictures are not held in memory; chosen unless given.", least=0
    )
    precision: Literal["auto", "bf16", "fp16", "fp32"] = option(
        "auto",
        "bf16 or fp16 autocast, or fp32; auto goes on as the stage was started, or begins in bf16 where the "
        "processor multiplies that faster and in fp32 where it does not.",
    )
    accumulate: int = option(
        1, "Take each batch in so many parts one after another, for less memory and the same result.", least=1
    )
    compile: bool = option(False, "Pass the trained networks through torch.compile, on CUDA as graphs.")
    init_from: Path | None = option(
        None,
        "Start from the weights of this model: a name, a folder or USER/REPO. With all, its VQ-VAE is kept where it "
        "serves the new pictures, and what is trained on top of another VQ-VAE is carried into its codes.",
    )
    weaker: Path | None = option(
        None,
        "A model on the same VQ-VAE whose structure generator is worse, such as an earlier one of the same training, "
        "for autoguidance: a name, a folder or USER/REPO.",
    )
    mask_files: Path | None = option(None, "Folder of masks to train with, white where the hole is: the kind files.")
    perceptual: Path | None = option(
        None, "VGG-16's weights or a TorchScript feature network, for the ablation losses-perceptual."
    )
    force: bool = option(False, "Go on with a VQ-VAE that carries nothing or has collapsed.")
    log_every: int = option(50, "Steps between lines of metrics.jsonl; each checkpoint adds one.", least=1)
    validate_every: int = option(500, "Steps between validation metrics, previews and exports.", least=1)
    checkpoint_every: int = option(250, "Steps between checkpoints.", least=1)
    quiet: bool = option(False, "No progress bar.")
    tensorboard: bool = option(False, "Write RUN/STAGE/tensorboard too (extra `tensorboard`).")

    def __post_init__(self) -> None:
        if self.minutes is not None and self.steps is not None:
            raise ValueError("steps and minutes both say how long to train; give one of them")
        check_options(self)
        if self.mask_files and self.masks is None:
            object.__setattr__(self, "masks", ("files",))
        if bool(self.mask_files) != ("files" in (self.masks or ())):
            raise ValueError("masks of the kind files are those of a folder: name their folder with --mask-files")
        if bool(self.autoguidance) != bool(self.weaker):
            raise ValueError("give both --autoguidance and --weaker: how strongly it is guided, and by which model")
        if self.weaker and not self.init_from:
            raise ValueError("autoguidance trains a finished structure generator on: name its model with --init-from")
