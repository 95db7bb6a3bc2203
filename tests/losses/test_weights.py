import hashlib
import socket
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
import torch
from torch import nn

from losses.weights import WeightsFile, assign_tensors, find_weights, load_tensors

UNREACHABLE = "http://127.0.0.1:9/x.pth"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch hub's cache in an empty folder, GPEN_WEIGHTS unset."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.delenv("GPEN_WEIGHTS", raising=False)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def _published(tmp_path: Path, checksum: str | None = None) -> WeightsFile:
    """A file that can really be downloaded, from this disk."""
    source = tmp_path / "server" / "x.pth"
    source.parent.mkdir(exist_ok=True)
    source.write_bytes(b"weights")
    return WeightsFile("x.pth", source.as_uri(), checksum or hashlib.sha256(b"weights").hexdigest()[:8])


def test_the_places_are_searched_in_order(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explicit, named = tmp_path / "mine.pth", tmp_path / "named"
    named.mkdir()
    for path in (explicit, named / "x.pth", cache / "x.pth"):
        path.write_bytes(b"")
    file = WeightsFile("x.pth", UNREACHABLE, "00000000")
    assert find_weights(file) == cache / "x.pth"
    monkeypatch.setenv("GPEN_WEIGHTS", str(named))
    assert find_weights(file) == named / "x.pth"
    assert find_weights(file, explicit) == explicit
    (named / "x.pth").unlink()
    assert find_weights(file) == cache / "x.pth"


def test_a_download_lands_in_the_cache_once(tmp_path: Path, cache: Path) -> None:
    file = _published(tmp_path)
    assert find_weights(file) == cache / "x.pth"
    assert (cache / "x.pth").read_bytes() == b"weights"
    (tmp_path / "server" / "x.pth").unlink()
    assert find_weights(file) == cache / "x.pth"


def test_a_download_with_another_checksum_is_refused_and_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(ValueError, match="has another checksum than 12345678"):
        find_weights(_published(tmp_path, "12345678"))
    assert list(cache.iterdir()) == []


def test_offline_the_error_names_file_url_and_folder(cache: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        find_weights(WeightsFile("x.pth", UNREACHABLE, "12345678"))
    assert f"x.pth is needed and not on this machine; download {UNREACHABLE} into {cache}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (URLError(socket.gaierror(-2, "Name or service not known")), "no network, or no host of the name x.org"),
        (URLError(ConnectionRefusedError(111, "Connection refused")), "x.org cannot be reached: Connection refused"),
        (TimeoutError("timed out"), "x.org cannot be reached: timed out"),
        (HTTPError("https://x.org/x.pth", 404, "Not Found", Message(), None), "x.org answered 404, Not Found"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_why_a_download_failed_is_said_in_words(
    failure: OSError, reason: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(FileNotFoundError) as error:
        find_weights(WeightsFile("x.pth", "https://x.org/x.pth", "12345678"))
    assert str(error.value).endswith(f" (the attempt failed: {reason})")


def test_the_error_names_the_folder_of_the_environment_where_one_is_set(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPEN_WEIGHTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"into {tmp_path} "):
        find_weights(WeightsFile("x.pth", UNREACHABLE, "12345678"))
    monkeypatch.setenv("GPEN_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"GPEN_WEIGHTS must name an existing folder, got .*nowhere"):
        find_weights(WeightsFile("x.pth", UNREACHABLE, "12345678"))


def test_weights_without_a_checksum_are_never_downloaded(tmp_path: Path, cache: Path) -> None:
    file = _published(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"download file://.*x\.pth into "):
        find_weights(WeightsFile(file.name, file.url, None))
    assert list(cache.iterdir()) == []


def test_an_explicit_path_that_does_not_exist_is_not_replaced_by_another_place(tmp_path: Path, cache: Path) -> None:
    (cache / "x.pth").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"mine\.pth is not a file; download x\.pth from http"):
        find_weights(WeightsFile("x.pth", UNREACHABLE, "12345678"), tmp_path / "mine.pth")


def test_tensors_are_read_as_float32_and_counters_stay_integers(tmp_path: Path) -> None:
    torch.save({"weight": torch.tensor([0.5]).half(), "steps": torch.tensor(3)}, tmp_path / "x.pth")
    tensors = load_tensors(tmp_path / "x.pth")
    assert tensors["weight"].dtype == torch.float32 and tensors["weight"].item() == 0.5
    assert tensors["steps"].dtype == torch.int64 and tensors["steps"].item() == 3


@pytest.mark.parametrize("content", [{"code": print}, {"nested": {"weight": torch.zeros(1)}}, [torch.zeros(1)]])
def test_files_with_anything_but_tensors_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth must be a PyTorch state dict"):
        load_tensors(tmp_path / "x.pth")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"x\.pth must be a PyTorch state dict, got a damaged .*; download it again"):
        load_tensors(tmp_path / "x.pth")


def test_only_step_counters_may_be_missing_from_a_network() -> None:
    with torch.device("meta"):
        network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    tensors = {
        name: torch.full(tensor.shape, 7.0) for name, tensor in network.state_dict().items() if "num" not in name
    }
    assign_tensors(network, tensors, Path("x.pth"))
    assert all(parameter.eq(7).all() for parameter in network.parameters())
    for wrong in ({"more": torch.zeros(1)}, {"0.weight": torch.zeros(3, 2)}):
        with pytest.raises(
            ValueError, match=f"x.pth must hold the tensors of Sequential, but 1 .* {next(iter(wrong))};"
        ):
            assign_tensors(network, {**tensors, **wrong}, Path("x.pth"))
    del tensors["1.running_mean"]
    with pytest.raises(ValueError, match=r"but 1 .* first 1\.running_mean;"):
        assign_tensors(network, tensors, Path("x.pth"))
