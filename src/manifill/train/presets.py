"""The presets by name, and the rows of the paper's ablations that can be laid over them.

Standard library only, as the configuration itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from manifill.config import DiscriminatorConfig, ModelConfig, StructureConfig, TextureConfig, VQVAEConfig
from manifill.train.config import Preset, StructureTraining, TextureTraining, VQVAETraining

# half of them whatever users paint, up to nine tenths of the picture; the others as papers measure
MASKS = (*["any"] * 5, "centre", "centre", "rectangle", "rectangle", "brush")

FACES_128 = Preset(
    model=ModelConfig(
        image_size=128,
        vqvae=VQVAEConfig(width=64, residual_width=32),
        structure=StructureConfig(
            width=96,
            layers=12,
            attention_layers=3,
            heads=4,
            output_blocks=6,
            condition_width=16,
            dilations=(1, 2, 4, 8),
            condition_features=True,
            both_directions=True,
        ),
        texture=TextureConfig(width=48),
        discriminator=DiscriminatorConfig(width=32, layers=5),
    ),
    vqvae=VQVAETraining(
        steps=3000,
        batch_size=16,
        learning_rate=6e-4,
        schedule="cosine",
        averaging=0.998,
        structure_only=0.25,
        revive=True,
        codebook_init="paper",
        flip=True,
    ),
    structure=StructureTraining(
        steps=4500,
        batch_size=8,
        learning_rate=1e-3,
        schedule="cosine",
        averaging=0.999,
        masks=MASKS,
        known_weight=0.3,
        clip=1.0,
        flip=True,
        geometry=0.6,
    ),
    texture=TextureTraining(
        steps=4500,
        batch_size=8,
        learning_rate=2e-4,
        discriminator_rate=4e-4,
        discriminator_norm="none",
        adversarial_ratio=1.5,
        schedule="cosine",
        averaging=0.999,
        masks=MASKS,
        flip=True,
        geometry=0.6,
    ),
)

TINY = Preset(
    model=ModelConfig(
        image_size=64,
        vqvae=VQVAEConfig(width=16, residual_width=8, codebook_size=32, codebook_dim=8),
        structure=StructureConfig(
            codebook_size=32,
            codebook_dim=8,
            width=16,
            layers=4,
            attention_layers=2,
            heads=2,
            output_blocks=2,
            condition_width=4,
            dilations=(1, 2),
        ),
        texture=TextureConfig(codebook_dim=8, width=8),
        discriminator=DiscriminatorConfig(width=8, layers=4),
    ),
    vqvae=VQVAETraining(
        steps=40, batch_size=4, learning_rate=2e-3, schedule="cosine", averaging=0.9, structure_only=0.3, revive=True
    ),
    structure=StructureTraining(
        steps=20,
        batch_size=4,
        learning_rate=1e-3,
        schedule="cosine",
        averaging=0.9,
        masks=("centre", "rectangle", "brush"),
        clip=1.0,
    ),
    texture=TextureTraining(
        steps=20,
        batch_size=4,
        learning_rate=2e-4,
        discriminator_rate=2e-4,
        schedule="cosine",
        averaging=0.9,
        masks=("centre", "rectangle", "brush"),
        perturb=0.1,
    ),
)

FACES_64 = replace(
    FACES_128,
    model=replace(
        FACES_128.model,
        image_size=64,
        texture=TextureConfig(width=32),
        discriminator=DiscriminatorConfig(width=32, layers=4),
    ),
    vqvae=replace(FACES_128.vqvae, steps=1500),
    texture=replace(FACES_128.texture, steps=600),
)

# half the paper's widths, at its size: for a GPU
FACES_256 = replace(
    FACES_128,
    model=ModelConfig(
        vqvae=FACES_128.model.vqvae,
        structure=StructureConfig(width=64, condition_width=16, condition_features=True),
        texture=TextureConfig(width=32),
        discriminator=DiscriminatorConfig(width=32),
    ),
    vqvae=replace(FACES_128.vqvae, steps=20_000, averaging=0.999),
    structure=replace(FACES_128.structure, steps=60_000, averaging=0.9997),
    texture=replace(FACES_128.texture, steps=40_000),
)

# for some hundred pictures and half an hour: fewer codes, each seen more often, smaller networks, more dropout
SMALL_128 = Preset(
    model=ModelConfig(
        image_size=128,
        vqvae=VQVAEConfig(width=64, residual_width=32, codebook_size=256, codebook_dim=32),
        structure=StructureConfig(
            codebook_size=256,
            codebook_dim=32,
            width=48,
            layers=8,
            attention_layers=2,
            heads=4,
            output_blocks=4,
            dropout=0.3,
            condition_width=12,
            dilations=(1, 2, 4, 8),
            condition_features=True,
            temperature=0.8,
            top_p=0.8,
        ),
        texture=TextureConfig(codebook_dim=32, width=24),
        discriminator=DiscriminatorConfig(width=24, layers=5),
    ),
    vqvae=replace(FACES_128.vqvae, steps=1200),
    structure=replace(FACES_128.structure, steps=1500, averaging=0.998, weight_decay=0.01),
    texture=replace(FACES_128.texture, steps=1200, averaging=0.998, perturb=0.1),
)

PRESETS: dict[str, Preset] = {
    "paper-256": Preset(),
    "faces-128": FACES_128,
    "scenes-128": FACES_128,  # one recipe under two names: scenes were trained as faces were
    "faces-256": FACES_256,
    "small-128": SMALL_128,
    "faces-64": FACES_64,
    "tiny": TINY,
}


@dataclass(frozen=True)
class Ablation:
    """A row of Table 2 or 3: the texture generator's attention or its feature losses, all else as in the preset."""

    table: int
    attention: Literal["full", "cross", "none"] = "full"
    scores: Literal["structural", "learned"] = "structural"
    features: Literal["both", "structural", "textural", "none", "perceptual", "all"] = "both"


ABLATIONS: dict[str, Ablation] = {
    "attention-none": Ablation(2, attention="none"),
    "attention-cross-learned": Ablation(2, attention="cross", scores="learned"),
    "attention-cross-structural": Ablation(2, attention="cross"),
    "attention-full-learned": Ablation(2, scores="learned"),
    "attention-full-structural": Ablation(2),
    "losses-none": Ablation(3, features="none"),
    "losses-structural": Ablation(3, features="structural"),
    "losses-textural": Ablation(3, features="textural"),
    "losses-perceptual": Ablation(3, features="perceptual"),
    "losses-all": Ablation(3, features="all"),
}  # both losses and full structural attention are the paper's model, attention-full-structural


def preset(name: str) -> Preset:
    """Return a preset by name, or with variants: "faces-64+attention-none", "paper-256+centre". Raises ValueError.

    "centre" trains for the centre hole alone, as the paper's models of Table 1.
    """
    base, *variants = name.split("+")
    if base not in PRESETS or not set(variants) <= {"centre", *ABLATIONS}:
        raise ValueError(
            f"{name}: no such preset; expected one of {', '.join(PRESETS)}, or one of these + one of "
            f"centre, {', '.join(ABLATIONS)}"
        )
    found = PRESETS[base]
    for variant in variants:
        if variant == "centre":
            structure, texture = (replace(t, masks=("centre",)) for t in (found.structure, found.texture))
            found = replace(found, structure=structure, texture=texture)
        else:
            a = ABLATIONS[variant]
            model = replace(found.model, texture=replace(found.model.texture, attention=a.attention, scores=a.scores))
            found = replace(found, model=model, texture=replace(found.texture, features=a.features))
    return found
