"""The sampler in C++ (`native/`): the codes of `cached.sample_cached` on a CPU, without Python in its loop.

It computes what `structure.PixelCNN` computes, with three changes that are algebra, not approximation. The input layer
sees codes, of which there are K, so its taps are tables. The values and the result of attention are linear in the
layer's m channels, so the heads mix those and one matrix follows. The biases of `cond`'s projections and of the second
convolutions are one. In bfloat16 weights and activations are rounded, sums are not.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import cache, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from manifill.config import SamplingOptions
from manifill.networks.structure import GatedBlock, StructureGenerator, concat_elu
from manifill.sampling.cached import sample_in_pytorch
from manifill.sampling.naive import Sampled, all_open

KNOWN = {"temperature", "top_k", "top_p"}  # options that Job carries
PANEL = 32  # widths are padded with zeros to multiples of it
LIBRARY = Path(__file__).parents[1] / ("manifill.dll" if sys.platform == "win32" else "libmanifill.so")


class Shape(ctypes.Structure):
    """Sizes of the PixelCNN, as native/sampler.cpp has them."""

    _fields_ = [(name, ctypes.c_int32) for name in ("width", "codes", "layers", "heads", "key", "outs")] + [
        ("attention", ctypes.c_uint64)
    ]


class Call(ctypes.Structure):
    """The work of one call, as native/sampler.cpp has it."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("n", "h", "w", "threads")),
        ("cond", ctypes.c_void_p),
        ("cond_stride", ctypes.c_int64),
        ("noise", ctypes.c_void_p),
        ("known", ctypes.c_void_p),
        ("codes", ctypes.c_void_p),
        ("log_likelihood", ctypes.c_void_p),
        ("temperature", ctypes.c_float),
        ("top_p", ctypes.c_float),
        ("top_k", ctypes.c_int32),
        *((name, ctypes.c_int32) for name in ("alike", "last", "real_codes")),
    ]


@cache
def native_library() -> ctypes.CDLL:
    """Load the compiled sampler; raises OSError when it was not built."""
    lib = ctypes.CDLL(str(LIBRARY))
    pointer, integer = ctypes.c_void_p, ctypes.c_int32
    signatures: dict[str, tuple[object, list[object]]] = {
        "manifill_error": (ctypes.c_char_p, []),
        "manifill_kinds": (ctypes.c_char_p, []),
        "manifill_open": (pointer, [ctypes.c_char_p, ctypes.POINTER(Shape), pointer, ctypes.c_size_t]),
        "manifill_close": (None, [pointer]),
        "manifill_start": (pointer, [pointer, ctypes.POINTER(Call)]),
        "manifill_row": (ctypes.c_bool, [pointer, integer]),
        "manifill_finish": (None, [pointer]),
        "manifill_products": (None, [pointer, integer, integer, integer, integer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def kinds() -> list[str]:
    """Return the kinds of code this processor can run, the best last; empty when the library was not built."""
    try:
        return native_library().manifill_kinds().decode().split()
    except OSError:
        return []


def fast_bfloat16(device: torch.device) -> bool:
    """Say whether bfloat16 products are faster than float32 ones there."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and any(kind.endswith("bf16") for kind in kinds())


def best_kind(dtype: torch.dtype) -> str:
    """Return the best kind for float32 or bfloat16; a processor without bfloat16 gets float32, which is more exact."""
    found = kinds()
    if not found:
        raise OSError(f"{LIBRARY}: the native sampler was not built")
    wanted = [kind for kind in found if kind.endswith("bf16")] if dtype == torch.bfloat16 else []
    return wanted[-1] if wanted else [kind for kind in found if not kind.endswith("bf16")][-1]


def sampler_here() -> str:
    """Say in words which code would sample structures on this machine's processor."""
    try:
        native_library()
    except OSError as error:
        why = f"does not load ({error})" if LIBRARY.exists() else "was not built; install a C++ compiler, then manifill"
        return f"{why}; PyTorch samples instead, slower"
    return f"{best_kind(torch.float32)} for float32, {best_kind(torch.bfloat16)} for bfloat16"


class NativeSampler:
    """A PixelCNN with its weights packed for one kind of processor. Raises OSError when the library was not built."""

    def __init__(
        self, model: StructureGenerator, codebook: Tensor, dtype: torch.dtype = torch.float32, kind: str = ""
    ) -> None:
        self.net, self.kind = model.pixelcnn, kind or best_kind(dtype)
        self.slow = partial(sample_in_pytorch, model, codebook)
        c = model.config
        self.codes, self.padded_codes = c.codebook_size, up(c.codebook_size)
        self.width, self.padded = c.width, up(c.width)
        attention = sum(1 << k for k, b in enumerate(self.net.ul_blocks) if b.attention is not None)  # type: ignore[union-attr]
        shape = Shape(self.padded, self.padded_codes, c.layers, c.heads, c.width // 8, c.output_blocks, attention)
        with torch.autocast("cpu", enabled=False):
            flat = self.flatten(codebook)
        self.lib, self.plan = native_library(), None
        self.plan = self.lib.manifill_open(self.kind.encode(), shape, flat.data_ptr(), flat.numel())
        if not self.plan:
            raise OSError(self.lib.manifill_error().decode())
        self.cond_weight, self.cond_bias = self.projections()

    def __del__(self) -> None:
        if getattr(self, "plan", None):
            self.lib.manifill_close(self.plan)

    @torch.no_grad()
    def __call__(self, cond: Tensor, noise: Tensor, options: SamplingOptions, known: Tensor | None = None) -> Sampled:
        """Sample structure codes; arguments and result as in `naive.sample_naive`.

        Options that the library does not know are left to PyTorch. Raises ValueError for shapes and codes that do not
        fit: the library would read beyond them.
        """
        if not known_here(options):
            return self.slow(cond, noise, options, known)
        n, (h, w) = len(noise), cond.shape[-2:]
        known = all_open(cond) if known is None else known
        self.check(cond, noise, known)
        sampled = (known < 0).any(0).flatten().nonzero()
        alike = len(cond) == 1 and len(known) == 1
        known = known.expand(n, -1, -1).contiguous()
        codes, log_likelihood = known.clamp_min(0), torch.zeros(n, h, w, dtype=torch.float32)
        if len(sampled) == 0:
            return Sampled(codes, log_likelihood)
        projected, noise = self.project(cond).contiguous(), noise.float().contiguous()
        assert projected.dtype == log_likelihood.dtype == torch.float32
        assert codes.dtype == known.dtype == torch.int64
        stride = projected[0].numel() if len(cond) > 1 else 0
        job = Call(
            n,
            h,
            w,
            torch.get_num_threads(),
            projected.data_ptr(),
            stride,
            noise.data_ptr(),
            known.data_ptr(),
            codes.data_ptr(),
            log_likelihood.data_ptr(),
            options.temperature,
            options.top_p,
            options.top_k,
            alike,
            int(sampled[-1]),
            self.codes,
        )
        run = self.lib.manifill_start(self.plan, job)
        if not run:
            raise MemoryError(self.lib.manifill_error().decode())
        try:
            for i in range(int(sampled[-1]) // w + 1):  # row by row, so that Ctrl-C is heard
                if not self.lib.manifill_row(run, i):
                    raise RuntimeError(self.lib.manifill_error().decode())
        finally:
            self.lib.manifill_finish(run)
        return Sampled(codes, log_likelihood)

    def check(self, cond: Tensor, noise: Tensor, known: Tensor) -> None:
        """Raise ValueError unless the arguments of a call fit each other and the codebook."""
        n, (h, w) = len(noise), cond.shape[-2:]
        if len(cond) not in (1, n) or noise.shape[1:] != (h * w, self.codes):
            raise ValueError(
                f"cond is {tuple(cond.shape)} and noise {tuple(noise.shape)}; "
                f"expected (1 or N, 8n, h, w) and (N, h * w, {self.codes})"
            )
        if known.shape not in ((1, h, w), (n, h, w)) or known.max() >= self.codes:
            raise ValueError(
                f"known is {tuple(known.shape)} with codes up to {int(known.max())}; "
                f"expected (1 or {n}, {h}, {w}) with codes below {self.codes}"
            )

    def products(self, samples: int, positions: int, w: int = 0) -> None:
        """Run the matrix products that sampling cannot avoid, and nothing else, for benchmarks.

        Those of `positions` steps one after another or, with `w`, those of the rows of w positions that hold them.
        """
        self.lib.manifill_products(self.plan, samples, torch.get_num_threads(), positions, w)

    def project(self, cond: Tensor) -> Tensor:
        """Return all projections of `cond`: (N, 8n, h, w) -> (N, h*w, layers * 2 * 2 * padded width), float32."""
        rows = concat_elu(cond.float()).flatten(2).transpose(1, 2)  # picture by picture: a batch rounds otherwise
        with torch.autocast("cpu", enabled=False):  # training's would hand bfloat16 to what reads float32
            return torch.stack([F.linear(row, self.cond_weight, self.cond_bias) for row in rows])

    def projections(self) -> tuple[Tensor, Tensor]:
        """Return the weight and bias of `project`: for every layer `u`, then `ul`, with their conv 2's bias."""
        weights, biases = [], []
        for u, ul in zip(self.net.u_blocks, self.net.ul_blocks, strict=True):
            for block in (u, ul):
                assert isinstance(block, GatedBlock)
                weights.append(self.halves(matrix(block.from_cond)))
                biases.append(self.halves((bias(block.from_cond) + bias(block.conv2))[None]))
        return torch.cat(weights, 1).t().contiguous(), torch.cat(biases, 1)[0].contiguous()

    @torch.no_grad()
    def flatten(self, codebook: Tensor) -> Tensor:
        """Return all weights of the PixelCNN in the order in which native/engine.h takes them."""
        parts: list[Tensor] = []
        add = parts.append
        for conv in (self.net.input_u, self.net.input_above, self.net.input_left):
            add(self.table(conv.weight, codebook))
        for conv in (self.net.input_u, self.net.input_above, self.net.input_left):
            add(self.out(bias(conv)))
        for u, ul in zip(self.net.u_blocks, self.net.ul_blocks, strict=True):
            self.flatten_layer(add, u, ul)  # type: ignore[arg-type]
        for block in self.net.out_blocks:
            add(self.out(self.rows(matrix(block), 1)))
            add(self.out(bias(block)))
        add(pad(self.rows(matrix(self.net.logits), 1), self.padded_codes))
        add(pad(bias(self.net.logits), self.padded_codes))
        return torch.cat([p.float().flatten() for p in parts])

    def flatten_layer(self, add: Callable[[Tensor], None], u: GatedBlock, ul: GatedBlock) -> None:
        """Add the weights of one layer of both streams."""
        assert ul.from_u is not None
        add(self.out(self.taps(u.conv1.weight)))
        add(self.out(bias(u.conv1)))
        add(self.halves(self.taps(u.conv2.weight)))
        upper, lower = ul.conv1.weight[:, :, :1], ul.conv1.weight[:, :, 1:]
        add(self.out(torch.cat([self.taps(upper), self.taps(ul.from_u.weight)])))
        add(self.out(bias(ul.conv1) + bias(ul.from_u)))
        add(self.out(self.taps(lower)))
        add(self.halves(self.taps(ul.conv2.weight[:, :, :1])))
        add(self.halves(self.taps(ul.conv2.weight[:, :, 1:])))
        if (a := ul.attention) is not None:
            heads, m = a.heads, self.width
            scale = 1 / math.sqrt(m // 8)
            size = up(heads * (m // 8))
            add(torch.cat([pad(self.rows(matrix(p) * s, 1), size) for p, s in ((a.query, scale), (a.key, 1))], dim=1))
            add(torch.cat([pad(bias(p) * s, size) for p, s in ((a.query, scale), (a.key, 1))]))
            value = matrix(a.value).double().view(m, heads, -1)  # (m, heads, m/2)
            back = matrix(a.out).double().view(heads, -1, m)  # (heads, m/2, m)
            add(self.out(self.rows(torch.einsum("ihd,hdo->hio", value, back).reshape(heads * m, m), heads)))
            add(self.out(bias(a.out).double() + bias(a.value).double() @ matrix(a.out).double()))
            add(self.out(bias(a.out)))

    def table(self, weight: Tensor, codebook: Tensor) -> Tensor:
        """Return what every code adds at every tap: (m, D + 1, kh, kw) -> (kh * kw, padded K, padded m)."""
        taps = weight.flatten(2).permute(2, 1, 0)  # (taps, D + 1, m)
        table = codebook @ taps[:, :-1] + taps[:, -1:]
        return F.pad(self.out(table), (0, 0, 0, self.padded_codes - self.codes))

    def taps(self, weight: Tensor) -> Tensor:
        """Return a convolution as a matrix: (O, 2m, kh, kw) -> (kh * kw * 2 * padded m, O), taps in reading order."""
        taps = weight.flatten(2).permute(2, 1, 0)  # (taps, 2m, O)
        return self.rows(taps.reshape(-1, taps.shape[2]), 2 * len(taps))

    def rows(self, x: Tensor, groups: int) -> Tensor:
        """Pad the inputs of a matrix: (groups * m, O) -> (groups * padded m, O)."""
        x = x.view(groups, self.width, -1)
        return F.pad(x, (0, 0, 0, self.padded - self.width)).flatten(0, 1)

    def out(self, x: Tensor) -> Tensor:
        """Pad m outputs."""
        return pad(x, self.padded)

    def halves(self, x: Tensor) -> Tensor:
        """Pad each half of 2m outputs."""
        return torch.cat([self.out(half) for half in x.chunk(2, dim=-1)], dim=-1)


def known_here(options: SamplingOptions) -> bool:
    """Say whether the library knows all of these options: those of Job, and others at their defaults."""
    return all(f.name in KNOWN or getattr(options, f.name) == f.default for f in fields(options))


def up(n: int) -> int:
    """Return n rounded up to a multiple of PANEL."""
    return -(-n // PANEL) * PANEL


def pad(x: Tensor, size: int) -> Tensor:
    """Pad the last axis with zeros."""
    return F.pad(x, (0, size - x.shape[-1]))


def matrix(conv: nn.Module) -> Tensor:
    """Return a 1x1 convolution as a matrix (inputs, outputs), detached."""
    return conv.weight.detach().flatten(1).t()  # type: ignore[union-attr]


def bias(conv: nn.Module) -> Tensor:
    """Return a convolution's bias, detached."""
    return conv.bias.detach()  # type: ignore[union-attr]


def fastest(
    model: StructureGenerator, codebook: Tensor, device: torch.device, dtype: torch.dtype = torch.float32
) -> Callable[..., Sampled]:
    """Return the fastest sampler for a device: all return the same codes, near ties and bfloat16 apart."""
    if device.type == "cpu" and kinds():
        return NativeSampler(model, codebook, dtype)
    return partial(sample_in_pytorch, model, codebook)
