"""What each training option changes at small scale: short trainings with it off and on, as tables in Markdown.

    python benchmarks/levers.py --data train-0.tar train-1.tar --val val.tar --vqvae MODEL --texture MODEL --out OUT \
        --features squeezenet1_0-imagenet.ts [--parts codebooks texture structure guidance] [--steps 500 400 1000]

`--vqvae` is a model folder whose VQ-VAE has the preset's sizes, `--texture` one whose texture generator paints for it.
The same command goes on where it stopped: trainings from their checkpoints, measurements from OUT/figures.json. One
seed at small scale: differences of the last digits are noise.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sampling import table
from torch import nn

from manifill.checkpoint import load_texture, load_vqvae, read_header, write_atomic
from manifill.config import Fit, Preset
from manifill.evaluate.ablations import measured
from manifill.evaluate.features import load_networks
from manifill.evaluate.methods import ModelMethod, Picking, TrueCodes
from manifill.evaluate.run import Task
from manifill.evaluate.scores import figures
from manifill.inpainter import Inpainter
from manifill.memory import keep_freed_memory
from manifill.presets import preset
from manifill.train.loop import run
from manifill.train.processes import ALONE
from manifill.train.settings import RunOptions, remember
from manifill.train.stages import batches_of, build, load

PARTS = ("codebooks", "texture", "structure", "guidance")
LECAM, PERTURB, DROPOUT = 0.3, 0.1, 0.1
Figures = dict[str, Any]


class Levers:
    """The trainings and measurements that the arguments ask for."""

    def __init__(self, a: argparse.Namespace) -> None:
        self.a, self.out = a, a.out
        self.settings = self.shortened(preset(a.preset))
        self.options = RunOptions(
            seed=a.seed, quiet=True, log_every=25, validate_every=10**9, checkpoint_every=100, force=True
        )
        self.all, self.held_out = load(a.data, a.val, self.settings.model.image_size, self.options)
        self.few, _ = load(a.data, a.val, self.settings.model.image_size, replace(self.options, limit=a.few))
        self.file = self.out / "figures.json"
        self.known: dict[str, Figures] = json.loads(self.file.read_text()) if self.file.exists() else {}

    def shortened(self, settings: Preset) -> Preset:
        """Return the preset with the steps asked for."""
        vqvae, texture, structure = self.a.steps
        return replace(
            settings,
            vqvae=replace(settings.vqvae, steps=vqvae),
            texture=replace(settings.texture, steps=texture),
            structure=replace(settings.structure, steps=structure),
        )

    def train(self, stage: str, settings: Preset, pictures: Any, name: str) -> Path:
        """Train one stage into OUT/`name` and return that folder; the networks it needs are there or --vqvae's."""
        out = self.out / name
        if stage != "vqvae":
            borrow(self.a.vqvae, out / "model", "vqvae")
        trained = build(stage, settings, self.held_out, out, self.options)
        remember(out, stage, settings, self.options, pictures)
        o = self.options
        with batches_of(stage, settings, pictures, o, ALONE) as batches:
            run(trained, batches, out, getattr(settings, stage).steps, o.seed, o.log_every, o.validate_every,
                o.checkpoint_every, o.quiet)  # fmt: skip
        return out

    def once(self, name: str, measure: Callable[[], Figures]) -> Figures:
        """Return the figures called `name`, measured unless they are known."""
        if name not in self.known:
            self.known[name] = measure()
            write_atomic(self.file, lambda f: f.write(json.dumps(self.known, indent=1).encode()))
        return self.known[name]

    def task(self) -> Task:
        """Return the evaluation that all texture generators and completions go through."""
        networks, perceptual = load_networks(self.a.features)
        return measured(self.held_out, "paper-centre", networks, perceptual).part(self.a.count)

    def codebooks(self) -> None:
        """The VQ-VAE: where its codebooks start, and whether dead codes are revived."""
        rows = []
        for start in ("random", "data", "kmeans"):
            for revive in (False, True):
                vqvae = replace(self.settings.vqvae, start=start, revive=revive)
                name = f"vqvae-{start}-{'revive' if revive else 'left'}"
                train = partial(self.train, "vqvae", replace(self.settings, vqvae=vqvae), self.all, name)
                f = self.once(name, lambda train=train: read_header(train() / "model", "vqvae").figures)
                codes = [f"{f[f'{k}_codes_used']} / {f[f'{k}_perplexity']:.0f}" for k in ("structure", "texture")]
                rows.append([start, str(revive), f"{f['psnr']:.2f}", f"{f['psnr_structure']:.2f}", *codes])
        table(["start", "revival", "PSNR", "structure only", "structure: codes / perplexity", "texture: same"], rows)

    def texture(self) -> None:
        """The texture generator on few pictures: the discriminator, averaging, perturbed codes, LeCam; true codes."""
        on, task, rows = self.settings.texture, self.task(), []
        paper = replace(on, discriminator_norm="spectral", adversarial_share=0.0, adversarial_weight=0.2)
        variants = {
            "base": ("averaged (EMA)", on),
            "lecam": (f"EMA, LeCam {LECAM}", replace(on, lecam_weight=LECAM)),
            "perturb": (f"EMA, perturbed codes {PERTURB}", replace(on, perturb=PERTURB)),
            "spectral": ("EMA, spectral normalisation, weight 0.2", paper),
        }
        for short, (label, texture) in variants.items():
            name = f"texture-{short}"
            train = partial(self.train, "texture", replace(self.settings, texture=texture), self.few, name)
            f = self.once(name, lambda train=train: painted_by(train() / "model", task))
            rows.append([label, *painted(f), *judged(self.out / name / "texture")])
            if name == "texture-base":  # the same training, its last weights in place of their average
                f = self.once("texture-last", lambda name=name: last_weights(self.out / name, task))
                rows.append(["last weights", *painted(f), *judged(self.out / name / "texture")])
        table(["texture generator", "PSNR", "border step", "FD", "D(real)", "D(composed)"], rows)

    def structure(self) -> None:
        """The structure generator: with and without condition dropout."""
        rows = []
        for share in (0.0, DROPOUT):
            out = self.structure_run(share)
            f = read_header(out / "model", "structure").figures
            rows.append([f"{share:g}", f"{f['bits_hole']:.3f}", f"{f['bits_known']:.3f}"])
        table(["condition dropout", "bits a hole's code", "outside"], rows)

    def structure_run(self, share: float) -> Path:
        """Return the run of the structure generator with this condition dropout, trained unless it is."""
        structure = replace(self.settings.structure, condition_dropout=share)
        name = "structure-dropout" if share else "structure-base"
        if (self.out / name / "structure" / "done").exists():
            return self.out / name
        out = self.train("structure", replace(self.settings, structure=structure), self.all, name)
        (out / "structure" / "done").touch()
        return out

    def guidance(self) -> None:
        """Completions: guidance 0, 0.5 and 1; and what perturbed codes are for, painting sampled ones."""
        task, rows = self.task(), []
        for share, guidance in ((0.0, 0.0), (DROPOUT, 0.0), (DROPOUT, 0.5), (DROPOUT, 1.0)):
            name = f"completions-{share:g}-{guidance:g}"
            model = partial(self.whole, self.structure_run(share), self.a.texture, name)
            f = self.once(name, lambda m=model, g=guidance: self.completed(m(), g, task))
            rows.append([f"{share:g}", f"{guidance:g}", *drawn(f)])
        table(["condition dropout", "guidance", "PSNR", "FD", "diversity", "of the hole"], rows)
        rows = []
        for label in ("base", "perturb"):
            name = f"completions-{label}"
            model = partial(self.whole, self.structure_run(0.0), self.out / f"texture-{label}" / "model", name)
            f = self.once(name, lambda m=model: self.completed(m(), 0.0, task))
            rows.append([label, *painted(f)])
        table(["painting sampled codes", "PSNR", "border step", "FD"], rows)

    def whole(self, structure: Path, texture: Path, name: str) -> Inpainter:
        """Return the model of a structure run and a texture generator."""
        folder = self.out / name / "model"
        borrow(self.a.vqvae, folder, "vqvae")
        borrow(structure / "model", folder, "structure")
        borrow(texture, folder, "texture")
        return Inpainter.from_pretrained(folder, "cpu")

    def completed(self, model: Inpainter, guidance: float, task: Task) -> Figures:
        """Measure completions of two samples a picture, drawn without filters and pasted as painted."""
        options = model.options(1.0, 0, 1.0, guidance)
        return figures(task.score(ModelMethod(model, Picking(2), options, fit=Fit(seamless=False)), quiet=True))


def borrow(source: Path, folder: Path, name: str) -> None:
    """Copy a network file into a model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / f"{name}.safetensors", folder / f"{name}.safetensors")


def painted_by(folder: Path, task: Task) -> Figures:
    """Measure a texture generator with true codes."""
    vqvae, header = load_vqvae(folder)
    return figures(task.score(TrueCodes(vqvae, load_texture(folder, header.codebook)[0], "", ""), quiet=True))


def last_weights(out: Path, task: Task) -> Figures:
    """Measure the last weights of a texture run, of which its model folder has the average."""
    vqvae, header = load_vqvae(out / "model")
    network, _ = load_texture(out / "model", header.codebook)
    checkpoint = torch.load(out / "texture" / "checkpoint.pt", map_location="cpu", weights_only=True)
    network.load_state_dict(checkpoint["state"]["model"])
    assert isinstance(network, nn.Module)
    return figures(task.score(TrueCodes(vqvae, network, "last", ""), quiet=True))


def painted(f: Figures) -> list[str]:
    """Return PSNR, border step and Fréchet distance in words."""
    return [f"{f['psnr']:.2f}", f"{f['seam_ratio']:.2f}", f"{distance(f):.0f}"]


def drawn(f: Figures) -> list[str]:
    """Return PSNR, Fréchet distance and diversity in words."""
    spread = [next(v for k, v in f.items() if k.startswith(f"diversity_{kind}_")) for kind in ("composite", "hole")]
    return [f"{f['psnr']:.2f}", f"{distance(f):.0f}", *(f"{s:.3f}" for s in spread)]


def distance(f: Figures) -> float:
    """Return the Fréchet distance of the feature network."""
    return next(v for k, v in f.items() if k.startswith("FD-"))


def judged(folder: Path, lines: int = 4) -> list[str]:
    """Return the discriminator's mean scores of real and composed pictures over the log's last lines in words."""
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in log if "d_real" in line][-lines:]
    return [f"{sum(line[key] for line in last) / len(last):.3f}" for key in ("d_real", "d_composed")]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--val", type=Path, nargs="+", default=[])
    parser.add_argument("--vqvae", type=Path, required=True)
    parser.add_argument("--texture", type=Path, required=True)
    parser.add_argument("--features", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", default="faces-64")
    parser.add_argument("--parts", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--steps", type=int, nargs=3, default=(500, 400, 1000), help="of vqvae, texture, structure")
    parser.add_argument("--few", type=int, default=500, help="pictures that the texture generator is trained on")
    parser.add_argument("--count", type=int, default=150, help="pictures that are completed and measured")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Train, measure and print."""
    a = arguments(given)
    keep_freed_memory()  # as the command line does
    levers = Levers(a)
    for part in a.parts:
        getattr(levers, part)()


if __name__ == "__main__":
    main()
