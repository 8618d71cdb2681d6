"""The application: routes and errors."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from os import stat_result
from pathlib import Path
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.staticfiles import PathLike, StaticFiles
from starlette.templating import Jinja2Templates
from starlette.types import ASGIApp, Scope

from manifill import __version__
from manifill.completion import Choice
from manifill.inpainter import Completions, Inpainter
from manifill.photos.encode import Format
from manifill.sampling.native import sampler_here
from manifill.web import results, schemas
from manifill.web.jobs import Job, Jobs
from manifill.web.limits import Limits, RefusedError
from manifill.web.requests import open_upload
from manifill.web.schemas import LATER, UPLOAD, failures
from manifill.web.security import Access, Guard, refusal
from manifill.web.server import Server


def server(request: Request) -> Server:
    """Return what all requests share."""
    return request.app.state.server


class Files(StaticFiles):
    """The page's files, each read at once: what goes to a slow client keeps no file open."""

    def file_response(
        self, full_path: PathLike, stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        found = super().file_response(full_path, stat_result, scope, status_code)
        if isinstance(found, FileResponse):
            own = {"etag": found.headers["etag"]}
            found = Response(Path(full_path).read_bytes(), media_type=found.media_type, headers=own)
        found.headers["cache-control"] = "no-cache"
        return found


Here = Annotated[Server, Depends(server)]
HERE = Path(__file__).parent
STATIC, TEMPLATES = Files(directory=HERE / "static"), Jinja2Templates(HERE / "templates")
SAMPLES = TypeAdapter(list[schemas.Sample]).validate_json((HERE / "static/samples/samples.json").read_bytes())
PICTURE: dict[str, Any] = {"response_class": Response, "responses": {200: schemas.PNG, **LATER}}
JOB: dict[str, Any] = {"status_code": 202, "responses": UPLOAD, "response_description": "where to listen"}
api = APIRouter(prefix="/api/v1")
site = APIRouter()


@api.get("/model", response_description="the model", responses=failures())
async def model(here: Here) -> schemas.Served:
    """The models and what this server takes."""
    cards, limits = [card(inpainter) for inpainter in here.inpainters], here.limits
    return schemas.Served(
        **dict(cards[0]),
        models=cards,
        native=sampler_here(),
        choices=list(get_args(Choice)),
        limits=schemas.Taken.model_validate(limits),
    )


def card(inpainter: Inpainter) -> schemas.ModelCard:
    """Describe a model; of one that chooses from others, sizes and sampling options are those of the first of them."""
    members, config = inpainter.members, inpainter.members[0].structure.config
    networks = [network for m in members for network in (m.vqvae, m.structure, m.texture)]
    return schemas.ModelCard(
        name=inpainter.name,
        weights="+".join(m.weights for m in members),
        knows=" and ".join(m.domain.subject for m in members if m.domain) or None,
        image_size=inpainter.image_size,
        parameters=sum(p.numel() for network in networks for p in network.parameters()),
        codebook_size=config.codebook_size,
        temperature=config.temperature,
        top_p=config.top_p,
    )


@api.get("/samples", response_description="the samples", responses=failures())
async def samples() -> list[schemas.Sample]:
    """Photos and masks to try."""
    return SAMPLES


@api.post(
    "/inpaint",
    response_class=Response,
    responses={200: schemas.ONE_OR_MANY, **UPLOAD},
    openapi_extra=schemas.body(schemas.Settings),
)
async def inpaint(here: Here, request: Request) -> Response:
    """Complete a photo and wait for it: one completion is a PNG, several are JSON. Leaving cancels."""
    job = await here.asked(request)
    await here.finished(job, request)
    found, warnings = results.ready(job), list(job.completions.notes)
    pictures = [await here.run(results.completed, job, c.index) for c in found]
    if len(found) == 1:
        said = {"X-Models": json.dumps(job.models), "X-Warnings": json.dumps(warnings)}
        headers = {"X-Seed": str(found[0].seed), **said}
        return Response(pictures[0], media_type="image/png", headers=headers)
    drawn = [
        schemas.Drawn(
            index=c.index, seed=c.seed, log_likelihood=c.log_likelihood, image=base64.b64encode(data).decode()
        )
        for c, data in zip(found, pictures, strict=True)
    ]
    return JSONResponse(schemas.Answer(completions=drawn, models=job.models, warnings=warnings).model_dump())


@api.post("/jobs", **JOB, openapi_extra=schemas.body(schemas.Settings))
async def start(here: Here, request: Request) -> schemas.Accepted:
    """Have a photo completed and listen to what happens; a job whose only listener leaves is cancelled."""
    return here.accepted(await here.asked(request))


@api.post(
    "/hole",
    response_class=Response,
    responses={200: {**schemas.PNG, "headers": schemas.WARNED}, **UPLOAD},
    openapi_extra=schemas.body(schemas.Hole),
)
async def hole(here: Here, request: Request) -> Response:
    """What is taken as the hole: a PNG of the photo's size, upright, white where it is filled."""
    asked = await here.uploads.read(request, schemas.Hole)
    found, notes = await here.made(request, (asked.photo, asked.mask), here.hole, asked)
    return Response(found, media_type="image/png", headers={"X-Warnings": json.dumps(notes)})


@api.get("/jobs/{id}/events", response_class=Response, responses={200: schemas.EVENTS, **LATER})
async def events(here: Here, request: Request, id: str) -> Response:
    """Server-sent events from the first on: queued, structure, completion, and then done, error or cancelled."""
    job, last = here.jobs.find(id), request.headers.get("last-event-id", "")
    first = int(last) + 1 if last.isascii() and last.isdigit() and len(last) < 9 else 0
    if job.ended.is_set() and first >= len(job.events):
        return Response(status_code=204)  # everything has been told: a browser's EventSource then asks no more
    headers = {"x-accel-buffering": "no"}
    return StreamingResponse(told(here.jobs, job, first), media_type="text/event-stream", headers=headers)


async def told(jobs: Jobs, job: Job, first: int) -> AsyncIterator[str]:
    """Yield a job's events as text/event-stream, from number `first` on; whoever iterates is one of its listeners.

    Comments keep a silent connection open.
    """
    with jobs.listening(job):
        yield "retry: 1000\n\n"
        async for number, kind, data in job.listen(first):
            yield f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n" if kind else ": waiting\n\n"


@api.get("/jobs/{id}/structures/{index}.png", **PICTURE)
async def structure(here: Here, id: str, index: int) -> Response:
    """What has been drawn for a completion, before it is painted, at the model's size."""
    return Response(await here.run(results.structure_png, here.jobs.find(id), index), media_type="image/png")


@api.get("/jobs/{id}/completions/{index}.png", **PICTURE)
async def completion(here: Here, id: str, index: int) -> Response:
    """One completed photo."""
    job = here.jobs.find(id)
    headers = {"X-Seed": str(results.find(job, index).seed)}
    return Response(await here.run(results.completed, job, index), media_type="image/png", headers=headers)


@api.get("/jobs/{id}/completions/{index}.{format}", response_class=Response, responses={200: schemas.COPY, **LATER})
async def encoded(here: Here, id: str, index: int, format: Format) -> Response:
    """One completed photo in another format; but for tiff and webp, this changes all of its pixels a little."""
    data, notes = await here.run(results.encoded, here.jobs.find(id), index, format)
    return Response(data, media_type=f"image/{format}", headers={"X-Warnings": json.dumps(notes)})


@api.get("/jobs/{id}/completions/{index}/patch.png", **PICTURE)
async def patch(here: Here, id: str, index: int) -> Response:
    """The part of a completion that is new, which lies in the photo where the event's `box` says."""
    return Response(await here.run(results.patch, here.jobs.find(id), index), media_type="image/png")


@api.get("/jobs/{id}/grid.png", **PICTURE)
async def grid(here: Here, id: str) -> Response:
    """The photo, its hole and all completions that are ready, side by side."""
    return Response(await here.run(results.grid_png, here.jobs.find(id)), media_type="image/png")


@api.get("/jobs/{id}/all.zip", response_class=Response, responses={200: schemas.ZIP, **LATER})
async def everything(here: Here, id: str) -> Response:
    """All completions that are ready, and manifest.jsonl, which says how each was made."""
    headers = {"content-disposition": 'attachment; filename="completions.zip"'}
    data = await here.run(results.archive, here.jobs.find(id))
    return Response(data, media_type="application/zip", headers=headers)


@api.delete("/jobs/{id}", status_code=204, response_description="it is forgotten", responses=failures(404))
async def cancel(here: Here, id: str) -> None:
    """Cancel a job and forget everything that belongs to it."""
    here.jobs.forget(here.jobs.find(id).id)


@api.post("/jobs/{id}/redraw", **JOB, openapi_extra=schemas.body(schemas.Redraw))
async def redraw(here: Here, request: Request, id: str) -> schemas.Accepted:
    """Draw a part of a completion's hole anew and keep the rest: another job."""
    asked, completion, inpainter = await here.about_completion(request, id, schemas.Redraw)

    def again() -> Completions:
        part = open_upload(asked.part, "part", here.limits)
        return inpainter.redraw(completion, part, num_samples=asked.num_samples, seed=asked.seed)

    return here.accepted(Job(await here.made(request, (asked.part,), again)))


@api.post("/jobs/{id}/near", **JOB, openapi_extra=schemas.body(schemas.Near))
async def near(here: Here, request: Request, id: str) -> schemas.Accepted:
    """Draw completions like one of a job's: another job."""
    asked, completion, inpainter = await here.about_completion(request, id, schemas.Near)
    near = partial(inpainter.near, completion, asked.amount, num_samples=asked.num_samples, seed=asked.seed)
    return here.accepted(Job(await here.made(request, (), near)))


@site.get("/health", response_description="it lives", responses=failures())
async def health() -> schemas.Health:
    """A sign of life."""
    return schemas.Health()


@site.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
async def page(request: Request) -> Response:
    """The page."""
    return await STATIC.get_response("index.html", request.scope)


@site.get("/docs", include_in_schema=False)
async def documentation(request: Request) -> Response:
    """The API, described for people."""
    found = {"api": request.app.openapi(), "address": str(request.base_url)}
    return TEMPLATES.TemplateResponse(request, "docs.html", found)


@site.get("/docs/style.css", include_in_schema=False)
async def style() -> Response:
    """How the description looks."""
    return Response((HERE / "templates" / "docs.css").read_bytes(), media_type="text/css")


async def refused(request: Request, error: Exception) -> Response:
    """Answer a refusal, a path or method that does not exist, or an address that does not fit, in words."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return refusal(422, f"{first['loc'][-1]} in the address: {first['msg'][0].lower()}{first['msg'][1:]}")
    assert isinstance(error, HTTPException)
    words, headers = error.detail, dict(error.headers or {})
    if not isinstance(error, RefusedError):
        possible = f"{request.method} is not possible here; possible is {headers.get('Allow', 'GET')}"
        words = {404: "no such page", 405: possible}.get(error.status_code, words)
    return refusal(error.status_code, words, headers)


async def failed(_: Request, __: Exception) -> Response:
    """Answer what nobody thought of; the guard logs it."""
    return refusal(500, "the server failed; its log says why")


@asynccontextmanager
async def working(app: FastAPI) -> AsyncIterator[None]:
    """Ready the model; afterwards cancel what still runs."""
    jobs = app.state.server.jobs
    await jobs.prepare(app.state.server.examples())
    try:
        yield
    finally:
        jobs.close()
        await asyncio.to_thread(jobs.threads.shutdown, cancel_futures=True)


def create_app(inpainters: Sequence[Inpainter], limits: Limits, access: Access, root_path: str = "") -> ASGIApp:
    """Return the application for some models; `root_path` is where a proxy shows it, "/fill"."""
    app = FastAPI(
        title="manifill",
        version=__version__,
        summary="Many ways to fill a hole",
        docs_url=None,
        redoc_url=None,
        description="Give it a photo and a mask; it gives back many different completions.",
        lifespan=working,
        exception_handlers={HTTPException: refused, RequestValidationError: refused, Exception: failed},
        redirect_slashes=False,
    )
    app.state.server = Server(inpainters, limits)
    app.include_router(api)
    app.include_router(site)
    app.mount("/static", STATIC)
    return Guard(app, access, root_path)
