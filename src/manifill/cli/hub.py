"""`manifill push`: a model for others."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from manifill.cli.extras import need
from manifill.cli.options import plainly


@plainly
def push(
    model: Positional[Path],
    repository: Positional[str],
    /,
    *,
    private: bool = False,
    license: str | None = None,
    message: str | None = None,
) -> int:
    """Publish a model folder and its card on the Hugging Face hub (needs the extra `hub`; log in with `hf auth login`).

    Args:
        model: A model folder: RUN/model, or what `manifill pack` wrote.
        repository: USER/REPO; it is made where it does not exist. Others then say --model USER/REPO.
        private: Only you may see it.
        license: The weights' licence as the hub spells it (mit, cc-by-nc-4.0, other ...), in place of the card's.
        message: What the commit says; the weights' hash unless given.

    """
    need("push", "huggingface_hub")
    from manifill.hub import push_to_hub

    print(push_to_hub(model, repository, private=private, license=license, message=message))
    return 0
