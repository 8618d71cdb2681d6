"""Feature networks: small ones built here, the shapes of the large ones, and fetching from a server of our own."""

from __future__ import annotations

import hashlib
import http.server
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from manifill.evaluate import downloads
from manifill.evaluate.downloads import PUBLIC_FILES, PublicFile, fetch
from manifill.evaluate.features import LPIPS, InceptionNetwork, TorchScriptNetwork, load_judges, network_name
from manifill.evaluate.inception import InceptionV3, average3, resize_tf1
from manifill.evaluate.metrics import mean_distance, perceptual_map, unit_differences, unit_features


class Tiny(nn.Module):
    """A network of the shape that TorchScriptNetwork expects."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3, 2)

    @torch.jit.export
    def pyramid(self, x: Tensor) -> list[Tensor]:
        first = torch.relu(self.first(x.float() / 255))
        return [first, self.second(first)]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        last = self.pyramid(x)[-1]
        return last.mean([2, 3]), last.amax([2, 3])[:, :5]


def scripted(network: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # writing TorchScript is deprecated; reading what is published is what we do
        torch.jit.script(network.eval()).save(path)
    return path


@pytest.fixture
def pictures() -> tuple[Tensor, Tensor]:
    return tuple((torch.rand(2, 5, 3, 24, 20) * 255).to(torch.uint8))  # type: ignore[return-value]


def test_torchscript_networks_are_named_after_their_files() -> None:
    assert network_name(Path("a/squeezenet1_0-imagenet.ts")) == "SqueezeNet"
    assert network_name(Path("vgg16.ts")) == "VGG"
    assert network_name(Path("faces_3.ts")) == "faces"
    assert network_name(Path("3d.ts")) == "3d"


def test_torchscript_network_in_batches(tmp_path, pictures) -> None:
    network = Tiny()
    path = scripted(network, tmp_path / "tiny_1.ts")
    loaded = TorchScriptNetwork(path)
    loaded.batch = 2
    assert loaded.name == "tiny"
    a, b = pictures
    with torch.no_grad():
        wanted = [t.numpy() for t in network(a)]
        distances = mean_distance(
            list(unit_differences(unit_features(network.pyramid(a)), unit_features(network.pyramid(b))))
        )
    found = loaded.pooled(a)
    assert [f.shape for f in found] == [(5, 6), (5, 5)]
    for f, w in zip(found, wanted, strict=True):
        assert isinstance(f, np.ndarray)
        assert f == pytest.approx(w, rel=1e-4, abs=1e-6)
    assert torch.allclose(loaded.perceptual(a, b), distances, rtol=1e-4)
    assert loaded.perceptual(a, a).abs().max() == 0


def test_distance_maps_are_at_the_pictures_size_and_show_where(tmp_path) -> None:
    loaded = TorchScriptNetwork(scripted(Tiny(), tmp_path / "tiny.ts"))
    a = torch.rand(2, 3, 40, 32) * 255
    b = a.clone()
    b[..., :8] = 255 - b[..., :8]
    maps = perceptual_map(loaded.between(loaded.units(a), loaded.units(b)), a.shape[2:])
    assert maps.shape == (2, 40, 32)
    assert maps[..., :8].mean() > 0.001
    assert maps[..., 20:].abs().max() == 0


def test_what_is_not_such_a_network_is_refused(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="no such feature network"):
        TorchScriptNetwork(tmp_path / "none.ts")
    (tmp_path / "text.ts").write_text("no program")
    with pytest.raises(ValueError, match="not a TorchScript file"):
        TorchScriptNetwork(tmp_path / "text.ts")
    with pytest.raises(ValueError, match="pyramid"):
        TorchScriptNetwork(scripted(nn.Linear(2, 2), tmp_path / "line.ts"))


def test_tensorflow_resize() -> None:
    ramp = torch.arange(4.0).expand(1, 1, 4, 4) * 10
    assert resize_tf1(ramp, 8)[0, 0, 0].tolist() == [0, 5, 10, 15, 20, 25, 30, 30]  # no half-pixel shift
    assert resize_tf1(ramp, 2)[0, 0, 0].tolist() == [0, 20]  # no smoothing
    x = torch.rand(2, 3, 37, 50)
    found = resize_tf1(x, 23)
    for i, j in ((0, 0), (5, 17), (22, 22), (13, 1)):
        y, z = i * 37 / 23, j * 50 / 23
        y0, z0, dy, dz = int(y), int(z), y % 1, z % 1
        y1, z1 = min(y0 + 1, 36), min(z0 + 1, 49)
        above = x[..., y0, z0] * (1 - dz) + x[..., y0, z1] * dz
        below = x[..., y1, z0] * (1 - dz) + x[..., y1, z1] * dz
        assert torch.allclose(found[..., i, j], above * (1 - dy) + below * dy, atol=1e-4)


def test_average_pool_does_not_count_the_padding() -> None:
    assert torch.allclose(average3(torch.ones(1, 1, 5, 5)), torch.ones(1, 1, 5, 5))


@pytest.fixture(scope="module")
def inception() -> InceptionV3:
    torch.manual_seed(0)
    network = InceptionV3().eval().requires_grad_(False)
    for unit in network.modules():
        if isinstance(unit, nn.Conv2d):
            nn.init.kaiming_normal_(unit.weight)
    return network


def test_inception_is_the_one_of_2015(inception, tmp_path) -> None:
    # 23 834 568 with today's 1000 classes; each of the eight more has 2048 weights and a bias.
    assert sum(p.numel() for p in inception.parameters()) == 23_834_568 + 8 * 2049
    weights = {k: v for k, v in inception.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert len(weights) == 94 * 5 + 2
    assert weights["Mixed_6d.branch7x7dbl_4.conv.weight"].shape == (160, 160, 7, 1)
    assert weights["Mixed_7c.branch3x3dbl_3a.conv.weight"].shape == (384, 384, 1, 3)
    torch.save(weights, tmp_path / "pt_inception.pth")
    network = InceptionNetwork(tmp_path / "pt_inception.pth")
    network.batch = 1
    x = (torch.rand(2, 3, 64, 48) * 255).to(torch.uint8)
    found, logits = network.pooled(x)
    assert (found.shape, logits.shape) == ((2, 2048), (2, 1008))
    assert logits == pytest.approx(found @ weights["fc.weight"].numpy().T, rel=1e-3, abs=1e-5)  # no bias
    assert np.abs(found[0] - found[1]).mean() > 0.01 * found.mean() > 0
    del weights["Mixed_7c.branch_pool.bn.weight"]
    torch.save(weights, tmp_path / "short.pth")
    with pytest.raises(ValueError, match=r"Mixed_7c\.branch_pool\.bn\.weight"):
        InceptionNetwork(tmp_path / "short.pth")


def test_inception_pools_as_published(inception) -> None:
    x = torch.rand(1, 1280, 8, 8)
    assert torch.equal(inception.Mixed_7b(x)[:, -192:], inception.Mixed_7b.branch_pool(average3(x)))
    x = torch.rand(1, 2048, 8, 8)
    assert torch.equal(inception.Mixed_7c(x)[:, -192:], inception.Mixed_7c.branch_pool(F.max_pool2d(x, 3, 1, 1)))


WIDTHS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
CONVOLUTIONS = {
    "alex": {0: (3, 64, 11), 3: (64, 192, 5), 6: (192, 384, 3), 8: (384, 256, 3), 10: (256, 256, 3)},
    "vgg": dict(
        zip(
            (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
            [(3, 64, 3), (64, 64, 3), (64, 128, 3), (128, 128, 3), (128, 256, 3), (256, 256, 3), (256, 256, 3)]
            + [(256, 512, 3)]
            + [(512, 512, 3)] * 5,
            strict=True,
        )
    ),
}


def lpips_weights(net: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    backbone = {"classifier.6.weight": torch.rand(2, 2)}
    for k, (channels, out, kernel) in CONVOLUTIONS[net].items():
        scale = (channels * kernel**2) ** -0.5
        backbone[f"features.{k}.weight"] = torch.randn(out, channels, kernel, kernel) * scale
        backbone[f"features.{k}.bias"] = torch.randn(out) * 0.1
    return backbone, {f"lin{k}.model.1.weight": torch.rand(1, c, 1, 1) for k, c in enumerate(WIDTHS[net])}


def plain_lpips(net: str, backbone: dict[str, Tensor], linear: dict[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
    """The definition in functions: stages of convolutions, a pool before each but the first."""
    stages = {"alex": ([0], [3], [6], [8], [10]), "vgg": ([0, 2], [5, 7], [10, 12, 14], [17, 19, 21], [24, 26, 28])}
    pooled = {"alex": (1, 2), "vgg": (1, 2, 3, 4)}[net]
    x, total = torch.cat([a, b]) / 127.5 - 1, torch.zeros(len(a))
    x = torch.stack(
        [(x[:, c] - m) / s for c, (m, s) in enumerate([(-0.03, 0.458), (-0.088, 0.448), (-0.188, 0.45)])], 1
    )
    for k, stage in enumerate(stages[net]):
        x = F.max_pool2d(x, 3 if net == "alex" else 2, 2) if k in pooled else x
        for c in stage:
            w = backbone[f"features.{c}.weight"]
            stride, pad = (4, 2) if w.shape[2] == 11 else (1, w.shape[2] // 2)
            x = F.relu(F.conv2d(x, w, backbone[f"features.{c}.bias"], stride, pad))
        unit = F.normalize(x, dim=1)
        squared = (unit[: len(a)] - unit[len(a) :]) ** 2
        total += F.conv2d(squared, linear[f"lin{k}.model.1.weight"]).mean((1, 2, 3))
    return total


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips(net, tmp_path) -> None:
    backbone, linear = lpips_weights(net)
    torch.save(backbone, tmp_path / "backbone.pth")
    save_file(linear, tmp_path / "linear.safetensors")
    lpips = LPIPS(net, tmp_path / "backbone.pth", tmp_path / "linear.safetensors")
    lpips.batch = 2
    assert lpips.name == f"LPIPS-{net}"
    a, b = torch.rand(2, 3, 3, 64, 48) * 255
    wanted = plain_lpips(net, backbone, linear, a, b)
    assert lpips.perceptual(a, b).numpy() == pytest.approx(wanted.numpy(), rel=1e-4)
    assert lpips.perceptual(a, a).abs().max() == 0
    save_file(backbone | linear, tmp_path / "both.safetensors")
    both = load_judges(**{f"lpips_{net}": tmp_path / "both.safetensors"})[1][0]
    assert torch.equal(both.perceptual(a[:2], b[:2]), lpips.perceptual(a[:2], b[:2]))


def test_weights_of_another_network_are_refused(tmp_path) -> None:
    backbone, linear = lpips_weights("alex")
    save_file(backbone, tmp_path / "alex.safetensors")
    save_file(linear, tmp_path / "linear.safetensors")
    with pytest.raises(ValueError, match="does not fit"):
        LPIPS("vgg", tmp_path / "alex.safetensors", tmp_path / "linear.safetensors")
    with pytest.raises(ValueError, match="not the learned weights"):
        LPIPS("alex", tmp_path / "alex.safetensors")
    save_file({**backbone, "head.weight": torch.zeros(1)}, tmp_path / "more.safetensors")
    with pytest.raises(ValueError, match=r"head\.weight"):
        LPIPS("alex", tmp_path / "more.safetensors", tmp_path / "linear.safetensors")
    with pytest.raises(FileNotFoundError, match="no such weights file"):
        LPIPS("alex", tmp_path / "none.pth")
    torch.save({"features.0.weight": Path("a program")}, tmp_path / "foreign.pth")
    with pytest.raises(ValueError, match="not a readable file of tensors"):
        LPIPS("alex", tmp_path / "foreign.pth")


def test_load_networks(tmp_path) -> None:
    path = scripted(Tiny(), tmp_path / "tiny.ts")
    pooled, perceptual = load_judges([path])
    assert [n.name for n in pooled] == [n.name for n in perceptual] == ["tiny"]
    assert load_judges() == ([], [])
    with pytest.raises(ValueError, match="two feature networks have one name: tiny, tiny"):
        load_judges([path, scripted(Tiny(), tmp_path / "tiny2.ts")])


CONTENT = bytes(range(256)) * 9000


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/missing.bin":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: 1_500_000 if self.path == "/short.bin" else None])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[str]:
    """A server of our own; PUBLIC_FILES gets `good`, `short` and `missing` there, and `other` with a wrong hash."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        home = f"http://127.0.0.1:{running.server_port}"
        digest = hashlib.sha256(CONTENT).hexdigest()
        known = {name: PublicFile(f"{home}/{name}.bin", digest) for name in ("good", "short", "missing")}
        monkeypatch.setattr(downloads, "PUBLIC_FILES", {**known, "other": PublicFile(f"{home}/good.bin", "0" * 64)})
        for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(variable, raising=False)
        yield home
        running.shutdown()


def test_fetch_once(server, tmp_path, capfd) -> None:
    path = fetch("good", tmp_path / "new" / "cache")
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert "good.bin" in capfd.readouterr().err  # the bar
    changed = path.stat().st_mtime_ns
    assert fetch("good", path.parent) == path
    assert path.stat().st_mtime_ns == changed


@pytest.mark.parametrize(
    ("name", "reason"), [("other", "invalid hash value"), ("short", "invalid hash value"), ("missing", "404")]
)
def test_a_failed_fetch_leaves_nothing(server, tmp_path, name: str, reason: str) -> None:
    public = downloads.PUBLIC_FILES[name]
    with pytest.raises(OSError, match=reason) as error:
        fetch(name, tmp_path)
    assert list(tmp_path.iterdir()) == []
    for said in (public.url, public.sha256, str(tmp_path / f"{name}.bin")):
        assert said in str(error.value)


def test_a_refused_connection_says_what_to_do(server, tmp_path, monkeypatch) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}/net.pth"
    monkeypatch.setitem(downloads.PUBLIC_FILES, "net", PublicFile(url, "f" * 64))
    with pytest.raises(OSError, match="could not fetch") as error:
        fetch("net", tmp_path)
    for said in (url, "f" * 64, f"put the file at {tmp_path / 'net.pth'}"):
        assert said in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_an_error_and_kept(server, tmp_path) -> None:
    (tmp_path / "good.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(OSError, match="delete it"):
        fetch("good", tmp_path)
    assert (tmp_path / "good.bin").read_bytes() == CONTENT[:-1]


def test_public_files_name_their_hash(tmp_path) -> None:
    for public in PUBLIC_FILES.values():
        assert public.url.startswith("https://")
        assert len(bytes.fromhex(public.sha256)) == 32
    for name in ("inception", "alexnet", "vgg16"):  # these carry the first digits in their names
        assert Path(PUBLIC_FILES[name].url).stem.endswith(PUBLIC_FILES[name].sha256[:8])
    with pytest.raises(ValueError, match="inception, alexnet, vgg16"):
        fetch("resnet", tmp_path)
