"""What requests and answers look like, in the words of the OpenAPI description."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from manifill.completion import Choice, KnownCodes
from manifill.config import Strategy

SEED = Field(default=None, ge=-1, lt=1 << 40, description="seed of the first sample, the next ones count up; -1: any")
COUNT = Field(default=1, ge=1, description="how many completions")


class Fields(BaseModel):
    """Fields of a request; an unknown one is an error."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Settings(Fields):
    """How a hole is filled; what is not given is the model's own."""

    num_samples: int = COUNT
    seed: int | None = SEED
    temperature: float | None = Field(None, ge=0.01, le=100, description="smaller is likelier and less diverse")
    top_k: int | None = Field(None, ge=0, le=1 << 20, description="draw among the k likeliest codes, 0 for all")
    top_p: float | None = Field(None, gt=0, le=1, description="draw among the likeliest codes that hold this share")
    invert_mask: bool = Field(False, description="black is the hole")
    known_codes: KnownCodes = Field("exact", description="structure codes taken from the photo instead of being drawn")
    strategy: Strategy = Field("auto", description="how the hole is fitted to the model")
    crop_margin: int | None = Field(None, ge=0, le=4096, description="pixels of the photo around a hole")
    dilate: int = Field(0, ge=0, le=32, description="grow the hole by so many pixels")
    feather: int = Field(0, ge=0, le=256, description="adapt colours within so many pixels of the hole's border alone")
    seamless: bool = Field(True, description="adapt the hole's colours to those around it")
    extend_left: int = Field(
        0, ge=0, description="pixels added at the left, as hole; at most half as many as there are"
    )
    extend_top: int = Field(0, ge=0, description="pixels added at the top")
    extend_right: int = Field(0, ge=0, description="pixels added at the right")
    extend_bottom: int = Field(0, ge=0, description="pixels added at the bottom")
    of: int | None = Field(None, ge=1, description="draw so many samples and keep num_samples of them")
    choose: Choice = Field("diverse", description="which of them are kept")

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """What is added to the photo."""
        return self.extend_left, self.extend_top, self.extend_right, self.extend_bottom


class Hole(Fields):
    """How a mask is read."""

    invert_mask: bool = Field(False, description="black is the hole")


class Redraw(Fields):
    """Which completion is drawn anew in a part of its hole."""

    index: int = Field(ge=0, description="the completion")
    num_samples: int = COUNT
    seed: int | None = SEED


class Near(Redraw):
    """Which completion others are to be like."""

    amount: float = Field(0.3, ge=0, le=1, description="0: the same; 1: as different as any")


class Failure(BaseModel):
    """Why a request was not carried out."""

    error: str = Field(description="one sentence")
    request_id: str = Field(description="as in the header X-Request-Id and in the server's log")


SAID = Field(description="what a person may not have meant about photo and mask, in words")


class Drawn(BaseModel):
    """One completion; `image` is a PNG in base64."""

    index: int
    seed: int
    log_likelihood: float = Field(description="mean over the hole's drawn codes, in nats a code")
    image: str


class Answer(BaseModel):
    """Several completions."""

    completions: list[Drawn]
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

    pixels: int
    samples: int
    queue: int
    body_bytes: int


class ModelCard(BaseModel):
    """The model and what this server takes."""

    name: str
    weights: str = Field(description="hash of the weights")
    image_size: int
    parameters: int
    codebook_size: int
    temperature: float
    top_p: float
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
BINARY = {"schema": {"type": "string", "format": "binary"}}
PICTURE = {"image/png": BINARY}
ENCODED = {f"image/{kind}": BINARY for kind in ("jpeg", "webp", "tiff", "avif", "heif")}
SEEDED = {
    "X-Seed": {"description": "the seed", "schema": {"type": "integer"}},
    "X-Warnings": {"description": "a list in JSON, as the field warnings", "schema": {"type": "string"}},
}
WARNED = {name: value for name, value in SEEDED.items() if name == "X-Warnings"}
PNG: dict[str, Any] = {"description": "the picture", "content": PICTURE}
FILE: dict[str, Any] = {"description": "the picture", "content": ENCODED}
ZIP: dict[str, Any] = {"description": "the archive", "content": {"application/zip": BINARY}}
DATA = "JSON: position; index, seed, image; log_likelihood, patch, box (left, top, right, bottom); seconds; error"
KINDS = ("queued", "structure", "completion", "done", "error", "cancelled")
EVENT = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "its number, for the header Last-Event-ID"},
        "event": {"type": "string", "enum": list(KINDS)},
        "data": {
            "type": "string",
            "description": DATA,
        },
    },
}
EVENTS: dict[str, Any] = {"description": "the events", "content": {"text/event-stream": {"schema": EVENT}}}
ONE_OR_MANY: dict[str, Any] = {
    "description": "one completion as PNG, or several as JSON",
    "headers": SEEDED,
    "content": {**PICTURE, "application/json": {}},
    "model": Answer,
}
MASK = "optional: white, or paint on a transparent layer, is the hole; without it, the photo's transparent part"


def body(fields: type[Fields], **files: str) -> dict[str, Any]:
    """Return OpenAPI's description of a request with fields and files, as a form or as JSON.

    `files` are the names and descriptions of files; one whose description begins with "optional" may be left out.
    """
    schema = fields.model_json_schema()
    needed = [name for name, text in files.items() if not text.startswith("optional")] + schema.get("required", [])

    def with_files(own: dict[str, Any], file: dict[str, Any]) -> dict[str, Any]:
        pictures = {name: {"type": "string", **file, "description": text} for name, text in files.items()}
        return {"schema": {**schema, "properties": {**pictures, **own}, "required": needed}}

    own = schema["properties"]
    content = {
        "multipart/form-data": with_files({k: never_null(v) for k, v in own.items()}, {"format": "binary"}),
        "application/json": with_files(own, {"contentEncoding": "base64", "minLength": 1}),
    }
    return {"requestBody": {"required": True, "content": content}}


def never_null(field: dict[str, Any]) -> dict[str, Any]:
    """Return a field as it is in a form, where there is no null."""
    found = next((choice for choice in field.get("anyOf", []) if choice.get("type") != "null"), {})
    return {**{k: v for k, v in field.items() if k not in ("anyOf", "default")}, **found} if found else field
