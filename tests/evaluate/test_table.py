"""The table of an evaluation: what a reader needs beside the numbers, in the formats that papers and sheets take."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from manifill.evaluate import table
from manifill.evaluate.report import label
from manifill.evaluate.scores import PER_COMPLETION, Scores, distribution, figures, notes

FIGURES = {
    "psnr": 25.31234,
    "seam_ratio": 1.25,
    "FD-Net_2": 41.5,
    "perceptual_LPIPS-alex": 0.0562,
    "precision-Net_2": 0.8,
}


def methods(count: int) -> dict:
    return {name: {"about": {"pictures": count}, "figures": FIGURES} for name in ("faces_128", "telea")}


def test_every_metric_has_a_name_a_direction_and_a_sentence() -> None:
    rng = np.random.default_rng(0)
    sets = distribution("Net", rng.normal(size=(12, 4)), rng.normal(size=(12, 2, 4)), rng.normal(size=(12, 2, 5)))
    others = ("perceptual_Net", *(f"diversity_{kind}_Net" for kind in ("composite", "hole", "full", "score")))
    for key in (*PER_COMPLETION, "seam_ratio", *others, *sets, "FID", "KID", "IS", "MIS", "P-IDS-Net"):
        found = table.metric(key)
        assert found.says.endswith("."), key
        assert found.name != key or key in ("FID", "KID"), key
        assert found.better or key.startswith("seam"), key
    assert table.metric_title("psnr") == "PSNR [dB] \u2191"
    assert table.metric_title("FD-Net") == "Fr\u00e9chet distance (Net) \u2193"


@pytest.mark.parametrize(("count", "flagged"), [(40, 2), (1000, 0)])
def test_metrics_of_too_few_pictures_are_last_and_said_to_mean_nothing(count: int, flagged: int) -> None:
    *rest, last = table.lines(methods(count)).items()
    assert sum("Means nothing of" in line[-1] for _, line in (*rest, last)) == flagged
    assert last[0] == "precision-Net_2"
    assert [key for key, _ in rest][:2] == ["psnr", "seam_ratio"]
    printed = table.to_text(methods(count)).splitlines()
    assert printed[0].split() == ["faces_128", "telea"]
    assert len({line.index("25.31") for line in printed if "25.31" in line}) == 1


def test_a_set_of_forty_says_in_one_note_what_it_is_too_few_for() -> None:
    values = {"psnr": np.ones((40, 1)), "real_Net": np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)}
    values |= {"features_Net": values["real_Net"][:, None] + 0.1, "logits_Net": values["real_Net"][:, None]}
    (note,) = notes(figures(Scores({}, np.arange(40), values)), 40)
    assert note.startswith("40 pictures are too few for Fr\u00e9chet distance (Net) (")
    assert "precision" in note.lower()
    assert "PSNR" not in note
    assert set(figures(Scores({}, np.arange(40), values))) >= {"psnr", "FD-Net", "KD-Net"}


def test_markdown_latex_and_csv() -> None:
    text = table.markdown(methods(40)).splitlines()
    assert {line.count("|") for line in text} == {5}
    assert text[2].startswith("| PSNR [dB] \u2191 | 25.31 | 25.31 | Nearness")
    tex = table.latex(methods(40))
    assert r" & faces\_128 & telea \\" in tex
    assert r"PSNR [dB] $\uparrow$ & 25.31 & 25.31 \\" in tex
    assert "Fr" not in tex  # what means nothing is in no paper's table
    assert tex.count("{") == tex.count("}")
    rows = list(csv.DictReader(io.StringIO(table.comma_separated(methods(40)))))
    assert len(rows) == 2 * len(FIGURES)
    assert (rows[0]["method"], rows[0]["value"], rows[0]["better"]) == ("faces_128", "25.31234", "higher")


def test_a_row_of_the_grid_is_labelled() -> None:
    assert label("best\nPSNR 31.2 dB", 64).shape == (64, 64, 3)
    assert (label("best", 64) < 128).any()
