"""Hierarchical VQ-VAE (section 3.1): a picture as structure codes at 1/8 and texture codes at 1/4 of its size.

What the two levels hold. A structure code ("top" in VQ-VAE-2, Razavi et al. 2019, from which this comes) stands for 8x8
pixels and what is around them: where things are, how large, of what colour. Decoded alone, with texture features of
zero, the structure is the picture out of focus. A texture code ("bottom") stands for 4x4 pixels and is computed from
the picture and the quantised structure, so it need only hold what the structure does not say: edges, hair, grain.

    picture (3, H, W) -> texture_down -> bottom (c, H/4, W/4) -> structure_down -> (D, H/8, W/8) -> structure codes
    cat[bottom, structure_up(quantised structure)] -> texture_out -> (D, H/4, W/4) -> texture codes
    cat[quantised texture, up(quantised structure)] -> decoder -> picture (3, H, W)

To fill a hole, structure codes alone are sampled; the texture generator takes the decoder's place. Texture codes are
what its textural loss asks for (Eq. 11).

Nothing in Eq. 1 to 3 makes the levels share the work: the texture path alone can reconstruct a picture, and in a short
training it does. Its structure codes then say nothing, at a good reconstruction error (`VQVAETraining.structure_only`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from manifill.config import VQVAEConfig
from manifill.networks.layers import SameConv2d

# The pixels that structure code k sees, by the layers of the encoder from its end: three 3x3 convolutions are cells k -
# 3 to k + 3; a 4x4 convolution of stride 2 takes cell i from 2i - 1 to 2i + 2, so 2k - 7 to 2k + 8 at H/4; three 3x3
# convolutions again, 2k - 10 to 2k + 11; two of stride 2, 8k - 43 to 8k + 50.
WINDOW = (43, 50)  # before and after the first pixel of its 8x8 cell: 94 pixels in all


class Encoding(NamedTuple):
    """What the encoder makes of N pictures of H x W pixels (D = codebook_dim)."""

    structure_features: Tensor  # (N, D, H/8, W/8) before quantisation
    texture_features: Tensor  # (N, D, H/4, W/4)
    structure: Tensor  # (N, D, H/8, W/8) quantised
    texture: Tensor  # (N, D, H/4, W/4)
    structure_codes: Tensor  # (N, H/8, W/8) int64 in [0, codebook_size)
    texture_codes: Tensor  # (N, H/4, W/4)


class ResidualBlock(nn.Module):
    """x + conv1x1(elu(conv3x3(elu(x))))."""

    def __init__(self, width: int, residual_width: int) -> None:
        super().__init__()
        self.conv1 = SameConv2d(width, residual_width, 3)
        self.conv2 = SameConv2d(residual_width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.elu(self.conv1(F.elu(x))))


class Residuals(nn.Sequential):
    """Two residual blocks and an ELU."""

    def __init__(self, width: int, residual_width: int) -> None:
        super().__init__(ResidualBlock(width, residual_width), ResidualBlock(width, residual_width), nn.ELU())


class Quantiser(nn.Module):
    """Nearest-prototype vector quantiser whose codebook is an exponential moving average (section 3.1, Eq. 1-3).

    Buffers: `codebook` (K, D), `sizes` (K) and `sums` (K, D), the running count and sum of the features of a code.
    """

    codebook: Tensor
    sizes: Tensor
    sums: Tensor

    def __init__(self, codebook_size: int, codebook_dim: int) -> None:
        super().__init__()
        codebook = torch.randn(codebook_size, codebook_dim)
        self.register_buffer("codebook", codebook)
        self.register_buffer("sizes", torch.ones(codebook_size))
        self.register_buffer("sums", codebook.clone())

    def distances(self, features: Tensor) -> Tensor:
        """Return squared Euclidean distances to all prototypes: (N, D, h, w) -> (N*h*w, K), in float32."""
        flat = self.flatten(features)
        with torch.autocast(flat.device.type, enabled=False):  # rounding would choose another code
            # |f - e|^2 = |f|^2 + |e|^2 - 2 f.e
            square = (flat**2).sum(1, keepdim=True) + (self.codebook**2).sum(1)
            return square.addmm_(flat, self.codebook.t(), alpha=-2)  # in place: it is large

    @staticmethod
    def flatten(features: Tensor) -> Tensor:
        """Return the feature vectors as rows: (N, D, h, w) -> (N*h*w, D), float32."""
        return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1]).float()

    def codes(self, features: Tensor) -> Tensor:
        """Return the index of the nearest prototype: (N, D, h, w) -> (N, h, w) int64."""
        n, _, h, w = features.shape
        with torch.no_grad():
            return self.distances(features).argmin(1).view(n, h, w)

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the prototypes of codes: (N, h, w) int64 -> (N, D, h, w)."""
        return F.embedding(codes, self.codebook).permute(0, 3, 1, 2)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return (quantised features with a straight-through gradient, codes)."""
        codes = self.codes(features)
        quantised = self.lookup(codes)
        if features.requires_grad:  # straight-through: the value is the prototype's, the gradient goes to the features
            quantised = features + (quantised - features).detach()
        return quantised, codes

    @torch.no_grad()
    def update(
        self, features: Tensor, codes: Tensor, decay: float, reduce: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Move the codebook towards the features that chose it: running sums over Laplace-smoothed running sizes.

        `reduce` adds up the counts (K) and the sums (K, D) of several processes.
        """
        flat, index, k = self.flatten(features), codes.flatten(), len(self.sizes)
        count = torch.zeros_like(self.sizes).index_add_(0, index, torch.ones_like(flat[:, 0]))
        total = torch.zeros_like(self.sums).index_add_(0, index, flat)
        if reduce:
            count, total = reduce(count), reduce(total)
        # n <- decay n + (1 - decay) count, m <- decay m + (1 - decay) sum: a prototype m / n is a mean of features
        self.sizes.lerp_(count, 1 - decay)
        self.sums.lerp_(total, 1 - decay)
        n = self.sizes.sum()
        # Laplace smoothing: the size of a code that nothing chooses goes to 0, and so does its sum, but not to 0 / 0
        smoothed = (self.sizes + 1e-5) / (n + k * 1e-5) * n
        self.codebook.copy_(self.sums / smoothed[:, None])


def untouched(mask: Tensor) -> Tensor:
    """Return which structure codes see nothing of the hole: (N, 1, H, W), 1 in the hole -> (N, H/8, W/8) bool."""
    before, after = WINDOW  # a code sees nothing of the hole when the largest mask value in its window is 0
    padded = F.pad(mask, (before, after - 7, before, after - 7))
    return F.max_pool2d(padded, before + after + 1, stride=8)[:, 0] == 0


class Encoder(nn.Module):
    """Image (N, 3, H, W) in [-1, 1] -> features and codes of both levels."""

    def __init__(self, c: VQVAEConfig) -> None:
        super().__init__()
        w, r, d = c.width, c.residual_width, c.codebook_dim
        self.texture_down = nn.Sequential(
            SameConv2d(3, w // 2, 4, stride=2),
            nn.ELU(),
            SameConv2d(w // 2, w, 4, stride=2),
            nn.ELU(),
            SameConv2d(w, w, 3),
            Residuals(w, r),
        )  # H/4
        self.structure_down = nn.Sequential(
            SameConv2d(w, w // 2, 4, stride=2),
            nn.ELU(),
            SameConv2d(w // 2, w, 3),
            Residuals(w, r),
            SameConv2d(w, d, 1),
        )  # H/8
        self.structure_quantiser = Quantiser(c.codebook_size, d)
        self.structure_up = nn.Sequential(
            SameConv2d(d, w, 3), Residuals(w, r), nn.ConvTranspose2d(w, w, 4, stride=2, padding=1)
        )
        self.texture_out = SameConv2d(2 * w, d, 1)
        self.texture_quantiser = Quantiser(c.codebook_size, d)

    def structure_features(self, image: Tensor) -> Tensor:
        """Return the structure features alone: (N, 3, H, W) -> (N, D, H/8, W/8)."""
        return self.structure_down(self.texture_down(image))

    def features(self, image: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Return the features of both levels before quantisation, and the quantised structure with its codes."""
        bottom = self.texture_down(image)  # (N, c, H/4, W/4)
        features = self.structure_down(bottom)  # (N, D, H/8, W/8)
        structure = self.structure_quantiser(features)
        # the texture sees the structure as it is after quantisation, so it can make up for what that lost
        texture = self.texture_out(torch.cat([bottom, self.structure_up(structure[0])], dim=1))  # (N, D, H/4, W/4)
        return features, texture, structure

    def forward(self, image: Tensor) -> Encoding:
        structure_features, texture_features, (structure, structure_codes) = self.features(image)
        texture, texture_codes = self.texture_quantiser(texture_features)
        return Encoding(structure_features, texture_features, structure, texture, structure_codes, texture_codes)


class Decoder(nn.Module):
    """Quantised structure and texture features -> image (N, 3, H, W), not clamped."""

    def __init__(self, c: VQVAEConfig) -> None:
        super().__init__()
        w, r, d = c.width, c.residual_width, c.codebook_dim
        self.structure_up = nn.ConvTranspose2d(d, d, 4, stride=2, padding=1)
        self.body = nn.Sequential(
            SameConv2d(2 * d, w, 3),
            Residuals(w, r),
            nn.ConvTranspose2d(w, w // 2, 4, stride=2, padding=1),
            nn.ELU(),
            nn.ConvTranspose2d(w // 2, 3, 4, stride=2, padding=1),
        )

    def forward(self, structure: Tensor, texture: Tensor) -> Tensor:
        # texture first: the order of the channels in the released weights
        return self.body(torch.cat([texture, self.structure_up(structure)], dim=1))


class VQVAE(nn.Module):
    """Hierarchical VQ-VAE (section 3.1). Sides of the pictures must be multiples of 8 pixels."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def encode(self, image: Tensor) -> Encoding:
        """Encode pictures (N, 3, H, W) in [-1, 1]."""
        return self.encoder(image)

    def forward(self, image: Tensor, keep: Tensor) -> tuple[Encoding, Tensor]:
        """Encode pictures and decode them, without texture where `keep` (N,) is 0 and not 1: what training calls."""
        e = self.encode(image)
        return e, self.decode(e.structure, e.texture * keep.to(e.texture.dtype)[:, None, None, None])

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the structure features of structure codes: (N, h, w) int64 -> (N, D, h, w)."""
        return self.encoder.structure_quantiser.lookup(codes)

    def decode(self, structure: Tensor, texture: Tensor) -> Tensor:
        """Decode quantised features (N, D, H/8, W/8) and (N, D, H/4, W/4) to (N, 3, H, W), about [-1, 1]."""
        return self.decoder(structure, texture)

    def decode_structure(self, structure: Tensor) -> Tensor:
        """Decode the structure alone, texture zero: what Figure 2 of the paper shows."""
        n, d, h, w = structure.shape
        return self.decoder(structure, structure.new_zeros(n, d, 2 * h, 2 * w))

    def decode_texture(self, texture: Tensor) -> Tensor:
        """Decode the texture alone, structure zero."""
        n, d, h, w = texture.shape
        return self.decoder(texture.new_zeros(n, d, h // 2, w // 2), texture)
