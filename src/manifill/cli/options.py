"""Options of the command line: from dataclasses, where each is declared once, and shown without what says nothing."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import MISSING, Field, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import docstring_parser
from tyro.conf import FlagCreatePairsOff, arg

from manifill.config import Fit, SamplingOptions, overrides

Verb = TypeVar("Verb")
FOLDER, FILE = arg(metavar="FOLDER"), arg(metavar="FILE")  # what a path names
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif", ".heic", ".heif", ".gif"}


def plainly(verb: Verb) -> Verb:
    """Return a verb, or a dataclass of options, with help that is silent of defaults that stand for nothing.

    "(default: None)" says less than the words before it, and a flag that is off needs no second one to switch it off.
    What the docstring says of an argument is set anew to the width of the terminal.
    """
    hints = get_type_hints(verb, include_extras=True)
    for said in docstring_parser.parse(verb.__doc__ or "").params:
        if said.arg_name in hints and said.description:
            hints[said.arg_name] = Annotated[hints[said.arg_name], arg(help=" ".join(said.description.split()))]
    for name, parameter in inspect.signature(verb).parameters.items():  # type: ignore[arg-type]
        told = [getattr(said, "help_behavior_hint", None) for said in getattr(hints[name], "__metadata__", ())]
        if not any(told) and (parameter.default is None or parameter.default == () or parameter.default is False):
            hints[name] = Annotated[hints[name], arg(help_behavior_hint="")]
        if parameter.default is False:
            hints[name] = FlagCreatePairsOff[hints[name]]
    verb.__annotations__ = hints
    return verb


def from_fields(kind: type, whose: str | None = None, without: Sequence[str] = (), models: Sequence[str] = ()) -> Any:
    """Return a dataclass for tyro with the fields and help of `kind`, but those of `without`.

    `whose` says in the help whose value it is that an option has unless it is given; `models` are options that name a
    model, which is text until its folder is found.
    """
    hints = get_type_hints(kind)

    def declared(f: Field[Any]) -> tuple[str, Any, Any]:
        hint = str | None if f.name in models else hints[f.name]
        said = arg(help=f.metadata["help"], help_behavior_hint=f"(default: {whose})" if whose else None)
        return f.name, Annotated[hint, said], field() if f.default is MISSING else field(default=f.default)

    kept = [declared(f) for f in fields(kind) if f.name not in without]
    return plainly(make_dataclass(kind.__name__, kept, frozen=True))


SamplingArguments = from_fields(overrides(SamplingOptions), "the model's own")
FitArguments = from_fields(Fit)


def check_folder(out: Path) -> None:
    """Raise ValueError for a name that results, which are several files, cannot go under."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: is a file; name a folder for the results")
    if out.suffix.lower() in PICTURES and not out.is_dir():
        raise ValueError(f"{out}: named as a picture, but there are several results; name a folder, as {out.stem}")
