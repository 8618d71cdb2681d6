"""The application: routes and errors."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from manifill import __version__
from manifill.completion import Choice
from manifill.inpainter import Completions, Inpainter
from manifill.photos.encode import Format
from manifill.sampling.native import sampler_here
from manifill.web import docs, files, results, schemas
from manifill.web.limits import Limits, RefusedError
from manifill.web.requests import open_picture
from manifill.web.schemas import LATER, UPLOAD, failures
from manifill.web.security import Access, Guard, refusal
from manifill.web.server import Server
from manifill.web.stream import Events


def server(request: Request) -> Server:
    """Return what all requests share."""
    return request.app.state.server


Here = Annotated[Server, Depends(server)]
api = APIRouter(prefix="/api/v1")
site = APIRouter()


@api.get("/model", response_description="the model", responses=failures())
async def model(here: Here) -> schemas.ModelCard:
    """The model and what this server takes."""
    inpainter, limits = here.inpainter, here.limits
    networks = (inpainter.vqvae, inpainter.structure, inpainter.texture)
    config = inpainter.structure.config
    return schemas.ModelCard(
        name=inpainter.name,
        weights=inpainter.weights,
        image_size=inpainter.image_size,
        parameters=sum(p.numel() for network in networks for p in network.parameters()),
        codebook_size=config.codebook_size,
        temperature=config.temperature,
        top_p=config.top_p,
        native=sampler_here(),
        choices=list(get_args(Choice)),
        limits=schemas.Taken(
            pixels=limits.pixels, samples=limits.samples, queue=limits.queue, body_bytes=limits.body_bytes
        ),
    )


@api.get("/samples", response_description="the samples", responses=failures())
async def samples(here: Here) -> list[schemas.Sample]:
    """Photos and masks to try."""
    return [s for s in files.SAMPLES if all(path.removeprefix("/static/") in here.files for path in (s.photo, s.mask))]


@api.post(
    "/inpaint",
    response_class=Response,
    responses={200: schemas.ONE_OR_MANY, **UPLOAD},
    openapi_extra=schemas.body(schemas.Settings, photo="the photo", mask=schemas.MASK),
)
async def inpaint(here: Here, request: Request) -> Response:
    """Complete a photo and wait for it: one completion is a PNG, several are JSON. Leaving cancels."""
    job = await here.asked(request)
    await here.finished(job, request)
    found = results.ready(job)
    pictures = [await here.codec.completion(job, c.index) for c in found]
    if len(found) == 1:
        headers = {"X-Seed": str(found[0].seed), "X-Warnings": json.dumps(list(job.completions.notes))}
        return Response(pictures[0], media_type="image/png", headers=headers)
    drawn = [
        schemas.Drawn(
            index=c.index, seed=c.seed, log_likelihood=c.log_likelihood, image=base64.b64encode(data).decode()
        )
        for c, data in zip(found, pictures, strict=True)
    ]
    return JSONResponse(schemas.Answer(completions=drawn, warnings=list(job.completions.notes)).model_dump())


@api.post(
    "/jobs",
    status_code=202,
    responses=UPLOAD,
    response_model=schemas.Accepted,
    response_description="where to listen",
    openapi_extra=schemas.body(schemas.Settings, photo="the photo", mask=schemas.MASK),
)
async def start(here: Here, request: Request) -> Response:
    """Have a photo completed and listen to what happens; a job whose only listener leaves is cancelled."""
    return here.accepted(await here.asked(request))


@api.post(
    "/hole",
    response_class=Response,
    responses={200: {**schemas.PNG, "headers": schemas.WARNED}, **UPLOAD},
    openapi_extra=schemas.body(schemas.Hole, photo="the photo", mask=schemas.MASK),
)
async def hole(here: Here, request: Request) -> Response:
    """What is taken as the hole: a PNG of the photo's size, upright, white where it is filled."""
    body = await here.uploads.read(request, "photo", "mask")
    asked = body.checked(schemas.Hole)
    found, notes = await here.hole(body.file("photo"), body.files.get("mask"), asked.invert_mask)
    return Response(found, media_type="image/png", headers={"X-Warnings": json.dumps(notes)})


@api.get("/jobs/{id}/events", response_class=Response, responses={200: schemas.EVENTS, **LATER})
async def events(here: Here, request: Request, id: str) -> Response:
    """Server-sent events from the first on: queued, structure, completion, and then done, error or cancelled."""
    job, last = here.jobs.find(id), request.headers.get("last-event-id", "")
    first = int(last) + 1 if last.isascii() and last.isdigit() and len(last) < 9 else 0
    if job.ended.is_set() and first >= len(job.events):
        return Response(status_code=204)  # everything has been told: a browser's EventSource then asks no more
    return Events(here.jobs, job, first)


@api.get("/jobs/{id}/structures/{index}.png", response_class=Response, responses={200: schemas.PNG, **LATER})
async def structure(here: Here, id: str, index: int) -> Response:
    """What has been drawn for a completion, before it is painted, at the model's size."""
    job = here.jobs.find(id)
    return Response(await here.codec.structure(job, index), media_type="image/png")


@api.get("/jobs/{id}/completions/{index}.png", response_class=Response, responses={200: schemas.PNG, **LATER})
async def completion(here: Here, id: str, index: int) -> Response:
    """One completed photo."""
    job = here.jobs.find(id)
    data, seed = await here.codec.completion(job, index), job.results[index].seed
    return Response(data, media_type="image/png", headers={"X-Seed": str(seed)})


@api.get("/jobs/{id}/completions/{index}.{format}", response_class=Response, responses={200: schemas.FILE, **LATER})
async def encoded(here: Here, id: str, index: int, format: Format) -> Response:
    """One completed photo in another format; but for tiff and webp, this changes all of its pixels a little."""
    job = here.jobs.find(id)
    return Response(await here.codec.encoded(job, index, format), media_type=f"image/{format}")


@api.get("/jobs/{id}/completions/{index}/patch.png", response_class=Response, responses={200: schemas.PNG, **LATER})
async def patch(here: Here, id: str, index: int) -> Response:
    """The part of a completion that is new, which lies in the photo where the event's `box` says."""
    return Response(await here.codec.patch(here.jobs.find(id), index), media_type="image/png")


@api.get("/jobs/{id}/grid.png", response_class=Response, responses={200: schemas.PNG, **LATER})
async def grid(here: Here, id: str) -> Response:
    """The photo, its hole and all completions that are ready, side by side."""
    return Response(await here.codec.run(results.grid, here.jobs.find(id)), media_type="image/png")


@api.get("/jobs/{id}/all.zip", response_class=Response, responses={200: schemas.ZIP, **LATER})
async def everything(here: Here, id: str) -> Response:
    """All completions that are ready, and manifest.jsonl, which says how each was made."""
    job = here.jobs.find(id)
    found = results.ready(job)
    manifest = await here.codec.run(results.manifest, job, found)
    pictures = [(results.archived(c), await here.codec.completion(job, c.index)) for c in found]
    headers = {"content-disposition": 'attachment; filename="completions.zip"'}
    return StreamingResponse(results.archive(manifest, pictures), media_type="application/zip", headers=headers)


@api.delete(
    "/jobs/{id}",
    status_code=204,
    response_class=Response,
    response_model=None,
    response_description="it is forgotten",
    responses=failures(404),
)
async def cancel(here: Here, id: str) -> Response:
    """Cancel a job and forget everything that belongs to it."""
    here.jobs.forget(here.jobs.find(id).id)
    return Response(status_code=204)


@api.post(
    "/jobs/{id}/redraw",
    status_code=202,
    responses=UPLOAD,
    response_model=schemas.Accepted,
    response_description="where to listen",
    openapi_extra=schemas.body(schemas.Redraw, part="a mask of what is drawn anew, white, within the hole"),
)
async def redraw(here: Here, request: Request, id: str) -> Response:
    """Draw a part of a completion's hole anew and keep the rest: another job."""
    here.jobs.check_line()
    body = await here.uploads.read(request, "part")
    asked, data = body.checked(schemas.Redraw), body.file("part")
    here.check_samples(asked.num_samples)
    completion = results.find(here.jobs.find(id), asked.index)

    def again() -> Completions:
        part = open_picture(data, "part", here.limits)
        return here.inpainter.redraw(completion, part, num_samples=asked.num_samples, seed=asked.seed)

    return here.accepted(await here.prepared(request, again))


@api.post(
    "/jobs/{id}/near",
    status_code=202,
    responses=UPLOAD,
    response_model=schemas.Accepted,
    response_description="where to listen",
    openapi_extra=schemas.body(schemas.Near),
)
async def near(here: Here, request: Request, id: str) -> Response:
    """Draw completions like one of a job's: another job."""
    here.jobs.check_line()
    asked = (await here.uploads.read(request)).checked(schemas.Near)
    here.check_samples(asked.num_samples)
    completion = results.find(here.jobs.find(id), asked.index)
    return here.accepted(
        await here.prepared(
            request, here.inpainter.near, completion, asked.amount, num_samples=asked.num_samples, seed=asked.seed
        )
    )


@site.get("/health", response_description="it lives", responses=failures())
async def health() -> schemas.Health:
    """A sign of life."""
    return schemas.Health()


@site.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
async def page(here: Here, request: Request) -> Response:
    """The page."""
    return files.find(here.files, "index.html").answer(request.headers.get("if-none-match"))


@site.api_route("/static/{name:path}", methods=["GET", "HEAD"], include_in_schema=False)
async def static(here: Here, request: Request, name: str) -> Response:
    """A file of the page."""
    return files.find(here.files, name).answer(request.headers.get("if-none-match"))


@site.get("/docs", include_in_schema=False)
async def documentation(request: Request) -> HTMLResponse:
    """The API, described for people."""
    return HTMLResponse(docs.page(request.app.openapi(), str(request.base_url)))


@site.get("/docs/style.css", include_in_schema=False)
async def style() -> Response:
    """How the description looks."""
    return Response(docs.STYLE, media_type="text/css")


async def refused(_: Request, error: Exception) -> Response:
    """Answer a refusal."""
    assert isinstance(error, RefusedError)
    return refusal(error.status, error.words)


async def unknown(request: Request, error: Exception) -> Response:
    """Answer a path or method that does not exist."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        return refusal(
            405, f"{request.method} is not possible here; possible is {headers.get('Allow', 'GET')}", headers
        )
    return refusal(error.status_code, "no such page" if error.status_code == 404 else str(error.detail), headers)


async def invalid(_: Request, error: Exception) -> Response:
    """Answer an address that does not fit."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return refusal(422, f"{first['loc'][-1]} in the address: {first['msg'][0].lower()}{first['msg'][1:]}")


async def failed(_: Request, __: Exception) -> Response:
    """Answer what nobody thought of; the guard logs it."""
    return refusal(500, "the server failed; its log says why")


@asynccontextmanager
async def working(app: FastAPI) -> AsyncIterator[None]:
    """Ready the model; afterwards cancel what still runs."""
    server: Server = app.state.server
    await server.jobs.prepare(server.example())
    try:
        yield
    finally:
        server.jobs.close()
        await asyncio.to_thread(server.jobs.threads.shutdown, cancel_futures=True)
        server.codec.pool.shutdown(cancel_futures=True)


def create_app(inpainter: Inpainter, limits: Limits, access: Access, root_path: str = "") -> ASGIApp:
    """Return the application for one model; `root_path` is where a proxy shows it, "/fill"."""
    handlers: dict[Any, Any] = {
        RefusedError: refused,
        HTTPException: unknown,
        RequestValidationError: invalid,
        Exception: failed,
    }
    app = FastAPI(
        title="manifill",
        version=__version__,
        summary="Many ways to fill a hole",
        docs_url=None,
        redoc_url=None,
        description="Give it a photo and a mask; it gives back many different completions.",
        lifespan=working,
        exception_handlers=handlers,
        redirect_slashes=False,
    )
    app.state.server = Server(inpainter, limits, files.read_all())
    app.include_router(api)
    app.include_router(site)
    return Guard(app, access, root_path)
