"""What the cases from the field share: how a command is run, and what is wrong with what it did."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

CASES: dict[int, Callable[[Place], str]] = {}


class Wrong(Exception):  # noqa: N818
    """A case that did not come out as it should."""


@dataclass
class Done:
    """What a command did."""

    code: int
    out: Path
    said: str
    printed: str


@dataclass
class Place:
    """Where the cases lie, and a folder to work in."""

    cases: Path
    work: Path
    count: int = 0
    model: str = "faces-128"

    def start(
        self, photo: object, mask: object | None, *more: object, out: Path | None = None, **environment: str
    ) -> tuple[subprocess.Popen[bytes], Path]:
        """Start `manifill inpaint` for a photo and a mask, by name among the cases or by path."""
        self.count += 1
        out = out or self.work / f"out{self.count}"
        paths = [self.cases / str(p) for p in (photo, mask) if p is not None]
        arguments = ["inpaint", *paths, "-o", out, "-n", "1", "--seed", "0", "--model", self.model, *more]
        return subprocess.Popen(
            [sys.executable, "-m", "manifill", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | environment,
        ), out

    def run(
        self, photo: object, mask: object | None, *more: object, out: Path | None = None, **environment: str
    ) -> Done:
        """Run `manifill inpaint` and wait for it; a traceback is wrong in any case."""
        process, out = self.start(photo, mask, *more, out=out, **environment)
        printed, said = (data.decode("utf-8", "replace") for data in process.communicate(timeout=300))
        if "Traceback" in said:
            raise Wrong("a traceback: " + said.strip().splitlines()[-1])
        return Done(process.returncode, out, said, printed)

    def hole(self, name: str) -> np.ndarray:
        """Return what is white in a picture of the cases."""
        return np.asarray(Image.open(self.cases / name).convert("L")) > 127


def case(number: int) -> Callable[[Callable[[Place], str]], Callable[[Place], str]]:
    """Count a function among the cases."""

    def add(function: Callable[[Place], str]) -> Callable[[Place], str]:
        CASES[number] = function
        return function

    return add


def expect(true: object, words: str) -> None:
    """Raise Wrong unless something is true."""
    if not true:
        raise Wrong(words)


def changed(done: Done, photo: np.ndarray, name: str = "photo") -> np.ndarray:
    """Return which pixels of a completed photo differ from the photo's, bool (H, W)."""
    expect(done.code == 0, f"exit code {done.code}: {done.said.strip()[-200:]}")
    found = np.asarray(Image.open(next(done.out.glob(f"{name}_000.*"))))
    expect(found.shape == photo.shape, f"{found.shape} in place of {photo.shape}")
    return (found != photo).reshape(*photo.shape[:2], -1).any(2)


def refused(done: Done) -> str:
    """Return the sentence of a refusal, which leaves nothing behind."""
    sentences = [line for line in done.said.splitlines() if not line.startswith("manifill: warning")]
    expect(done.code == 2 and len(sentences) == 1 and not done.out.exists(), f"code {done.code}: {done.said[-300:]}")
    return sentences[0]


def fills(place: Place, photo: str, mask: str | None, hole: np.ndarray, *words: str) -> str:
    """Check that a hole, and nothing else, is filled; or that the refusal has some words, where there are any."""
    done = place.run(photo, mask)
    if done.code == 2 and words:
        sentence = refused(done)
        expect(all(word in sentence for word in words), sentence)
        return "refused: " + sentence[-60:]
    own = cv2.cvtColor(cv2.imread(str(place.cases / photo)), cv2.COLOR_BGR2RGB)  # no reader of ours
    different = changed(done, own, Path(photo).stem)
    expect(not different[~hole].any(), f"{different[~hole].sum()} known pixels changed")
    expect(different[hole].mean() > 0.9, f"only {different[hole].mean():.0%} of the hole is filled")
    return f"{hole.mean():.1%} filled"
