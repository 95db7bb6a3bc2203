"""Checkpoints made to run code or to take more memory than they have bytes."""

import json
import os
import pickle
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models import GPEN, Architecture, Prior, read_checkpoint, save_release
from models.files.public_format import public_prior_name
from models.files.release_file import FORMAT, lightning_entry

ROOT = Path(__file__).resolve().parents[2]
LARGEST = Architecture(2048, 8, 8.0, style_dim=4096, num_mapping_layers=64)
"""Its GPEN would take more than 100 GB."""


def refused(path: Path, *, largest_mebibytes: int = 150) -> str:
    """The one line about a file that is refused without taking memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError) as raised:
        read_checkpoint(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < largest_mebibytes * 1024
    text = str(raised.value)
    assert str(path) in text and "\n" not in text and len(text.replace(str(path), "")) < 700
    return text.replace(str(path), "FILE")


class Intruder:
    """Pickles to a call that makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


WAYS: dict[str, Callable[[object, Path], None]] = {
    "zip": lambda content, path: torch.save(content, path),
    "protocol 4": lambda content, path: torch.save(content, path, pickle_protocol=4),
    "before 1.6": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("way", WAYS)
def test_code_in_a_file_is_not_run_and_is_named(tmp_path: Path, way: str) -> None:
    path, marker = tmp_path / "model.pth", tmp_path / "intruded"
    WAYS[way]({"g_ema": Intruder(marker)}, path)
    assert refused(path).startswith(
        "FILE holds posix.mkdir, which could run code when it is loaded; nothing of it was run, and the file is refused"
    )
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # the file was dangerous indeed


def test_code_in_a_plain_pickle_is_not_run(tmp_path: Path) -> None:
    path, marker = tmp_path / "model.pkl", tmp_path / "intruded"
    path.write_bytes(pickle.dumps(Intruder(marker)))
    assert refused(path).startswith("FILE is no checkpoint; expected")
    assert not marker.exists()


COMMANDS: dict[str, list[str]] = {
    "evaluate": ["scripts.evaluate", "--checkpoint", "FILE", "--faces", "FACES", "--output", "OUT"],
    "restore": ["scripts.restore_faces", "--checkpoint", "FILE", "--input", "FACES", "--output", "OUT"],
    "render": ["scripts.render_faces", "--checkpoint", "FILE", "--output", "OUT"],
    "export": ["export", "--checkpoint", "FILE", "--output", "OUT", "--faces", "FACES"],
    "train": [
        *("train", "fit", "--config", "configs/restoration_64.yaml", "--data.faces", "FACES", "--run.folder", "OUT"),
        *("--model.init_args.start", "FILE", "--trainer.accelerator", "cpu", "--data.num_workers", "0"),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_reads_a_checkpoint_refuses_code_in_one_line(tmp_path: Path, command: str) -> None:
    from PIL import Image

    path, marker, faces = tmp_path / "model.pth", tmp_path / "intruded", tmp_path / "faces"
    torch.save({"g_ema": Intruder(marker)}, path)
    faces.mkdir()
    for index in range(20):
        Image.new("RGB", (64, 64), (index, 0, 0)).save(faces / f"{index:02}.png")
    places = {"FILE": str(path), "FACES": str(faces), "OUT": str(tmp_path / "out")}
    done = subprocess.run(
        [sys.executable, "-m", *(places.get(word, word) for word in COMMANDS[command])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().startswith("error: ") and done.stderr.count("\n") == 1
    assert f"{path} holds posix.mkdir, which could run code" in done.stderr
    assert not marker.exists()


# --- memory


class Bomb:
    """Pickles to a call that PyTorch deems safe and that takes ten gigabytes."""

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return bytearray, (10**10,)


@pytest.mark.parametrize("way", WAYS)
def test_a_pickled_bomb_is_refused_before_it_takes_memory(tmp_path: Path, way: str) -> None:
    WAYS[way]({"g_ema": Bomb()}, tmp_path / "bomb.pth")
    assert "holds builtins.bytearray" in refused(tmp_path / "bomb.pth").replace("__builtin__", "builtins")


def prior_state(architecture: Architecture, repeated: bool) -> dict[str, torch.Tensor]:
    """A public state dict; with repeated values each of its tensors takes four bytes of the file."""
    with torch.device("meta"):
        state = Prior(architecture).state_dict()
    modulated = {n for n in state if n.endswith("convolution.weight")}
    shapes = {public_prior_name(n): (1,) * (n in modulated) + t.shape for n, t in state.items()}
    value = torch.zeros(1)
    return {name: value.expand(shape) if repeated else torch.zeros(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("way", ["zip", "before 1.6"])
def test_few_bytes_that_stand_for_gigabytes_are_refused(tmp_path: Path, way: str) -> None:
    WAYS[way](prior_state(LARGEST, repeated=True), tmp_path / "a.pth")
    assert (tmp_path / "a.pth").stat().st_size < 100_000
    assert "more than the file has" in refused(tmp_path / "a.pth")


def test_a_kernel_of_gigabytes_is_refused(tmp_path: Path) -> None:
    state = prior_state(Architecture(32, 1, 0.03125, "add", 16, 2), repeated=False)
    torch.save({**state, "to_rgbs.0.upsample.kernel": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "a.pth")
    assert "is not the FIR kernel" in refused(tmp_path / "a.pth")


@pytest.fixture(scope="session")
def small() -> GPEN:
    """The network that the other files pretend to hold."""
    return GPEN(Architecture(32, 1, 0.03125, style_dim=16, num_mapping_layers=2))


def test_a_stated_architecture_of_gigabytes_is_compared_with_the_tensors_first(small: GPEN, tmp_path: Path) -> None:
    save_release(tmp_path / "a.safetensors", small)
    tensors, largest = load_file(tmp_path / "a.safetensors"), json.dumps(asdict(LARGEST))
    metadata = {"format": FORMAT, "kind": "gpen", "architecture": largest, "minibatch_group_size": "null"}
    save_file(tensors, tmp_path / "a.safetensors", metadata)
    assert refused(tmp_path / "a.safetensors").startswith("FILE does not fit the network: ")
    content = {"state_dict": {f"ema.{n}": t for n, t in small.state_dict().items()}}
    torch.save({**content, FORMAT: lightning_entry("gpen", LARGEST, 4)}, tmp_path / "a.ckpt")
    assert refused(tmp_path / "a.ckpt").startswith("FILE does not fit the network: ")


def rewritten(path: Path, change: Callable[[str, bytes], tuple[bytes, int]]) -> Path:
    """The same zip archive with other members."""
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            content, compression = change(name, content)
            archive.writestr(name, content, compression)
    return path


def test_compressed_records_are_refused_because_a_megabyte_may_stand_for_a_gigabyte(tmp_path: Path) -> None:
    torch.save({"g_ema": {"w": torch.zeros(10**6)}}, tmp_path / "a.pth")
    path = rewritten(tmp_path / "a.pth", lambda name, content: (content, zipfile.ZIP_DEFLATED))
    assert refused(path).startswith("FILE is truncated, damaged or no checkpoint")


def test_a_tensor_larger_than_its_record_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(4)}, tmp_path / "a.pth")

    def enlarge(name: str, content: bytes) -> tuple[bytes, int]:
        large = b"J" + (10**8).to_bytes(4, "little")  # BININT instead of BININT1 4
        return (content.replace(b"K\x04", large) if name.endswith("data.pkl") else content), zipfile.ZIP_STORED

    assert refused(rewritten(tmp_path / "a.pth", enlarge)).startswith("FILE is truncated, damaged or no checkpoint")


# --- entries that are something else


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.zeros(1, 16, 4, 4).to_sparse(), "holds torch._utils._rebuild_sparse_tensor"),
        (torch.zeros(1, 16, 4, 4, dtype=torch.int64), "does not fit|is no ordinary tensor"),
        (torch.zeros(1, 16, 4, 4, device="meta"), "is no ordinary tensor|could run code"),
        ("a text", "does not fit"),
        (None, "does not fit"),
    ],
    ids=["sparse", "integers", "meta", "text", "nothing"],
)
def test_entries_that_are_no_ordinary_tensors_are_refused(
    small: GPEN, tmp_path: Path, tensor: Any, reason: str
) -> None:
    state: dict[str, Any] = {f"ema.{n}": t for n, t in small.state_dict().items()}
    state["ema.decoder.synthesis.constant"] = tensor
    torch.save({"state_dict": state, FORMAT: lightning_entry("gpen", small.architecture, 4)}, tmp_path / "a.ckpt")
    text = refused(tmp_path / "a.ckpt")
    assert any(part in text for part in reason.split("|"))


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "banana"},
        {"kind": []},
        {"minibatch_group_size": "four"},
        {"minibatch_group_size": -1},
        {"architecture": None},
        {"architecture": {"narrow": 10**400}},
        {"architecture": {"narrow": float("nan")}},
        {"architecture": {"resolution": 2**70}},
        {"architecture": {1: 2}},
    ],
    ids=str,
)
def test_a_senseless_entry_of_a_lightning_checkpoint_is_named(small: GPEN, tmp_path: Path, entry: Any) -> None:
    state = {f"ema.{n}": t for n, t in small.state_dict().items()}
    content = {"state_dict": state, FORMAT: lightning_entry("gpen", small.architecture, 4) | entry}
    torch.save(content, tmp_path / "a.ckpt")
    assert refused(tmp_path / "a.ckpt").startswith("FILE is a damaged Lightning checkpoint (")


@pytest.mark.parametrize("content", [{FORMAT: 1, "state_dict": {}}, {FORMAT: {}, "state_dict": 1}])
def test_a_lightning_checkpoint_without_dictionaries_is_damaged(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.ckpt")
    assert refused(tmp_path / "a.ckpt") == "FILE is a damaged Lightning checkpoint (its state is no dictionary)"


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5_000, "{}" * 9, '{"narrow": 1e999}'], ids=lambda t: t[:9])
def test_senseless_metadata_of_a_release_is_damage(small: GPEN, tmp_path: Path, text: str) -> None:
    save_release(tmp_path / "a.safetensors", small)
    metadata = {"format": FORMAT, "kind": "gpen", "architecture": text, "minibatch_group_size": "null"}
    save_file(load_file(tmp_path / "a.safetensors"), tmp_path / "a.safetensors", metadata)
    assert refused(tmp_path / "a.safetensors").startswith("FILE is a damaged release file (")


@pytest.mark.parametrize("changes", [{"to_rgbs.%d.bias": 5000}, {"convs.%d.conv.weight": 0}, {"%d": 3}], ids=str)
def test_public_names_that_promise_the_impossible_are_refused(tmp_path: Path, changes: dict[str, int]) -> None:
    state: dict[Any, torch.Tensor] = dict(prior_state(Architecture(32, 1, 0.03125, "add", 16, 2), repeated=False))
    for name, number in changes.items():
        for index in range(number):
            state[int(name % index) if name == "%d" else name % index] = torch.zeros(1, 1)
    state["conv1.conv.weight"] = torch.zeros(0, 0) if not sum(changes.values()) else state["conv1.conv.weight"]
    torch.save(state, tmp_path / "a.pth")
    refused(tmp_path / "a.pth")


def test_what_was_read_does_not_change_with_the_file(small: GPEN, tmp_path: Path) -> None:
    state = {f"ema.{n}": t for n, t in small.state_dict().items()}
    torch.save({"state_dict": state, FORMAT: lightning_entry("gpen", small.architecture, 4)}, tmp_path / "a.ckpt")
    stored = read_checkpoint(tmp_path / "a.ckpt")
    content = bytearray((tmp_path / "a.ckpt").read_bytes())
    with (tmp_path / "a.ckpt").open("r+b") as file:  # in place, where the file might still be mapped
        file.write(bytes(len(content)))
    assert all(torch.equal(stored.generator[n], t) for n, t in small.state_dict().items())


# --- time and memory of every kind of file, measured

MOST_SECONDS, MOST_MEBIBYTES = 10.0, 150


def cost(path: Path) -> tuple[str, float, float]:
    """The error about a file, processor seconds and mebibytes of its reading, in a process of its own."""
    receiver, sender = os.pipe()
    process = os.fork()
    if process == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        try:
            read_checkpoint(path)
            text = "read"
        except ValueError as error:
            text = str(error)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        os.write(sender, json.dumps([text[:2000], time.process_time() - began, peak / 1024]).encode())
        os._exit(0)
    os.waitpid(process, 0)
    os.close(sender)
    with os.fdopen(receiver) as pipe:
        answer = pipe.read()
    assert answer, "it took more than a minute or was killed"
    text, seconds, mebibytes = json.loads(answer)
    return text.replace(str(path), "FILE"), seconds, mebibytes


def zipped(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def pickled(*operations: bytes) -> bytes:
    return b"\x80\x02" + b"".join(operations) + b"."


def text_operation(text: str) -> bytes:
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


NESTED_TUPLES = b")" + b"2\x86" * 40
"""40 times: take what is there twice, make a pair of it."""
SAME_HASH = b"".join(
    b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little", signed=True) + b"N" for k in range(1, 120_000)
)
BOMB = pickled(b"cbuiltins\nbytearray\nJ\x00\x00\x00\x7f\x85R")
HARMLESS = pickled(b"}")
PICKLES: dict[str, bytes] = {
    "nested tuples as a key": pickled(b"}", NESTED_TUPLES, b"Ns"),
    "nested tuples as a value": pickled(b"}", text_operation("g_ema"), NESTED_TUPLES, b"s"),
    "nested tuples as the kind of a network": pickled(
        *(b"}", text_operation("state_dict"), b"}s", text_operation(FORMAT), b"}("),
        *(text_operation("architecture"), b"}", text_operation("minibatch_group_size"), b"N"),
        *(text_operation("kind"), NESTED_TUPLES, b"us"),
    ),
    "nested tuples as images seen": pickled(
        *(b"}", text_operation("state_dict"), b"}s", text_operation("images_seen"), NESTED_TUPLES, b"s"),
        *(text_operation(FORMAT), b"}s"),
    ),
    "nested tuples as the name of a storage": pickled(b"}", text_operation("a"), NESTED_TUPLES, b"Qs"),
    "nested tuples as a shape": pickled(
        b"}ctorch._utils\n_rebuild_tensor_v2\n(", NESTED_TUPLES, b"K\x00", NESTED_TUPLES, NESTED_TUPLES, b"tRs"
    ),
    "many keys of one hash": pickled(b"}(", SAME_HASH, b"u"),
    "a number of a million digits as a key": pickled(
        b"}\x8b" + (10**6).to_bytes(4, "little") + b"\x01" * 10**6 + b"Ns"
    ),
    "a million lists": pickled(b"]" * 10**6),
    "a million marks": pickled(b"(" * 10**6),
    "lists in lists": pickled(b"}" + text_operation("a"), b"](" * 200_000, b"e" * 200_000, b"s"),
    "a mapping that holds itself": pickled(
        b"}q\x00(", *(text_operation(name) + b"h\x00" for name in ("g_ema", "model", "state_dict", "g")), b"u"
    ),
    "a memo of four billion entries": pickled(b"}r\xff\xff\xff\xff"),
    "a text of two gigabytes": pickled(b"}X\xff\xff\xff\x7fabc"),
    "many dangerous names": pickled(b"}", b"".join(b"cx%d\n%b\n0" % (n, b"y" * 150) for n in range(50_000))),
}


def write_plain(path: Path, content: bytes) -> None:
    path.write_bytes(content[:2] + text_operation("torch_utils.persistence") + b"0" + content[2:])


def write_legacy(path: Path, content: bytes) -> None:
    magic = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
    path.write_bytes(magic + pickled(b"M\xe9\x03") + pickled(b"}") + content + pickled(b"]"))


CONTAINERS: dict[str, Callable[[Path, bytes], None]] = {
    "zip": lambda path, content: zipped(path, {"archive/data.pkl": content, "archive/version": b"3\n"}),
    "before 1.6": write_legacy,
    "plain": write_plain,
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", PICKLES)
def test_no_pickle_takes_long_or_much_memory(name: str, container: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    CONTAINERS[container](path, PICKLES[name])
    text, seconds, mebibytes = cost(path)
    assert text.startswith("FILE ") and "\n" not in text
    assert seconds < MOST_SECONDS and mebibytes < MOST_MEBIBYTES + 4 * path.stat().st_size / 2**20, (seconds, mebibytes)


@pytest.mark.parametrize(
    "members",
    [
        {"archive/sub/data.pkl": HARMLESS, "archive/DATA.pkl": BOMB},
        {"archive/data.pkl": HARMLESS, "archive/DATA.pkl": BOMB},
        {"archive/DATA.pkl": BOMB, "other/data.pkl": HARMLESS},
        {"other/version": b"3", "archive/data.pkl": HARMLESS},
        {"archive/version": b"3", "other/Data.PKL": BOMB},
        {"archive/data.pkl": HARMLESS, "archive/data/0": b"", "archive/DATA/0": b"1"},
        {"archive/version": b"3"},
    ],
    ids=lambda members: " ".join(members),
)
def test_an_archive_has_one_pickle_under_its_root_whatever_its_case(members: dict[str, bytes], tmp_path: Path) -> None:
    zipped(tmp_path / "a.pth", members)
    text, seconds, mebibytes = cost(tmp_path / "a.pth")
    assert text.startswith("FILE is truncated, damaged or no checkpoint; expected")
    assert seconds < MOST_SECONDS and mebibytes < MOST_MEBIBYTES


def test_a_pickle_whose_name_is_in_capitals_is_scanned_as_pytorch_would_load_it(tmp_path: Path) -> None:
    zipped(tmp_path / "a.pth", {"archive/DATA.pkl": BOMB})
    text, _, mebibytes = cost(tmp_path / "a.pth")
    assert text.startswith("FILE holds builtins.bytearray, which could run code") and mebibytes < MOST_MEBIBYTES


def test_an_archive_of_a_million_members_is_refused_at_its_directory(tmp_path: Path) -> None:
    entry = b"PK\x01\x02" + bytes(24) + (1).to_bytes(2, "little") + bytes(16) + b"a"
    number = 10**6
    end = b"PK\x05\x06" + bytes(4) + b"\xff\xff\xff\xff" + (number * len(entry)).to_bytes(4, "little") + bytes(6)
    (tmp_path / "a.pth").write_bytes(b"PK\x03\x04" + bytes(26) + entry * number + end)
    text, seconds, mebibytes = cost(tmp_path / "a.pth")
    assert text.startswith("FILE is truncated, damaged or no checkpoint")
    assert seconds < MOST_SECONDS and mebibytes < MOST_MEBIBYTES


@pytest.mark.parametrize("way", WAYS)
def test_a_sound_file_is_read_within_the_same_limits(way: str, small: GPEN, tmp_path: Path) -> None:
    state = {f"ema.{n}": t for n, t in small.state_dict().items()}
    WAYS[way]({"state_dict": state, FORMAT: lightning_entry("gpen", small.architecture, 4)}, tmp_path / "a.ckpt")
    text, seconds, mebibytes = cost(tmp_path / "a.ckpt")
    assert text == "read" and seconds < MOST_SECONDS and mebibytes < MOST_MEBIBYTES
