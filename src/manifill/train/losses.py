"""The losses of the texture generator and its discriminator (Eq. 8 to 12)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from manifill.networks.texture import similarity
from manifill.networks.vqvae import VQVAE, Encoding, Quantiser

UNKNOWN = -1  # in place of a code: nothing is asked there


def feature_loss(quantiser: Quantiser, features: Tensor, codes: Tensor) -> Tensor:
    """Return the cross-entropy of `features` (N, D, h, w) with the true `codes` (N, h, w), 0 at UNKNOWN ones (Eq. 11).

    The logits are 10 times the similarity to every prototype.
    """
    # distances are standardised over the K prototypes of each feature vector, so 10 means the same at any scale of them
    logits = similarity(quantiser.distances(features), 10)  # (N*h*w, K)
    # a sum over all positions, not a mean over those that are asked: few of them then weigh little
    return F.cross_entropy(logits, codes.flatten(), ignore_index=UNKNOWN, reduction="sum") / codes.numel()


def feature_losses(vqvae: VQVAE, image: Tensor, truth: Encoding) -> tuple[Tensor, Tensor]:
    """Return structural and textural feature loss of a composite (N, 3, H, W) against the true picture's codes."""
    encoder = vqvae.encoder
    # the gradient goes through the encoder, which is frozen, to the picture
    structure, texture, _ = encoder.features(image)
    return (
        feature_loss(encoder.structure_quantiser, structure, truth.structure_codes),
        feature_loss(encoder.texture_quantiser, texture, truth.texture_codes),
    )


def discriminator_loss(real: Tensor, composed: Tensor) -> Tensor:
    """Return the hinge loss 0.5 (E relu(1 - D(real)) + E relu(1 + D(composed))) (Eq. 9)."""
    # scores beyond 1 on the right side cost nothing: it need not be surer than that
    return 0.5 * (F.relu(1 - real.float()).mean() + F.relu(1 + composed.float()).mean())


def adversarial_loss(composed: Tensor) -> Tensor:
    """Return -E D(composed) (Eq. 10)."""
    return -composed.float().mean()
