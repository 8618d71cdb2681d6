"""Options of the command line from dataclasses: each is declared once, in `config.py` or `train/config.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, Field, field, fields, make_dataclass
from typing import Annotated, Any, get_type_hints

from tyro.conf import arg

from manifill.config import Fit, SamplingOptions, overrides


def from_fields(kind: type, whose: str | None = None, without: type | None = None, models: Sequence[str] = ()) -> Any:
    """Return a dataclass for tyro with the fields and help of `kind`, but those that `without` has.

    `whose` says in the help whose value it is that an option has unless it is given; `models` are options that name a
    model, which is text until its folder is found.
    """
    hints, left_out = get_type_hints(kind), {f.name for f in fields(without)} if without else set()

    def declared(f: Field[Any]) -> tuple[str, Any, Any]:
        hint = str | None if f.name in models else hints[f.name]
        said = arg(help=f.metadata["help"], help_behavior_hint=f"(default: {whose})" if whose else None)
        return f.name, Annotated[hint, said], field() if f.default is MISSING else field(default=f.default)

    return make_dataclass(kind.__name__, [declared(f) for f in fields(kind) if f.name not in left_out], frozen=True)


SamplingArguments = from_fields(overrides(SamplingOptions), "the model's own")
FitArguments = from_fields(Fit)
