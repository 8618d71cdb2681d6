"""Weight and spectral normalisation, put on for training and folded into plain weights for a model folder."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

Network = TypeVar("Network", bound=nn.Module)


def weight_normalise(model: Network) -> Network:
    """Register weight normalisation W = g V / ||V|| per output channel on every convolution (section 3.2)."""
    for layer in [m for m in model.modules() if isinstance(m, nn.Conv2d)]:
        parametrizations.weight_norm(layer, dim=0)
    return model


def spectral_normalise(model: Network) -> Network:
    """Register spectral normalisation, one power iteration a step, on every convolution (section 3.3)."""
    for layer in [m for m in model.modules() if isinstance(m, nn.Conv2d)]:
        parametrizations.spectral_norm(layer, n_power_iterations=1)
    return model


@torch.no_grad()
def fold(model: Network) -> Network:
    """Return a plain network, built from `model.config`, with the weights that `model`'s parametrizations compute."""
    plain, training = type(model)(model.config), model.training
    model.eval()  # a spectral norm would take a power iteration in training mode
    weights = {k: v for k, v in model.state_dict().items() if ".parametrizations." not in k}
    for name, layer in model.named_modules():
        if parametrize.is_parametrized(layer):
            weights[f"{name}.weight"] = layer.weight
    plain.load_state_dict(weights)
    model.train(training)
    return plain.to(next(model.parameters()).device)
