"""Every sampler returns the codes that the naive one defines, and they follow the network's distribution."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from manifill.config import SamplingOptions, StructureConfig
from manifill.inpainter import Inpainter
from manifill.networks.structure import StructureGenerator
from manifill.photos.tensors import to_model
from manifill.sampling import native
from manifill.sampling.cached import runs, sample_cached, sample_in_pytorch, sample_rows
from manifill.sampling.naive import Sampled, gumbel_noise, noisy_logits, sample_naive
from manifill.sampling.native import NativeSampler
from manifill.train.presets import PRESETS

EXAMPLES = Path(__file__).parents[2] / "examples"
TIE = 1e-3  # two noisy logits nearer than this may change places when shapes round differently
TINY = PRESETS["tiny"].model.structure
SMALL = dataclasses.replace(PRESETS["faces-128"].model.structure, layers=8, attention_layers=2)
FLOAT_KINDS = [k for k in ("portable", "avx2", "avx512") if k in native.kinds()]

Sampler = Callable[..., Sampled]


def generator(c: StructureConfig) -> StructureGenerator:
    model = StructureGenerator(c).eval().requires_grad_(False)
    for p in model.parameters():
        p.mul_(1.5)  # larger than at the start, so that logits depend on the codes
    return model


def sampler(name: str) -> Sampler:
    """Return a sampler by name, all with the naive one's arguments."""
    if name in ("cached", "rows"):
        return sample_cached if name == "cached" else sample_rows
    if name not in native.kinds():
        pytest.skip(f"the native sampler's kind {name} does not run here: {native.kinds()}")
    return lambda model, codebook, *rest, **more: NativeSampler(model, codebook, kind=name)(*rest, **more)


def given(
    c: StructureConfig, side: int, n: int, pictures: int = 1
) -> tuple[StructureGenerator, Tensor, Tensor, Tensor]:
    cond = torch.randn(pictures, 8 * c.condition_width, side, side)
    return (
        generator(c),
        torch.randn(c.codebook_size, c.codebook_dim),
        cond,
        gumbel_noise(range(n), side**2, c.codebook_size),
    )


def assert_same_codes(
    model: StructureGenerator,
    codebook: Tensor,
    cond: Tensor,
    noise: Tensor,
    o: SamplingOptions,
    naive: Sampled,
    other: Sampled,
) -> None:
    side = naive.codes.shape[-1]
    for k in range(len(noise)):
        different = (naive.codes[k] != other.codes[k]).flatten().nonzero().flatten()
        if len(different) == 0:
            assert torch.allclose(naive.log_likelihood[k], other.log_likelihood[k], atol=1e-3)
            continue
        i, j = divmod(int(different[0]), side)  # only a near tie may differ; what follows it then differs too
        structure = codebook[naive.codes[k : k + 1]].permute(0, 3, 1, 2)
        logits = model.logits(structure, cond[k : k + 1] if len(cond) > 1 else cond)[:, :, i, j]
        first, second = noisy_logits(logits, noise[k : k + 1, int(different[0])], o).topk(2).values[0]
        assert first - second < TIE


def known_codes(c: StructureConfig, pattern: str, n: int, side: int = 8) -> Tensor | None:
    """Return codes to clamp: -1 in the middle, or in the upper half, or here and there and another for every sample."""
    codes = torch.randint(c.codebook_size, (n if pattern == "scattered" else 1, side, side))
    if pattern == "middle":
        codes[:, 2:6, 3:7] = -1
    elif pattern == "upper half":
        codes[:, : side // 2] = -1
    elif pattern == "scattered":
        codes[torch.rand(codes.shape) < 0.4] = -1
    return None if pattern == "none" else codes


EVERY = ["cached", "rows", "portable", "avx2", "avx512"]
Case = tuple[StructureGenerator, Tensor, Tensor, Tensor]


@cache
def naive_case(
    c: StructureConfig, options: SamplingOptions, pattern: str = "none"
) -> tuple[Case, Tensor | None, Sampled]:
    """Return what a sampler is given, the codes that it is to keep, and what the naive one makes of them, made once."""
    torch.manual_seed(0)
    case = given(c, 8 if c is TINY else 6, 4)
    known = known_codes(c, pattern, 4)
    return case, known, sample_naive(*case, options, known=known)


@cache
def cached_case(n: int) -> tuple[Case, Sampled]:
    """Return what a sampler is given for `n` samples, and what the cached one makes of it."""
    torch.manual_seed(0)
    case = given(SMALL, 6, n)
    return case, sample_cached(*case, SamplingOptions())


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("options", [SamplingOptions(), SamplingOptions(0.8, 20, 0.9), SamplingOptions(top_p=0.3)])
@pytest.mark.parametrize("c", [TINY, SMALL], ids=["tiny", "small"])
def test_agrees_with_the_naive_sampler(name: str, options: SamplingOptions, c: StructureConfig) -> None:
    case, _, naive = naive_case(c, options)
    assert_same_codes(*case, options, naive, sampler(name)(*case, options))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("pattern", ["middle", "upper half", "scattered", "all"])
def test_clamped_codes(name: str, pattern: str) -> None:
    options = SamplingOptions()
    case, known, naive = naive_case(TINY, options, pattern)
    assert known is not None
    other = sampler(name)(*case, options, known=known)
    kept = (known >= 0).expand_as(naive.codes)
    assert torch.equal(naive.codes[kept], known.expand_as(naive.codes)[kept])
    assert (other.log_likelihood[kept] == 0).all()
    assert_same_codes(*case, options, naive, other)


@pytest.mark.parametrize("name", EVERY)
def test_several_pictures_in_one_batch(name: str) -> None:
    model, codebook, cond, noise = given(TINY, 6, 3, pictures=3)
    options = SamplingOptions(0.9, 0, 0.9)
    naive = sample_naive(model, codebook, cond, noise, options)
    assert_same_codes(
        model, codebook, cond, noise, options, naive, sampler(name)(model, codebook, cond, noise, options)
    )


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_threads_do_not_matter_to_the_native_sampler(threads: int, n: int) -> None:
    if not FLOAT_KINDS:
        pytest.skip("the native sampler was not built")
    (case, wanted), before = cached_case(n), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = sampler(FLOAT_KINDS[-1])(*case, SamplingOptions())
    finally:
        torch.set_num_threads(before)
    assert_same_codes(*case, SamplingOptions(), wanted, found)


@pytest.mark.skipif(not native.kinds(), reason="the native sampler was not built")
def test_autocast_does_not_reach_the_native_sampler() -> None:
    """It reads its inputs through pointers, as float32: in autocast they must not become anything else."""
    torch.manual_seed(3)
    model, codebook, cond, noise = given(TINY, 8, 2, pictures=2)
    wanted = NativeSampler(model, codebook)(cond, noise, SamplingOptions())
    with torch.autocast("cpu", torch.bfloat16):
        found = NativeSampler(model, codebook)(cond, noise, SamplingOptions())
    assert torch.equal(found.codes, wanted.codes)
    assert torch.equal(found.log_likelihood, wanted.log_likelihood)


@pytest.mark.skipif(not native.kinds(), reason="the native sampler was not built")
def test_the_native_sampler_refuses_what_it_would_read_beyond() -> None:
    model, codebook, cond, noise = given(TINY, 8, 3, pictures=2)
    sampler, known = NativeSampler(model, codebook), torch.full((3, 8, 8), -1)
    for n, positions, place, message in (
        (3, 64, known, r"cond is \(2, "),
        (2, 63, known[:2], r"noise \(2, 63, 32\)"),
        (2, 64, known, r"known is \(3, 8, 8\)"),
        (2, 64, known[:2, 1:], r"known is \(2, 7, 8\)"),
        (2, 64, known[:2] + 33, "codes up to 32"),
    ):
        with pytest.raises(ValueError, match=message):
            sampler(cond, noise[:n, :positions], SamplingOptions(), place)


@pytest.mark.skipif("avx512bf16" not in native.kinds(), reason="no bfloat16 products on this processor")
def test_bfloat16_differs_at_near_ties_alone() -> None:
    (model, codebook, cond, noise), _, exact = naive_case(SMALL, SamplingOptions())
    rough = NativeSampler(model, codebook, torch.bfloat16)(cond, noise, SamplingOptions())
    same = (exact.codes == rough.codes).flatten(1)
    before = same.long().cumprod(1).bool()  # up to the first difference both saw the same codes
    error = (exact.log_likelihood - rough.log_likelihood).flatten(1)[before].abs()
    assert before.float().mean() > 0.2
    assert error.max() < 0.5


@pytest.mark.parametrize("name", ["naive", "cached", "rows", "native"])
def test_samples_follow_the_distribution(name: str) -> None:
    """Three codes on two by two cells: all 81 pictures can be counted, and their probabilities computed."""
    c = dataclasses.replace(TINY, codebook_size=3)
    torch.manual_seed(1)
    model, codebook, cond, _ = given(c, 2, 1)
    every = torch.tensor(list(itertools.product(range(3), repeat=4))).view(81, 2, 2)
    logits = model.logits(codebook[every].permute(0, 3, 1, 2), cond)
    share = logits.log_softmax(1).gather(1, every[:, None]).sum((1, 2, 3)).exp()
    assert abs(share.sum() - 1) < 1e-4
    n, options = 20000, SamplingOptions()
    noise = gumbel_noise(range(n), 4, 3)
    if name == "naive":
        sampled = sample_naive(model, codebook, cond, noise, options)
    else:
        kind = (FLOAT_KINDS or ["portable"])[-1] if name == "native" else name
        sampled = sampler(kind)(model, codebook, cond, noise, options)
    counts = torch.bincount((sampled.codes.flatten(1) * torch.tensor([27, 9, 3, 1])).sum(1), minlength=81)
    expected = share * n
    statistic = ((counts - expected) ** 2 / expected)[expected > 5].sum()
    assert statistic < 125  # chi-square with at most 80 degrees of freedom: one in a thousand
    assert (expected > 5).sum() > 20


@pytest.mark.parametrize("name", ["cached", "rows", "portable"])
def test_a_sample_depends_on_its_seed_alone(name: str) -> None:
    model, codebook, cond, _ = given(TINY, 8, 1)
    draw = sampler(name)
    many = draw(model, codebook, cond, gumbel_noise(range(5), 64, TINY.codebook_size), SamplingOptions())
    for seed in range(5):
        one = draw(model, codebook, cond, gumbel_noise([seed], 64, TINY.codebook_size), SamplingOptions())
        assert torch.equal(one.codes[0], many.codes[seed])
    assert len({tuple(codes.flatten().tolist()) for codes in many.codes}) == 5


@pytest.mark.parametrize("name", ["cached", "rows", "portable"])
def test_likelihood_is_that_of_the_unfiltered_model(name: str) -> None:
    model, codebook, cond, noise = given(TINY, 8, 1)
    sampled = sampler(name)(model, codebook, cond, noise, SamplingOptions(0.5, 3))
    logits = model.logits(codebook[sampled.codes].permute(0, 3, 1, 2), cond)
    wanted = logits.log_softmax(1).gather(1, sampled.codes[:, None])[:, 0]
    assert torch.allclose(sampled.log_likelihood, wanted, atol=1e-4)


@pytest.mark.parametrize("n", [1, 5])
def test_pytorch_takes_either_way(n: int) -> None:
    model, codebook, cond, noise = given(TINY, 6, n)
    wanted = sample_naive(model, codebook, cond, noise, SamplingOptions())
    found = sample_in_pytorch(model, codebook, cond, noise, SamplingOptions())
    assert_same_codes(model, codebook, cond, noise, SamplingOptions(), wanted, found)


def test_runs() -> None:
    assert list(runs([False, False, True, True, False])) == [(0, 2), (2, 3), (3, 4), (4, 5)]


def test_rows_take_fewer_rounds_than_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the codes are nearly certain, a guess is soon right."""
    from manifill.sampling.cached import Streams

    model, codebook, cond, noise = given(TINY, 8, 1)
    rounds, step = [], Streams.step
    monkeypatch.setattr(Streams, "step", lambda self, i, j, stop: rounds.append(i) or step(self, i, j, stop))
    sample_rows(model, codebook, cond, noise, SamplingOptions(top_k=1))
    assert 8 <= len(rounds) < 64


def test_what_samples_here_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if FLOAT_KINDS:
        assert native.sampler_here().startswith(FLOAT_KINDS[-1])
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    native.native_library.cache_clear()
    monkeypatch.setattr(native, "LIBRARY", broken)
    assert "does not load" in native.sampler_here()
    native.native_library.cache_clear()


def test_without_the_library_the_native_sampler_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    native.native_library.cache_clear()
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "absent.so")
    assert native.kinds() == []
    assert "was not built" in native.sampler_here()
    model, codebook, _, _ = given(TINY, 2, 1)
    with pytest.raises(OSError, match=r"absent\.so"):
        NativeSampler(model, codebook)
    native.native_library.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_agrees_with_the_naive_sampler_on_the_bundled_model(name: str) -> None:
    inpainter = Inpainter.from_pretrained("faces-128", "cpu")
    completions = inpainter(EXAMPLES / "astronaut.png", EXAMPLES / "centre.png")
    cond = inpainter.condition(*to_model(completions.photo.rgb, completions.hole, 128))
    codebook = inpainter.vqvae.encoder.structure_quantiser.codebook
    noise, o = gumbel_noise(range(8), 256, len(codebook)), completions.options
    naive = sample_naive(inpainter.structure, codebook, cond, noise, o)
    other = sampler(name)(inpainter.structure, codebook, cond, noise, o)
    assert_same_codes(inpainter.structure, codebook, cond, noise, o, naive, other)
