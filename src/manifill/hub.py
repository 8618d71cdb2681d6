"""Models on the Hugging Face hub: fetched by name, and published with their card (the extra [hub]).

A model is found by its name without loading PyTorch.
"""

from __future__ import annotations

import re
import sys
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

from manifill.config import NETWORKS, ModelError

CARD = "README.md"
FILES = [*(f"{name}.safetensors" for name in NETWORKS), CARD]
NEEDED = ("vqvae", "structure", "texture")
UNNAMED = "unknown"  # the licence in a card until somebody names it
PLACE = "USER/REPO"  # stands in a card for the repository that it will lie in
LOGIN = "log in with `hf auth login` or set HF_TOKEN"
PATIENCE = 10  # seconds to wait for the hub's first answer
REVISION_PART = re.compile(r"(?!.*\.\.)\w[\w.-]*(?<!\.)", re.ASCII)  # as git's names: it is a path in the cache
NAME = re.compile(r"(hf://)?([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w][\w./-]*))?", re.ASCII)


def parsed(name: str) -> tuple[str, str | None]:
    """Return (repository, revision) of "user/repo" or "user/repo@revision". Raises ModelError."""
    found = NAME.fullmatch(name)
    if found is None or (found[3] and not all(REVISION_PART.fullmatch(part) for part in found[3].split("/"))):
        raise ModelError(f"{name}: not the name of a repository; expected USER/REPO or USER/REPO@REVISION")
    return found[2], found[3]


def title(name: str) -> str:
    """Return a short name of a model on the hub that can be part of a file's name."""
    repository, revision = parsed(name)
    return repository.partition("/")[2] + (f"@{revision.replace('/', '-')}" if revision else "")


def download(name: str) -> Path:
    """Return a folder with the model "user/repo" or "user/repo@revision" (a branch, tag or commit) of the hub.

    What the hub library has in its cache is not fetched again, and serves, with a line on stderr, when the hub cannot
    be reached. Raises ModelError when there is no such model, or it is none of ours.
    """
    repository, revision = parsed(name)
    hub, api = library(name)
    if hub.constants.HF_HUB_OFFLINE:
        return cached(api, name, "is not asked, HF_HUB_OFFLINE is set")
    print(f"manifill: asking {api.endpoint} for {name}", file=sys.stderr)
    try:
        info = api.model_info(repository, revision=revision, timeout=PATIENCE)
    except Exception as error:
        if answered(error):
            raise ModelError(f"{name}: {in_words(hub, error, api.endpoint)}") from error
        return cached(api, name, f"cannot be reached ({short(error)})")
    listed = {file.rfilename for file in info.siblings or []}
    missing = [f"{n}.safetensors" for n in NEEDED if f"{n}.safetensors" not in listed]
    if missing:
        raise ModelError(f"{name}: not a manifill model, nothing was fetched; it lacks {', '.join(missing)}")
    try:
        folder = Path(api.snapshot_download(repository, revision=revision, allow_patterns=FILES))
    except Exception as error:
        raise ModelError(f"{name}: {in_words(hub, error, api.endpoint)}") from error
    return checked(folder, name)


def cached(api: Any, name: str, why: str) -> Path:
    """Return the folder that an earlier download of this model left, and say `why`. Raises ModelError without one."""
    repository, revision = parsed(name)
    try:
        folder = Path(api.snapshot_download(repository, revision=revision, allow_patterns=FILES, local_files_only=True))
        for needed in NEEDED:  # libraries before 2.0 return the part that an interrupted download left
            (folder / f"{needed}.safetensors").stat()
    except Exception as error:
        raise ModelError(f"{name}: {api.endpoint} {why}, and the cache does not hold the whole model") from error
    checked(folder, name)
    print(f"manifill: {api.endpoint} {why}; {name} is taken from the cache, commit {folder.name[:8]}", file=sys.stderr)
    return folder


def checked(folder: Path, name: str) -> Path:
    """Return a downloaded folder whose files say of themselves that they are one manifill model, else ModelError."""
    from manifill.networks.checkpoint import present, read_header

    try:
        books = {read_header(folder, n).codebook for n in dict.fromkeys([*NEEDED, *present(folder)])}
    except ModelError as error:
        raise ModelError(f"{name}: not a manifill model ({error})") from error
    if len(books) > 1:
        raise ModelError(f"{name}: its networks belong to different codebooks ({', '.join(sorted(books))})")
    return folder


def push_to_hub(
    folder: Path | str, name: str, *, private: bool = False, license: str | None = None, message: str | None = None
) -> str:
    """Publish a model folder as "user/repo" on the hub, in one commit, and return its address.

    Only the networks and the card are sent; the folder stays as it is. The published card names the repository and,
    where given, `license` (as the hub spells it: mit, cc-by-nc-4.0, other ...). A repository that does not exist is
    made; network files of an earlier model in it go. Raises ModelError when a network does not load, the card is
    missing, names other weights or no licence, or the hub refuses.
    """
    from manifill.networks.checkpoint import load_networks, model_hash

    folder = Path(folder)
    repository, revision = parsed(name)
    if revision is not None:
        raise ModelError(f"{name}: models are published on the main branch; expected USER/REPO")
    networks = load_networks(folder)
    card = published(folder, repository, license)
    hub, api = library(name)
    if not hub.get_token():
        raise ModelError(f"{name}: nothing was published, no token is set; {LOGIN}")
    try:
        api.create_repo(repository, private=private or None, exist_ok=True)
        info = api.model_info(repository, timeout=PATIENCE)
        if private and not info.private:
            raise ModelError(f"{name}: exists and is public; nothing was published, as --private asked for")
        sent = {f"{n}.safetensors": folder / f"{n}.safetensors" for n in networks} | {CARD: card.encode()}
        stale = [f.rfilename for f in info.siblings or [] if f.rfilename in FILES and f.rfilename not in sent]
        operations = [hub.CommitOperationAdd(path, content) for path, content in sent.items()]
        operations += [hub.CommitOperationDelete(path) for path in stale]
        said = message or f"Weights {model_hash(folder)}"
        api.create_commit(repository, operations, commit_message=said, parent_commit=info.sha)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{name}: nothing was published, {refused(error, api.endpoint)}") from error
    return f"{api.endpoint}/{repository}"


def published(folder: Path, repository: str, license: str | None) -> str:
    """Return the text of a folder's card as `repository` will show it. Raises ModelError for one that may not go."""
    from manifill.networks.checkpoint import is_named, model_hash

    path = folder / CARD
    if not path.is_file():
        raise ModelError(f"{path}: missing; a model is published with a card that says what it is and its licence")
    card = path.read_text(encoding="utf-8")
    named = re.findall(r"\bWeights ([0-9a-f]{16})\b", card)
    if named and not any(is_named(folder, name) for name in named):
        raise ModelError(f"{path}: describes the weights {named[0]}, but those beside it are {model_hash(folder)}")
    card = card if license is None else licensed(card, license)
    if licence(card) in (None, UNNAMED):
        raise ModelError(f"{path}: names no licence; write one into its line `license:`, or give --license")
    return card.replace(PLACE, repository)


def front(card: str) -> str:
    """Return the lines between the two `---` at the top of a card, empty without them."""
    found = re.match(r"---\n(.*?\n)---(\n|$)", card, re.DOTALL)
    return found[1] if found else ""


def licence(card: str) -> str | None:
    """Return the licence in the head of a card, None without one."""
    found = re.search(r"^license:[ \t]*['\"]?([^'\"\s#]+)", front(card), re.MULTILINE)
    return found[1] if found else None


def licensed(card: str, license: str) -> str:
    """Return a card whose head names this licence. Raises ModelError for what cannot be a licence's name."""
    if re.fullmatch(r"[a-z0-9][a-z0-9.-]*", license) is None or license == UNNAMED:
        raise ModelError(f"{license!r}: not a licence as the hub spells it; expected mit, cc-by-nc-4.0, other ...")
    head, line = front(card), f"license: {license}\n"
    if not head:
        return f"---\n{line}---\n\n{card}"
    rest = re.sub(r"^license:.*\n", "", head, flags=re.MULTILINE)
    return card.replace(f"---\n{head}", f"---\n{line}{rest}", 1)


def library(name: str) -> tuple[ModuleType, Any]:
    """Return the hub library and what speaks to the hub by its own settings (HF_ENDPOINT, HF_TOKEN).

    Raises ModelError, naming the extra, where it is missing.
    """
    from manifill import __version__

    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise ModelError(
            f"{name}: names a model on the hub (there is no such folder here), which needs "
            "huggingface_hub: pip install 'manifill[hub]'"
        ) from error
    return huggingface_hub, huggingface_hub.HfApi(library_name="manifill", library_version=__version__)


def answered(error: Exception) -> bool:
    """Say whether an error is the hub's own answer to what was asked, rather than none or that of a busy server."""
    code = status(error)
    return isinstance(error, ValueError) if code is None else code < 500 and code != 429


def status(error: BaseException) -> int | None:
    """Return the status of the answer that an error stands for, None where there was no answer."""
    return getattr(getattr(error, "response", None), "status_code", None)


def in_words(hub: ModuleType, error: BaseException, host: str) -> str:
    """Return in words, after the model's name, why it could not be fetched."""
    token = "the token in use does not reach it" if hub.get_token() else f"no token is set, {LOGIN}"
    if isinstance(error, hub.errors.GatedRepoError):
        return f"gated; accept its terms on {host} and log in ({token})"
    if isinstance(error, hub.errors.RevisionNotFoundError):
        return f"{host} has the model, but no such revision; expected a branch, a tag or a commit"
    if status(error) in (401, 403, 404):
        return f"no folder here, and no model on {host}, or a private one ({token})"
    if isinstance(error, hub.errors.LocalEntryNotFoundError):
        return f"{host} could not be reached to the end ({short(error.__cause__ or error)}); try again"
    return f"could not be fetched from {host} ({short(error)})"


def refused(error: BaseException, host: str) -> str:
    """Return in words, after the model's name, why it could not be published."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__  # what went wrong in one of several uploads
    if status(error) in (401, 403, 404):
        return f"{host} does not let the token in use write there ({short(error)})"
    if status(error) in (409, 412):
        return f"somebody else changed the repository meanwhile ({short(error)}); try again"
    return f"the upload to {host} failed ({short(error)})"


def short(error: BaseException) -> str:
    """Return an error in one line: its type and what it says, or what the hub said."""
    said = " ".join(str(getattr(error, "server_message", None) or error).split())
    return f"{status(error) or type(error).__name__}: {said[:200]}" if said else type(error).__name__


def bundled() -> list[str]:
    """Return the names of the models that come with the package."""
    folder = resources.files("manifill") / "pretrained"
    return sorted(f.name for f in folder.iterdir() if (f / "vqvae.safetensors").is_file()) if folder.is_dir() else []


def find_model(name_or_folder: str | Path) -> Path:
    """Return the folder of a bundled model, the folder itself, or a downloaded one: tried in this order.

    Only a str of the form "user/repo" or "user/repo@revision" is asked of the hub, with a line on stderr, and only
    where there is no folder `user` here; "hf://user/repo" always is. Raises ModelError when there is no such model.
    """
    if str(name_or_folder) in bundled():
        return Path(str(resources.files("manifill") / "pretrained" / str(name_or_folder)))
    if from_hub(name_or_folder):
        return download(str(name_or_folder))
    if not Path(name_or_folder).is_dir():
        raise ModelError(f"{name_or_folder}: no such model folder, nor a bundled model ({', '.join(bundled())})")
    return Path(name_or_folder)


def from_hub(name_or_folder: str | Path) -> bool:
    """Say whether a model's name means one on the hub rather than a folder here.

    "hf://user/repo" always does; "user/repo" and "user/repo@revision" do where there is no folder `user`, so that a
    mistyped folder beside others is not asked for elsewhere.
    """
    found = NAME.fullmatch(name_or_folder) if isinstance(name_or_folder, str) else None
    return found is not None and (found[1] is not None or not Path(found[2].partition("/")[0]).is_dir())
