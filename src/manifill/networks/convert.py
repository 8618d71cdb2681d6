"""The authors' TensorFlow checkpoints as model folders; all sizes are read from the shapes of the variables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from manifill.config import DiscriminatorConfig, StructureConfig, TextureConfig, VQVAEConfig
from manifill.networks.checkpoint import ModelError, check_new, fingerprint, save_network
from manifill.networks.discriminator import Discriminator
from manifill.networks.structure import CausalAttention, CausalConv2d, GatedBlock, PixelCNN, StructureGenerator
from manifill.networks.texture import GatedConv2d, GatedUp, TextureGenerator
from manifill.networks.vqvae import VQVAE, Quantiser

Variables = dict[str, np.ndarray]
Steps = Iterable[tuple[str, nn.Module]]


def read_variables(folder: Path) -> Variables:
    """Read every variable of the checkpoint in `folder`. Needs TensorFlow (`pip install manifill[convert]`).

    Raises ModelError when there is no readable checkpoint or no TensorFlow.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder (expected one with a TensorFlow checkpoint, model.ckpt.index)")
    indices = sorted(folder.glob("*.index"))
    if not indices:
        raise ModelError(f"{folder}: holds no TensorFlow checkpoint (expected a file *.index beside *.data-*)")
    try:
        import tensorflow as tf  # type: ignore[import-not-found]
    except ImportError as error:
        raise ModelError("reading a TensorFlow checkpoint needs TensorFlow: pip install 'manifill[convert]'") from error
    prefix = str(indices[-1])[: -len(".index")]
    try:
        reader = tf.train.load_checkpoint(prefix)
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except (tf.errors.OpError, ValueError, IndexError) as error:  # the last where the data ends early
        raise ModelError(f"{prefix}: not a readable TensorFlow checkpoint ({error})") from error


def convert(folder: Path, out: Path, image_size: int = 256) -> list[str]:
    """Convert the checkpoint in `folder` to the model folder `out`; return the names of the networks written."""
    check_new(out)
    networks = to_networks(read_variables(folder))
    codebook = fingerprint(networks["vqvae"])  # type: ignore[arg-type]
    for name, network in networks.items():
        save_network(out, name, network, image_size, codebook=codebook)
    return list(networks)


def to_networks(variables: Variables) -> dict[str, nn.Module]:
    """Build the networks whose scopes are among `variables`; the VQ-VAE's must be.

    Raises ModelError for missing or left-over variables.
    """
    scopes = {name.split("/")[0] for name in variables}
    if not {"vq_encoder", "vq_decoder"} <= scopes:
        raise ModelError(f"the checkpoint has the scopes {sorted(scopes)}; expected at least vq_encoder and vq_decoder")
    variables = Scope("", variables)
    networks: dict[str, nn.Module] = {"vqvae": _vqvae(variables)}
    if {"structure_condition", "structure_pixelcnn"} <= scopes:
        networks["structure"] = _structure(variables)
    if "texture_generator" in scopes:
        networks["texture"] = _texture(variables)
    if "texture_discriminator" in scopes:
        networks["discriminator"] = _discriminator(variables)
    return networks


def _vqvae(v: Variables) -> VQVAE:
    dim, size = v["vq_encoder/vector_quantize_0/embedding"].shape
    width, residual = v["vq_encoder/conv2d_1/W"].shape[3], v["vq_encoder/conv2d_3/W"].shape[3]
    model = VQVAE(VQVAEConfig(width, residual, size, dim))
    kinds = {nn.Conv2d: "conv2d", nn.ConvTranspose2d: "deconv2d", Quantiser: "vector_quantize"}
    _fill(v, "vq_encoder", _in_order(model.encoder, kinds))
    _fill(v, "vq_decoder", _in_order(model.decoder, kinds))
    return model


def _structure(v: Variables) -> StructureGenerator:
    model = StructureGenerator(_structure_config(v))
    _fill(v, "structure_condition", _in_order(model.condition, {nn.Conv2d: "wnconv2d"}))
    _fill(v, "structure_pixelcnn", _pixelcnn_order(model.pixelcnn))
    return model


def _structure_config(v: Variables) -> StructureConfig:
    width = v["structure_pixelcnn/wnconv2d_0/g"].shape[0]
    layers = (_count(v, "structure_pixelcnn/wnconv2d") - 3) // 4
    shapes = [v[f"structure_pixelcnn/wndense_{i}/V"].shape for i in range(_count(v, "structure_pixelcnn/wndense"))]
    at, heads = 0, dict.fromkeys(range(layers), 0)
    for layer in heads:
        at += 3
        while shapes[at] == (width, width // 8):  # a head's query; its key and value follow
            at, heads[layer] = at + 3, heads[layer] + 1
        at += heads[layer] > 0  # the output of the attention
    marks = [layer + 1 for layer in heads if heads[layer]]
    every = layers // len(marks) if marks else layers + 1
    if marks != [k for k in range(1, layers + 1) if k % every == 0]:
        raise ModelError(f"attention stands after layers {marks}; expected every {every}th of {layers}")
    paper, blocks = StructureConfig(), (_count(v, "structure_condition/wnconv2d") - 10) // 2
    if blocks != len(paper.dilations):
        raise ModelError(f"the condition network has {blocks} blocks at 1/8; expected {len(paper.dilations)}")
    return StructureConfig(
        codebook_size=shapes[-1][1],
        codebook_dim=v["structure_pixelcnn/wnconv2d_0/V"].shape[2] - 1,
        width=width,
        layers=layers,
        attention_layers=len(marks),
        heads=max(heads.values()) or paper.heads,
        output_blocks=len(shapes) - at - 1,
        condition_width=v["structure_condition/wnconv2d_0/g"].shape[0],
    )


def _texture(v: Variables) -> TextureGenerator:
    width, dim = v["texture_generator/gated_conv2d_0/b"].shape[0], v["texture_generator/gated_conv2d_4/W"].shape[2]
    model = TextureGenerator(TextureConfig(codebook_dim=dim, width=width))
    kinds = {GatedUp: "gated_deconv2d", GatedConv2d: "gated_conv2d", nn.Conv2d: "conv2d"}
    _fill(v, "texture_generator", _in_order(model, kinds))
    return model


def _discriminator(v: Variables) -> Discriminator:
    width, layers = v["texture_discriminator/snconv2d_0/b"].shape[0], _count(v, "texture_discriminator/snconv2d")
    model = Discriminator(DiscriminatorConfig(width, layers))
    _fill(v, "texture_discriminator", _in_order(model, {nn.Conv2d: "snconv2d"}))
    return model


def _count(v: Variables, prefix: str) -> int:
    return len({name.split("/")[1] for name in v if name.startswith(prefix + "_")})


def _in_order(model: nn.Module, kinds: dict[type[nn.Module], str]) -> Iterator[tuple[str, nn.Module]]:
    """Yield (kind, layer) in the order the layers are called, which is that of their definition."""
    for module in model.modules():
        for cls, kind in kinds.items():
            if isinstance(module, cls):
                yield kind, module
                break


def _pixelcnn_order(model: PixelCNN) -> Iterator[tuple[str, nn.Module]]:
    yield from (("wnconv2d", m) for m in (model.input_u, model.input_above, model.input_left))
    for u, ul in zip(model.u_blocks, model.ul_blocks, strict=True):
        yield from _block_order(u)  # type: ignore[arg-type]
        yield from _block_order(ul)  # type: ignore[arg-type]
    yield from (("wndense", m) for m in (*model.out_blocks, model.logits))


def _block_order(block: GatedBlock) -> Iterator[tuple[str, nn.Module]]:
    for layer in (block.conv1, block.from_u, block.conv2, block.from_cond):
        if layer is not None:
            yield ("wnconv2d" if isinstance(layer, CausalConv2d) else "wndense"), layer
    if block.attention is not None:
        yield "attention", block.attention


class Scope(dict[str, np.ndarray]):
    """The variables with a prefix, by the rest of their names; one that is not there is named in the error."""

    def __init__(self, prefix: str, variables: Variables) -> None:
        super().__init__({name[len(prefix) :]: value for name, value in variables.items() if name.startswith(prefix)})
        self.prefix = prefix

    def __missing__(self, part: str) -> np.ndarray:
        raise ModelError(f"the checkpoint has no variable {self.prefix}{part}")


def _fill(v: Variables, scope: str, steps: Steps) -> None:
    """Give every layer the next variables of its kind in `scope`; all must be used up."""
    counts: dict[str, int] = {}
    used: set[str] = set()

    def take(kind: str) -> dict[str, np.ndarray]:
        index = counts.get(kind, 0)
        counts[kind] = index + 1
        prefix = f"{scope}/{kind}_{index}/"
        found = Scope(prefix, v)
        if not found:
            raise ModelError(f"the checkpoint has no variable {prefix}*")
        used.update(prefix + part for part in found)
        return found

    for kind, layer in steps:
        if kind == "attention":
            assert isinstance(layer, CausalAttention)
            _fill_attention(layer, [_dense(take("wndense")) for _ in range(3 * layer.heads + 1)])
        else:
            _fill_layer(layer, kind, take(kind))
    left = sorted(name for name in v if name.startswith(scope + "/") and name not in used and "Adam" not in name)
    if left:
        raise ModelError(f"the checkpoint has variables that no layer takes: {', '.join(left[:5])}")


def _fill_attention(layer: CausalAttention, parts: list[tuple[Tensor, Tensor]]) -> None:
    """Per head query, key and value; the output last. Heads lie one after another in the fused layers."""
    for offset, fused in enumerate((layer.query, layer.key, layer.value)):
        heads = parts[offset:-1:3]
        _set(fused, torch.cat([w for w, _ in heads]), torch.cat([b for _, b in heads]))
    _set(layer.out, *parts[-1])


def _fill_layer(layer: nn.Module, kind: str, v: dict[str, np.ndarray]) -> None:
    if isinstance(layer, Quantiser):
        layer.codebook.copy_(_tensor(v["embedding"].T))
        layer.sizes.copy_(_tensor(v["ema_cluster_size"]))
        layer.sums.copy_(_tensor(v["ema_dw"].T))
    elif kind == "wndense":
        _set(layer, *_dense(v))
    elif kind == "wnconv2d":
        weight = _tensor(v["V"])
        weight = weight * _tensor(v["g"]) / weight.pow(2).sum((0, 1, 2)).sqrt()
        _set(layer, weight.permute(3, 2, 0, 1), _tensor(v["b"]))
    elif kind == "snconv2d":
        _set(layer, _tensor(v["W"] / _sigma(v["W"], v["u"])).permute(3, 2, 0, 1), _tensor(v["b"]))
    else:  # both layouts swap to PyTorch's: (kh, kw, in, out) -> (out, in, ...) and (kh, kw, out, in) -> (in, out, ...)
        _set(layer, _tensor(v["W"]).permute(3, 2, 0, 1), _tensor(v["b"]))


def _sigma(weight: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return the spectral norm as released: one power iteration from the stored `u` (section 3.3)."""
    matrix = weight.reshape(-1, weight.shape[-1])
    v = u @ matrix.T
    v /= np.linalg.norm(v)
    u = v @ matrix
    u /= np.linalg.norm(u)
    return (v @ matrix @ u.T).item()


def _dense(v: dict[str, np.ndarray]) -> tuple[Tensor, Tensor]:
    weight = _tensor(v["V"])
    weight = weight * _tensor(v["g"]) / weight.pow(2).sum(0).sqrt()
    return weight.t()[:, :, None, None], _tensor(v["b"])


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))


@torch.no_grad()
def _set(layer: nn.Module, weight: Tensor, bias: Tensor) -> None:
    if layer.weight.shape != weight.shape:  # type: ignore[union-attr]
        raise ModelError(f"a layer takes weights {tuple(layer.weight.shape)}, the checkpoint has {tuple(weight.shape)}")  # type: ignore[union-attr]
    layer.weight.copy_(weight)  # type: ignore[union-attr, operator]
    layer.bias.copy_(bias)  # type: ignore[union-attr, operator]
