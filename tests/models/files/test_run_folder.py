"""A run's folder, `last` and `best` name a checkpoint wherever a file does."""

from pathlib import Path

import pytest
import torch

from models import GPEN, Architecture, load_generator
from models.files.release_file import FORMAT, lightning_entry
from models.files.run_folder import check_seal, find_checkpoint, write_sealed


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with three checkpoints, the second of which was the best."""
    for images in (100, 200, 300):
        generator = GPEN(Architecture(32, 1, 1 / 64, style_dim=8, num_mapping_layers=1))
        with torch.no_grad():
            generator.encoder.from_rgb.bias.fill_(images)
        content = {
            "state_dict": {f"ema.{n}": t for n, t in generator.state_dict().items()},
            "callbacks": {"RunCheckpoints": {"best": (25.0, 200)}},
            "images_seen": images,
            FORMAT: lightning_entry("gpen", generator.architecture, 4),
        }
        (tmp_path / "run" / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_sealed(content, tmp_path / "run" / "checkpoints" / f"images_{images:012}.ckpt")
    return tmp_path / "run"


def images(path: Path) -> float:
    return load_generator(path).encoder.from_rgb.bias.detach()[0].item()  # type: ignore[union-attr]


def test_a_folder_and_last_are_the_last_checkpoint_and_best_the_best(run: Path) -> None:
    found = {name: images(run / name) for name in ("", "last", "best", "checkpoints", "checkpoints/best")}
    assert found == {"": 300, "last": 300, "best": 200, "checkpoints": 300, "checkpoints/best": 200}


def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(run: Path) -> None:
    path = run / "checkpoints" / "images_000000000300.ckpt"
    path.write_bytes(path.read_bytes()[:-1000])
    assert images(run) == 200
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"PK")
    with pytest.raises(ValueError, match=f"all 3 checkpoints of {run} are damaged; put a copy back"):
        find_checkpoint(run)


def test_what_a_folder_stands_for_is_hashed_once_and_the_best_one_too(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []

    def noting(path: Path) -> bool:
        hashed.append(path.name[-8:-5])
        return check_seal(path)

    for module in ("run_folder", "checkpoints"):
        monkeypatch.setattr(f"models.files.{module}.check_seal", noting)
    for name in ("", "best", "checkpoints/images_000000000100.ckpt"):
        load_generator(run / name)
    assert hashed == ["300", "300", "200", "100"]  # the record of the best one stands in the last


def test_what_is_missing_is_named(run: Path) -> None:
    (run / "checkpoints" / "images_000000000200.ckpt").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"images_000000000200\.ckpt, which the run in .+ remembers as its best"
    ):
        find_checkpoint(run / "best")
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint at .+/worst; check the path$"):
        find_checkpoint(run / "worst")
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match="has written none yet"):
        find_checkpoint(run)
