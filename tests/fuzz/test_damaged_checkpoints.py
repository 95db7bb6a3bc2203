"""Damaged checkpoints are read or refused in one line; nothing in them runs, crashes or takes memory."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models import GPEN, Architecture, Discriminator, Prior, read_checkpoint, save_release
from models.files.public_format import public_generator_name, public_prior_name
from models.files.release_file import FORMAT, lightning_entry

Damage = Callable[[st.DataObject, bytes], bytes]
Rename = Callable[[str], str]
TINY = Architecture(32, 1, 1 / 128, style_dim=4, num_mapping_layers=1)


def public(network: GPEN | Prior, rename: Rename) -> dict[str, Tensor]:
    """A state dict under the public names."""
    state: Mapping[str, Tensor] = network.state_dict()
    return {rename(n): t[None] if n.endswith("convolution.weight") else t for n, t in state.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One whole file of every kind."""
    folder = tmp_path_factory.mktemp("whole")
    gpen, prior = GPEN(TINY), Prior(Architecture(32, 1, 1 / 128, "add", 4, 1))
    save_release(folder / "release.safetensors", prior, Discriminator(prior.architecture))
    state = {f"ema.{n}": t for n, t in gpen.state_dict().items()}
    torch.save({"state_dict": state, FORMAT: lightning_entry("gpen", TINY, 4)}, folder / "lightning.ckpt")
    torch.save({"g_ema": public(gpen, public_generator_name)}, folder / "public.pth")
    old = public(prior, public_prior_name)
    torch.save(old, folder / "stylegan2.pt", _use_new_zipfile_serialization=False)
    for path in folder.iterdir():
        assert read_checkpoint(path).generator
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check_checkpoint(path: Path, content: bytes, tally: Counter[str], kind: str) -> None:
    path.write_bytes(content)
    try:
        stored = read_checkpoint(path)
    except ValueError as error:
        tally[f"{kind} refused"] += 1
        text = str(error)
        assert str(path) in text and len(text.replace(str(path), "")) < 1000
        return
    tally[f"{kind} read"] += 1
    assert all(tensor.dtype == torch.float32 for tensor in stored.generator.values())


NAMES = ("release.safetensors", "lightning.ckpt", "public.pth", "stylegan2.pt")


@given(data=st.data(), name=st.sampled_from(NAMES))
def test_damaged_checkpoints_are_read_or_refused(
    data: st.DataObject, name: str, damage: Damage, files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory,
    tally: Counter[str],
) -> None:  # fmt: skip
    path = tmp_path_factory.getbasetemp() / name
    check_checkpoint(path, damage(data, files[name]), tally, "damaged checkpoints")


HEADS = (b"", b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.", b"\x80\x02", b"{")


@given(head=st.sampled_from(HEADS), rest=st.binary(max_size=300))
def test_random_bytes_are_no_checkpoint(
    head: bytes, rest: bytes, tmp_path_factory: pytest.TempPathFactory, tally: Counter[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "random.pth"
    check_checkpoint(path, head + rest, tally, "random bytes as checkpoints")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.sampled_from(
    ("dtype", "shape", "data_offsets", "architecture", "kind", "format", "minibatch_group_size", "x")
)
DTYPES = st.sampled_from(("F16", "F32", "F64", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "F8_E8M0", "F4", "C64", "X"))
NUMBERS = st.lists(st.integers(-1, 2**65), max_size=5)


@given(data=st.data())
def test_releases_with_another_header_are_read_or_refused(
    data: st.DataObject, files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, tally: Counter[str]
) -> None:
    content = files["release.safetensors"]
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    for _ in range(data.draw(st.integers(1, 3))):
        name, entry = data.draw(st.sampled_from(sorted(header))), data.draw(ENTRIES)
        value = data.draw(JSON | DTYPES | NUMBERS)
        if isinstance(header[name], dict):
            header[name][entry] = value if data.draw(st.booleans()) else json.dumps(value)
    text = json.dumps(header).encode()
    path = tmp_path_factory.getbasetemp() / "header.safetensors"
    changed = len(text).to_bytes(8, "little") + text + content[8 + length :]
    check_checkpoint(path, changed, tally, "releases with edited headers")
