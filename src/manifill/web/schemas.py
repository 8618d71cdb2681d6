"""What requests and answers look like, in the words of the OpenAPI description."""

from __future__ import annotations

import base64
import re
from dataclasses import fields
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationInfo, WithJsonSchema, create_model
from pydantic_core import PydanticCustomError

from manifill.completion import Choice, KnownCodes
from manifill.config import Fit, SamplingOptions
from manifill.photos.encode import Format


def from_base64(given: object, info: ValidationInfo) -> object:
    """Decode what is base64 in JSON, with or without the start of a data address; in a form, files are bytes."""
    if info.mode != "json" or not isinstance(given, str):
        return given
    try:
        return base64.b64decode(re.sub(r"^data:[^,]{0,100},|\s", "", given), validate=True) or None
    except ValueError as error:
        raise PydanticCustomError("base64", "expected base64 ({why})", {"why": str(error)}) from None


FILE = {"type": "string", "contentEncoding": "base64", "minLength": 1}
File = Annotated[bytes, Strict(), BeforeValidator(from_base64), WithJsonSchema(FILE)]
MASK = "optional: white, or paint on a transparent layer, is the hole; without it, the photo's transparent part"
SEED = Field(default=None, ge=-1, lt=1 << 40, description="seed of the first sample, the next ones count up; -1: any")
COUNT = Field(default=1, ge=1, description="how many completions")


class Fields(BaseModel):
    """Fields of a request; an unknown one is an error."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Hole(Fields):
    """A photo, and how its mask is read."""

    photo: File = Field(description="the photo")
    mask: File | None = Field(None, description=MASK)
    invert_mask: bool = Field(False, description="black is the hole")


def declared(kind: type, optional: bool = False) -> dict[str, Any]:
    """Return the fields of a dataclass of options for `create_model`; `optional` ones may be null."""
    hints, found = get_type_hints(kind), {}
    for f in fields(kind):
        m = f.metadata
        low, high = m["served"] or (m["least"], m["most"])
        bounds = {"ge": low, "gt": None if m["served"] else m["above"], "le": high}
        given = {name: bound for name, bound in bounds.items() if bound is not None}
        hint, default = (hints[f.name] | None, None) if optional else (hints[f.name], f.default)
        found[f.name] = (hint, Field(default, description=m["help"], **given))
    return found


OPTIONS = declared(SamplingOptions, optional=True) | declared(Fit)


class Settings(create_model("Options", __base__=Hole, **OPTIONS)):
    """How a hole is filled; what is not given is the model's own."""

    model: str | None = Field(None, description="one of the server's models; the first unless given")
    num_samples: int = COUNT
    seed: int | None = SEED
    known_codes: KnownCodes = Field("exact", description="structure codes taken from the photo instead of being drawn")
    extend_left: int = Field(
        0, ge=0, description="pixels added at the left, as hole; at most half as many as there are"
    )
    extend_top: int = Field(0, ge=0, description="pixels added at the top")
    extend_right: int = Field(0, ge=0, description="pixels added at the right")
    extend_bottom: int = Field(0, ge=0, description="pixels added at the bottom")
    of: int | None = Field(None, ge=1, description="draw so many samples and keep num_samples of them")
    choose: Choice = Field("diverse", description="which of them are kept")

    def only(self, kind: type) -> dict[str, Any]:
        """Return the fields that a dataclass of options has, too."""
        return {f.name: getattr(self, f.name) for f in fields(kind)}

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """What is added to the photo."""
        return self.extend_left, self.extend_top, self.extend_right, self.extend_bottom


class One(Fields):
    """Which completion of a job, and how many are made of it."""

    index: int = Field(ge=0, description="the completion")
    num_samples: int = COUNT
    seed: int | None = SEED


class Redraw(One):
    """Which completion is drawn anew in a part of its hole."""

    part: File = Field(description="a mask of what is drawn anew, white, within the hole")


class Near(One):
    """Which completion others are to be like."""

    amount: float = Field(0.3, ge=0, le=1, description="0: the same; 1: as different as any")


class Failure(BaseModel):
    """Why a request was not carried out."""

    error: str = Field(description="one sentence")
    request_id: str = Field(description="as in the header X-Request-Id and in the server's log")


SAID = Field(description="what a person may not have meant about photo and mask, in words")


class Filler(BaseModel):
    """What fills the hole or a part of it: a model, or diffusion, which needs none."""

    model: str
    why: str | None = Field(description="in words, where the photo has decided it")


class Drawn(BaseModel):
    """One completion; `image` is a PNG in base64."""

    index: int
    seed: int
    log_likelihood: float = Field(description="mean over the hole's drawn codes, in nats a code")
    image: str


class Answer(BaseModel):
    """Several completions."""

    completions: list[Drawn]
    models: list[Filler]
    warnings: list[str] = SAID


class Accepted(BaseModel):
    """A job that waits for its turn."""

    id: str
    seeds: list[int]
    events: str = Field(description="where to listen to what happens")
    warnings: list[str] = SAID


class Sample(BaseModel):
    """A photo and a mask to try."""

    name: str
    photo: str
    mask: str
    alt: str = Field(description="what the photo shows")


class Taken(BaseModel):
    """What a request may ask for."""

    model_config = ConfigDict(from_attributes=True)

    pixels: int
    samples: int
    queue: int
    body_bytes: int


class ModelCard(BaseModel):
    """A model that the server has."""

    name: str
    weights: str = Field(description="hash of the weights")
    knows: str | None = Field(description="what its pictures show")
    image_size: int
    parameters: int
    codebook_size: int
    temperature: float
    top_p: float


class Served(ModelCard):
    """The model that fills where a request names none, all that can be named, and what this server takes."""

    models: list[ModelCard]
    limits: Taken
    choices: list[str] = Field(description="by what the best of many can be kept")
    native: str = Field(description="which code draws structures")


class Health(BaseModel):
    """A sign of life."""

    status: Literal["ok"] = "ok"


WORDS = {
    400: "a picture that cannot be read, or a value that cannot be used",
    401: "the token is missing or wrong",
    403: "the request comes from another site, or to a foreign name",
    404: "no such job or picture, or no longer",
    408: "the upload stalled",
    413: "more bytes or pixels than this server takes",
    415: "neither multipart/form-data nor application/json",
    422: "a field is missing, unknown or out of range",
    429: "the queue is full",
    500: "the server failed",
}


def failures(*more: int) -> dict[int | str, dict[str, Any]]:
    """Return the descriptions of errors: those that every request may meet, and more."""
    return {code: {"model": Failure, "description": WORDS[code]} for code in sorted({401, 403, 500, *more})}


LATER = failures(404, 422)
UPLOAD = failures(400, 404, 408, 413, 415, 422, 429)
BINARY = {"type": "string", "format": "binary"}
PICTURE = {"image/png": {"schema": BINARY}}
ENCODED = {f"image/{kind}": {"schema": BINARY} for kind in get_args(Format)}  # a path ending in .png fits it, too
WARNED = {"X-Warnings": {"description": "a list in JSON, as the field warnings", "schema": {"type": "string"}}}
SEEDED = {
    "X-Seed": {"description": "the seed", "schema": {"type": "integer"}},
    "X-Models": {"description": "a list in JSON, as the field models", "schema": {"type": "string"}},
    **WARNED,
}
PNG: dict[str, Any] = {"description": "the picture", "content": PICTURE}
COPY: dict[str, Any] = {"description": "the picture", "headers": WARNED, "content": ENCODED}
ZIP: dict[str, Any] = {"description": "the archive", "content": {"application/zip": {"schema": BINARY}}}
DATA = (
    "JSON: position; index, seed, image, box (left, top, right, bottom); angle of the box in degrees; log_likelihood, "
    "patch, models (each with model and why); seconds; error"
)
EVENT = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "its number, for the header Last-Event-ID"},
        "event": {"type": "string", "enum": ["queued", "structure", "completion", "done", "error", "cancelled"]},
        "data": {"type": "string", "description": DATA},
    },
}
EVENTS: dict[str, Any] = {"description": "the events", "content": {"text/event-stream": {"schema": EVENT}}}
ONE_OR_MANY: dict[str, Any] = {
    "description": "one completion as PNG, or several as JSON",
    "headers": SEEDED,
    "content": {**PICTURE, "application/json": {}},
    "model": Answer,
}


def body(kind: type[Fields]) -> dict[str, Any]:
    """Return OpenAPI's description of a request with these fields, as a form or as JSON."""
    schema = kind.model_json_schema()
    form = {**schema, "properties": {name: in_form(field) for name, field in schema["properties"].items()}}
    content = {"multipart/form-data": {"schema": form}, "application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


def in_form(field: dict[str, Any]) -> dict[str, Any]:
    """Return a field as it is in a form, where there is no null and a file is bytes."""
    kind = next((choice for choice in field.get("anyOf", []) if choice.get("type") != "null"), {})
    found = {k: v for k, v in field.items() if not kind or k not in ("anyOf", "default")} | kind
    return {k: v for k, v in found.items() if k not in FILE} | BINARY if "contentEncoding" in found else found
