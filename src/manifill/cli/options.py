"""Options of the command line from dataclasses: each is declared once, in `config.py`."""

from __future__ import annotations

from dataclasses import Field, field, fields, make_dataclass
from typing import Annotated, Any, get_type_hints

from tyro.conf import arg

from manifill.config import Fit, SamplingOptions


def from_fields(kind: type, optional: bool = False) -> Any:
    """Return a dataclass for tyro with the fields and help of `kind`; `optional` ones are None unless given."""
    hints = get_type_hints(kind)

    def declared(f: Field[Any]) -> tuple[str, Any, Any]:
        text = f.metadata["help"] + (" The model's own unless given." if optional else "")
        hint = hints[f.name] | None if optional else hints[f.name]
        return f.name, Annotated[hint, arg(help=text)], field(default=None if optional else f.default)

    return make_dataclass(kind.__name__, [declared(f) for f in fields(kind)], frozen=True)


SamplingArguments = from_fields(SamplingOptions, optional=True)
FitArguments = from_fields(Fit)
