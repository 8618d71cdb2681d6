"""manifill as a Gradio app, for Hugging Face Spaces or at home: `pip install manifill gradio; python examples/app.py`.

In a Space, this file is app.py and requirements.txt says manifill. The calls of the library are those of the README.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from manifill import ImageError, Inpainter, Preview

PHOTO = Path(__file__).parent / "astronaut.png"
SIDE = 1024  # pixels; larger photos are scaled down
inpainter = Inpainter.from_pretrained()


def hole_of(drawn: dict[str, Any]) -> np.ndarray:
    """Return what was painted in any layer, bool (H, W)."""
    return np.any([np.asarray(layer.convert("RGBA"))[..., 3] > 0 for layer in drawn["layers"]], axis=0)


def complete(
    drawn: dict[str, Any] | None, count: int, seed: int, temperature: float
) -> Iterator[list[tuple[Image.Image, str]]]:
    """Yield the gallery as it fills: structures first, then completions in their places."""
    if drawn is None or drawn["background"] is None:
        raise gr.Error("Choose a photo first.")
    hole = hole_of(drawn)
    if not hole.any():
        raise gr.Error("Paint the hole first.")
    try:
        completions = inpainter(
            drawn["background"].convert("RGB"), hole, num_samples=int(count), seed=int(seed), temperature=temperature
        )
        shown: dict[int, tuple[Image.Image, str]] = {}
        for event in completions.events():
            picture = event.structure if isinstance(event, Preview) else event.image
            shown[event.index] = picture, f"seed {event.seed}"
            yield [shown[k] for k in sorted(shown)]
    except ImageError as error:
        raise gr.Error(str(error)) from error


with gr.Blocks(title="manifill") as demo:
    gr.Markdown("# manifill: many ways to fill a hole\nPaint over a part of the face, then fill it in many ways.")
    with gr.Row():
        with gr.Column():
            editor = gr.ImageEditor(str(PHOTO), type="pil", label="Photo and hole", canvas_size=(SIDE, SIDE))
            many = gr.Slider(1, 16, value=8, step=1, label="Completions")
            first = gr.Number(-1, precision=0, label="Seed (-1: any)")
            heat = gr.Slider(0.5, 1.2, value=0.9, step=0.05, label="Temperature")
            fill = gr.Button("Fill", variant="primary")
        gallery = gr.Gallery(label="Completions", columns=4, format="png")
    fill.click(complete, [editor, many, first, heat], gallery, concurrency_limit=1)  # one model, one at a time

if __name__ == "__main__":
    demo.launch()
