"""manifill: many ways to fill a hole. Diverse image inpainting with a hierarchical VQ-VAE (CVPR 2021)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manifill.completion import Doubt, Preview
    from manifill.config import Fit, ModelError, SamplingOptions
    from manifill.hub import push_to_hub
    from manifill.inpainter import Completion, Completions, Inpainter
    from manifill.photos.decode import ImageError

__version__ = "0.2.0"
__all__ = [
    "Completion",
    "Completions",
    "Doubt",
    "Fit",
    "ImageError",
    "Inpainter",
    "ModelError",
    "Preview",
    "SamplingOptions",
    "push_to_hub",
]

_HOME = {
    "Completion": "inpainter",
    "Completions": "inpainter",
    "Doubt": "completion",
    "Fit": "config",
    "Inpainter": "inpainter",
    "Preview": "completion",
    "ImageError": "photos.decode",
    "ModelError": "config",
    "SamplingOptions": "config",
    "push_to_hub": "hub",
}


def __getattr__(name: str) -> Any:
    """Load PyTorch only when a name that needs it is used."""
    if name in _HOME:
        return getattr(import_module(f"manifill.{_HOME[name]}"), name)
    raise AttributeError(f"module 'manifill' has no attribute {name!r}")
