"""How strongly the discriminator pulls at the texture generator: as long as the other losses do, once it sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from manifill.train.distributed import Processes
from manifill.train.loop import Metrics

DECAY = 0.99


class Anchors(nn.Module):
    """Moving averages, in a module so that checkpoints carry them.

    `means` (2,): the mean scores of real and composed pictures. `length`: that of the gradient, at a picture with true
    codes, of all losses but the adversarial one, times the batch's size; 0 before the first step.
    """

    means: Tensor
    length: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(2))
        self.register_buffer("length", torch.zeros(()))

    @property
    def sight(self) -> Tensor:
        """How much of its ratio the discriminator gets: all (1) when mean scores are 1 apart or more, 0 when blind."""
        real, composed = self.means
        return (real - composed).clamp(0, 1)

    @torch.no_grad()
    def move(self, judged: Sequence[Metrics], lengths: Sequence[Tensor], processes: Processes) -> None:
        """Move towards the figures of the whole batch: each share's scores, and its lengths' sum and number (2,)."""
        now = torch.stack([torch.stack([scores["d_real"], scores["d_composed"]]).float() for scores in judged]).mean(0)
        self.means.lerp_(processes.total(now) / processes.count, 1 - DECAY)
        total, count = processes.total(torch.stack(list(lengths)).sum(0))
        mean = total / count
        moved = torch.where(self.length > 0, self.length.lerp(mean, 1 - DECAY), mean)
        # not without pictures with true codes, nor where float16 has run over
        self.length.copy_(torch.where(torch.isfinite(mean), moved, self.length))

    def pull(
        self, painted: Tensor, others: Tensor, adversarial: Tensor, ratio: float, sampled: Tensor, unit: float
    ) -> Tensor:
        """Send the gradients of two losses back from `painted` pictures, the second's as long as it is to be.

        `sampled` as for `balance`; `unit` is the length of a gradient at one picture that counts as 1. Returns the sum
        and the number (2,) of the first's lengths, at pictures with true codes.
        """
        gradient, lengths = balance(painted, others, adversarial, ratio * self.sight, sampled, self.length * unit)
        painted.backward(gradient)
        own = torch.where(sampled, 0.0, lengths / unit)
        return torch.stack([own.sum(), (~sampled).sum().to(own)])


def balance(
    painted: Tensor, others: Tensor, adversarial: Tensor, ratio: Tensor, sampled: Tensor, usual: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradient (N, 3, H, W) at `painted` of two losses, and the length of the first's at each picture (N,).

    The second's is made `ratio` times as long as the first's or, where codes were `sampled` (N,), which leaves the
    first short, as the `usual` length. Picture by picture, so that it does not depend on how the batch is divided. Not
    in the paper; the balance that VQGAN (Esser et al., CVPR 2021) takes at the last layer's weights, at the picture.
    """
    (given,) = torch.autograd.grad(others, painted, retain_graph=True)
    (opposed,) = torch.autograd.grad(adversarial, painted)
    length, against = (g.float().flatten(1).norm(dim=1) for g in (given, opposed))
    factor = ratio * torch.where(sampled, usual, length) / against.clamp_min(1e-12)
    return given + (factor[:, None, None, None] * opposed).to(given.dtype), length
