"""Training on stored pairs: degraded version and face stay together whatever happens to either."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from data.dataset import FaceBatch, RunImages, StoredPairs, collate_faces
from data.faces.broken import BrokenFaces, usable_faces
from data.faces.files import FaceFiles, open_faces
from data.faces.pairing import match_degraded
from data.randomness import is_flipped


@pytest.fixture
def pairs(tmp_path: Path, drawn_faces: FaceFiles) -> StoredPairs:
    """Each drawn face again at half its size, with red and blue exchanged."""
    for index, name in enumerate(drawn_faces.names):
        red, green, blue = drawn_faces.read(index).split()
        (tmp_path / "lq" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.merge("RGB", (blue, green, red)).resize((16, 16), Image.Resampling.BOX).save(tmp_path / "lq" / name)
    return StoredPairs(match_degraded(open_faces(tmp_path / "lq"), drawn_faces))


def test_both_are_the_same_photograph_in_the_same_mirror_image(drawn_faces: FaceFiles, pairs: StoredPairs) -> None:
    run, alone = RunImages(drawn_faces, 16, 3, pairs=pairs), RunImages(drawn_faces, 16, 3)
    assert {is_flipped(3, k, 0.5) for k in range(20)} == {True, False}
    for k in range(20):
        image = run[k]
        assert torch.equal(image.target, alone[k].target) and image.degraded is not None
        difference = image.degraded.flip(0).float() - image.target.float()  # Lanczos here, box there
        assert difference.abs().mean() < 12
        assert (image.degraded.flip(0).flip(-1).float() - image.target.float()).abs().mean() > 24
        assert torch.equal(run[k].degraded, image.degraded)


def test_a_share_of_the_images_is_left_to_the_preset_by_image_index_alone(
    drawn_faces: FaceFiles, pairs: StoredPairs
) -> None:
    shares = {
        share: [RunImages(drawn_faces, 8, 0, pairs=pairs._replace(synthetic_share=share))[k] for k in range(200)]
        for share in (0.0, 0.25, 0.6, 1.0)
    }
    without = {
        share: {k for k, image in enumerate(images) if image.degraded is None} for share, images in shares.items()
    }
    assert without[0.0] == set() and without[1.0] == set(range(200))
    assert 35 < len(without[0.25]) < 65 and without[0.25] < without[0.6]  # a larger share adds images
    batch = collate_faces(shares[0.25][:16])
    assert batch.has_degraded == tuple(k not in without[0.25] for k in range(16))
    assert batch.degraded is not None and len(batch.degraded) == sum(batch.has_degraded)
    parts = [batch.part(start, 4) for start in range(0, 16, 4)]
    whole = [part.degraded for part in parts if part.degraded is not None]
    assert torch.equal(torch.cat(whole), batch.degraded)
    assert sum((part.has_degraded for part in parts), ()) == batch.has_degraded
    assert collate_faces(shares[1.0][:4])[3:] == FaceBatch(torch.zeros(0), [])[3:]


def test_a_broken_half_of_a_pair_is_a_broken_pair(drawn_faces: FaceFiles, pairs: StoredPairs, tmp_path: Path) -> None:
    (tmp_path / "lq" / "2.png").write_bytes(b"no picture")
    Image.new("RGB", (16, 12)).save(tmp_path / "lq" / "3.png")
    pairs = StoredPairs(match_degraded(open_faces(tmp_path / "lq"), drawn_faces))
    broken = BrokenFaces(drawn_faces, tmp_path / "report.jsonl", 0.5)
    run = RunImages(drawn_faces, 16, 3, broken=broken, pairs=pairs)
    assert sum(run[k].is_substitute for k in range(14)) == 4  # two epochs of seven faces
    report = (tmp_path / "report.jsonl").read_text()
    assert '"2.png"' in report and "must show the same crop as its target, but they are 16 x 12 and 32 x 32" in report
    assert usable_faces(drawn_faces, tmp_path / "other.jsonl", 0.5, pairs.degraded) == [0, 1, 3, 4, 5, 6]


def test_a_set_that_does_not_fit_is_refused(drawn_faces: FaceFiles, pairs: StoredPairs) -> None:
    with pytest.raises(ValueError, match="every face needs a degraded version, got 3 for 7"):
        RunImages(drawn_faces, 16, 3, pairs=StoredPairs(pairs.degraded.take(slice(3))))
