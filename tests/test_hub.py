"""The hub: what is pushed is what is loaded, on a stand-in of its interface; whatever goes wrong is said in words."""

from __future__ import annotations

import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import hub_stub
import numpy as np
import pytest
import torch
from hub_stub import TOKEN, Hub, only_here, point_at
from processes import in_one_process
from safetensors.torch import save_file

from manifill import Inpainter, ModelError, push_to_hub
from manifill.hub import CARD, PLACE, download, from_hub, title
from manifill.networks.checkpoint import load_texture, load_vqvae, model_hash, save_network

huggingface_hub = pytest.importorskip("huggingface_hub", "1.0", reason="needs the extra [hub]")
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the library's own upload
CARD_TEXT = f"---\nlicense: cc0-1.0\ntags:\n- inpainting\n---\n\n# A model\n\nWeights HASH.\nFrom {PLACE}.\n"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub on this machine, an empty cache, the token of the user `me`, and no way to any other host."""
    from huggingface_hub import constants

    with hub_stub.running() as hub:
        point_at(hub.url, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(socket, "getaddrinfo", only_here(socket.getaddrinfo))
        monkeypatch.setattr(time, "sleep", lambda seconds, sleep=time.sleep: sleep(min(seconds, 0.01)))
        monkeypatch.chdir(tmp_path)
        yield hub
        huggingface_hub.close_session()


@pytest.fixture
def folder(tmp_path: Path, reference_model: Path) -> Path:
    """A model folder with a card that may be published."""
    out = Path(shutil.copytree(reference_model, tmp_path / "model"))
    (out / CARD).write_text(CARD_TEXT.replace("HASH", model_hash(out)))
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def drawn(model: Inpainter, face: np.ndarray) -> list[bytes]:
    hole = np.zeros((128, 128), np.bool_)
    hole[40:80, 40:80] = True
    return [c.image.tobytes() for c in model(face, hole, num_samples=2, seed=3)]


def requests(hub: Hub, start: str) -> list[str]:
    return [request for request in hub.requests if request.startswith(start)]


def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the library at a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    point_at(address, monkeypatch)


def test_what_is_pushed_is_what_is_loaded(hub: Hub, folder: Path, face: np.ndarray, capsys) -> None:
    before = contents(folder)
    assert push_to_hub(folder, "me/faces") == f"{hub.url}/me/faces"
    assert contents(folder) == before
    repository = hub.repositories["me/faces"]
    assert repository.messages == ["initial commit", f"Weights {model_hash(folder)}"]
    assert not repository.private
    card = before[CARD].decode().replace(PLACE, "me/faces")
    assert repository.files == before | {CARD: card.encode(), hub_stub.SPECIAL: repository.files[hub_stub.SPECIAL]}
    model = Inpainter.from_pretrained("me/faces", "cpu")
    assert (model.name, model.weights) == ("faces", model_hash(folder))
    assert drawn(model, face) == drawn(Inpainter.from_pretrained(folder, "cpu"), face)
    assert f"manifill: asking {hub.url} for me/faces" in capsys.readouterr().err


def test_nothing_but_networks_and_the_card_is_sent_or_fetched(hub: Hub, folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    (folder / "other.safetensors").write_bytes(b"mine")
    push_to_hub(folder, "me/faces")
    assert not {"notes.txt", "other.safetensors"} & set(hub.repositories["me/faces"].files)
    hub.repositories["me/faces"].files["huge.safetensors"] = b"theirs"
    fetched, mine = set(contents(download("me/faces"))), set(contents(folder))
    assert fetched == mine - {"notes.txt", "other.safetensors"}


def test_the_cache_is_not_fetched_again(hub: Hub, folder: Path) -> None:
    push_to_hub(folder, "me/faces")
    first = download("me/faces")
    hub.requests.clear()
    assert download("hf://me/faces") == first
    assert requests(hub, "GET /me/faces/resolve") == []


def test_revisions(hub: Hub, folder: Path, tmp_path: Path) -> None:
    push_to_hub(folder, "me/faces")
    repository = hub.repositories["me/faces"]
    repository.names |= {"v1": repository.names["main"], "refs/pr/1": repository.names["main"]}
    old = repository.names["main"]
    codebook = load_vqvae(folder)[1].codebook
    texture, _ = load_texture(folder, codebook)
    torch.nn.init.zeros_(next(texture.parameters()))
    save_network(folder, "texture", texture, 64, codebook=codebook)
    (folder / CARD).write_text(CARD_TEXT.replace("HASH", model_hash(folder)))
    push_to_hub(folder, "me/faces")
    assert model_hash(download("me/faces")) == model_hash(folder) != model_hash(download("me/faces@v1"))
    assert download(f"me/faces@{old}") == download("me/faces@v1") == download("me/faces@refs/pr/1")
    assert title("me/faces@refs/pr/1") == "faces@refs-pr-1"
    with pytest.raises(ModelError, match=r"me/faces@v2: http.* has the model, but no such revision; expected a branch"):
        download("me/faces@v2")
    with pytest.raises(ModelError, match=r"me/faces@v1: models are published on the main branch"):
        push_to_hub(folder, "me/faces@v1")


def test_a_smaller_model_leaves_nothing_of_the_one_before(hub: Hub, folder: Path) -> None:
    push_to_hub(folder, "me/faces")
    hub.repositories["me/faces"].files["photo.png"] = b"theirs"
    (folder / "discriminator.safetensors").unlink()
    (folder / CARD).write_text(CARD_TEXT.replace("HASH", model_hash(folder)))
    push_to_hub(folder, "me/faces")
    files = hub.repositories["me/faces"].files
    assert "discriminator.safetensors" not in files
    assert "photo.png" in files
    assert len(hub.repositories["me/faces"].messages) == 3


@pytest.mark.parametrize("switch", ["unreachable", "offline mode", "broken"])
def test_without_a_connection_the_cache_serves_and_says_so(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys, switch: str
) -> None:
    push_to_hub(folder, "me/faces")
    found = download("me/faces")
    if switch == "unreachable":
        unreachable(monkeypatch)
    elif switch == "offline mode":
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    else:
        hub.refuse["GET /api"] = 503
    assert download("me/faces") == found
    said = capsys.readouterr().err
    assert ("is not asked, HF_HUB_OFFLINE is set" if switch == "offline mode" else "cannot be reached (") in said
    assert f"me/faces is taken from the cache, commit {found.name[:8]}" in said
    with pytest.raises(ModelError, match=r"me/others: http.*, and the cache does not hold the whole model"):
        download("me/others")


def test_private_and_gated(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push_to_hub(folder, "me/secret", private=True)
    assert hub.repositories["me/secret"].private
    hub.create("you/gated", contents(folder), gated=True)
    assert model_hash(download("me/secret")) == model_hash(download("you/gated")) == model_hash(folder)
    shutil.rmtree(huggingface_hub.constants.HF_HUB_CACHE)
    with pytest.raises(
        ModelError, match=r"me/none: no folder here, and no model on http.*, or a private one \(the token in use does"
    ):
        download("me/none")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(
        ModelError, match=r"me/secret: no folder here, and no model on http.*, or a private one \(no token is set, log"
    ):
        download("me/secret")
    with pytest.raises(ModelError, match=r"you/gated: gated; accept its terms on http.* and log in \(no token is set"):
        download("you/gated")


def test_private_is_not_published_where_all_can_see_it(hub: Hub, folder: Path) -> None:
    hub.create("me/open")
    with pytest.raises(ModelError, match="me/open: exists and is public; nothing was published"):
        push_to_hub(folder, "me/open", private=True)
    assert len(hub.repositories["me/open"].messages) == 1


def test_what_is_no_model_of_ours_is_refused(hub: Hub, folder: Path, tmp_path: Path) -> None:
    hub.create("you/language", {"model.safetensors": b"x" * 1000, "README.md": b"# A model"})
    with pytest.raises(ModelError, match=r"you/language: not a manifill model, nothing was fetched; it lacks vqvae"):
        download("you/language")
    assert requests(hub, "GET /you/language/resolve") == []
    save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors", {"format": "manifill-1", "network": "structure"})
    for number, fake in enumerate([b"<html>", (tmp_path / "x.safetensors").read_bytes()]):
        hub.create(f"you/{number}", contents(folder) | {"structure.safetensors": fake})
        with pytest.raises(ModelError, match=rf"you/{number}: not a manifill model \("):
            download(f"you/{number}")
    codebook = load_vqvae(folder)[1].codebook
    texture, _ = load_texture(folder, codebook)
    save_network(folder, "texture", texture, 64, codebook="0123456789abcdef")
    hub.create("you/mixed", contents(folder))
    with pytest.raises(ModelError, match=r"you/mixed: its networks belong to different codebooks"):
        download("you/mixed")


def test_an_interrupted_download_leaves_no_half_model(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push_to_hub(folder, "me/faces")
    hub.cut["texture.safetensors"] = 5000
    with pytest.raises(ModelError, match="me/faces: could not be fetched from http"):
        download("me/faces")
    with monkeypatch.context() as patched:
        unreachable(patched)
        with pytest.raises(ModelError, match=r"cannot be reached .*cache does not hold the whole model"):
            download("me/faces")
    hub.cut.clear()
    assert model_hash(download("me/faces")) == model_hash(folder)


@pytest.mark.parametrize("request_", ["PUT /store", "POST /api/models/me/faces/commit"])
def test_an_interrupted_upload_publishes_nothing(hub: Hub, folder: Path, request_: str) -> None:
    hub.refuse[request_] = 500
    with pytest.raises(ModelError, match=r"me/faces: nothing was published, the upload to http.* failed \(500: spoilt"):
        push_to_hub(folder, "me/faces")
    assert list(hub.repositories["me/faces"].files) == [hub_stub.SPECIAL]
    hub.refuse.clear()
    push_to_hub(folder, "me/faces")
    assert model_hash(download("me/faces")) == model_hash(folder)


def test_who_may_not_write_is_told(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.create("you/faces")
    for name in ("you/faces", "you/new"):
        with pytest.raises(ModelError, match=rf"{name}: nothing was published, http.* does not let the token in use"):
            push_to_hub(folder, name)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ModelError, match=r"me/faces: nothing was published, http.* does not let the token in use"):
        push_to_hub(folder, "me/faces")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ModelError, match=r"me/faces: nothing was published, no token is set; log in"):
        push_to_hub(folder, "me/faces")
    assert hub.repositories["you/faces"].messages == ["initial commit"]


def test_changes_of_others_meanwhile_are_kept(hub: Hub, folder: Path) -> None:
    repository = hub.create("me/faces")
    hub.meanwhile["POST /api/models/me/faces/preupload"] = lambda: repository.commit({CARD: b"theirs"}, "theirs")
    with pytest.raises(ModelError, match="somebody else changed the repository meanwhile"):
        push_to_hub(folder, "me/faces")
    assert repository.files == {CARD: b"theirs"}


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (None, r"README\.md: missing; a model is published with a card"),
        ("# A model\n", "names no licence; write one into its line `license:`, or give --license"),
        (CARD_TEXT.replace("cc0-1.0", "unknown"), "names no licence"),
        (CARD_TEXT.replace("HASH", "0123456789abcdef"), "describes the weights 0123456789abcdef, but those beside it"),
    ],
)
def test_a_model_goes_with_an_honest_card(hub: Hub, folder: Path, card: str | None, message: str) -> None:
    (folder / CARD).unlink()
    if card is not None:
        (folder / CARD).write_text(card)
    with pytest.raises(ModelError, match=message):
        push_to_hub(folder, "me/faces")
    assert hub.requests == []


def test_a_model_that_does_not_load_is_not_published(hub: Hub, folder: Path) -> None:
    path = folder / "texture.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"texture\.safetensors"):
        push_to_hub(folder, "me/faces")
    with pytest.raises(ModelError, match="no such model folder"):
        push_to_hub(folder / "none", "me/faces")
    assert hub.requests == []


def test_the_licence_may_be_named_when_pushing(hub: Hub, folder: Path) -> None:
    (folder / CARD).write_text(CARD_TEXT.replace("cc0-1.0", "unknown  # name it").replace("HASH", model_hash(folder)))
    push_to_hub(folder, "me/faces", license="cc-by-nc-4.0", message="first")
    card = hub.repositories["me/faces"].files[CARD].decode()
    assert card == CARD_TEXT.replace("cc0-1.0", "cc-by-nc-4.0").replace("HASH", model_hash(folder)).replace(
        PLACE, "me/faces"
    )
    assert hub.repositories["me/faces"].messages[-1] == "first"
    for wrong in ("unknown", "", "my own: licence"):
        with pytest.raises(ModelError, match="not a licence as the hub spells it"):
            push_to_hub(folder, "me/faces", license=wrong)


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name in ("me/faces", "me/faces@v1.0", "me/faces@refs/pr/1", "hf://runs/model"):
        assert from_hub(name)
    for name in (
        "faces-128",
        "runs/modle",
        "./model",
        "../me/faces",
        "/me/faces",
        "a/b/c",
        "me/",
        "me/faces@",
        "me\\a",
    ):
        assert not from_hub(name)


def test_a_mistyped_folder_stays_here(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for name in ("runs/modle", "faces-182", Path("me/faces")):
        with pytest.raises(ModelError, match="no such model folder, nor a bundled model"):
            Inpainter.from_pretrained(name)
    assert hub.requests == []


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match=r"nobody/faces: .*pip install 'manifill\[hub\]'"):
        Inpainter.from_pretrained("nobody/faces")


def test_on_the_command_line(hub: Hub, folder: Path, tmp_path: Path) -> None:
    """As a user would: in a process of its own, with nothing but the library's settings."""
    settings = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }

    pushed, told, wrong = in_one_process(
        ("push", folder, "me/faces", "--private", "--license", "other"),
        ("info", "me/faces"),
        ("info", "me/facse"),
        folder=tmp_path,
        **settings,
    )
    assert (pushed.code, pushed.out.strip()) == (0, f"{hub.url}/me/faces"), pushed.err
    assert hub.repositories["me/faces"].private
    assert told.code == 0, told.err
    assert model_hash(folder) in told.out
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err.splitlines()[-1].startswith("manifill: me/facse: no folder here, and no model on")
    assert "Traceback" not in pushed.err + told.err + wrong.err
