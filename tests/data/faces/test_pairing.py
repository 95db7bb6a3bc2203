"""Pairs are found by names as people have them."""

import re
import unicodedata
from pathlib import Path

import pytest

from data.faces.files import FaceFiles
from data.faces.pairing import match_degraded


def faces(folder: str, *names: str) -> FaceFiles:
    """A set that is never read."""
    return FaceFiles(Path(folder), sorted(names), [1] * len(names))


def test_names_match_whatever_their_suffixes_and_the_faces_give_the_order() -> None:
    degraded = faces("a", "x/2.jpg", "x/1.webp", "3.png")
    assert match_degraded(degraded, faces("b", "3.tif", "x/1.png", "x/2.png")).names == ["3.png", "x/1.webp", "x/2.jpg"]


def test_names_that_look_the_same_match_whichever_system_stored_them() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Zoë.png") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert match_degraded(faces("a", decomposed), faces("b", composed)).names == [decomposed]
    with pytest.raises(ValueError, match=r"names without suffix must be unique in a, .* look the same; rename one"):
        match_degraded(faces("a", composed, decomposed), faces("b", composed))
    with pytest.raises(ValueError, match=r"unique in a, 1\.jpg and 1\.png look the same"):
        match_degraded(faces("a", "1.png", "1.jpg"), faces("b", "1.png"))


def test_case_and_a_folder_around_all_names_count_only_where_they_are_needed() -> None:
    assert match_degraded(faces("a", "IMG_2.JPG", "IMG_1.JPG"), faces("b", "img_1.png", "img_2.png")).names == [
        "IMG_1.JPG",
        "IMG_2.JPG",
    ]
    archive = faces("a.tar", "lq/x/1.png", "lq/y/1.png")
    assert match_degraded(archive, faces("b", "x/1.png", "y/1.png")).names == archive.names
    assert match_degraded(faces("a", "A.png", "a.png"), faces("b", "A.tif", "a.tif")).names == ["A.png", "a.png"]
    with pytest.raises(ValueError, match=r"without target A, a \(2\); without degraded image x/A \(1\)"):
        match_degraded(faces("a", "A.png", "a.png"), faces("b", "x/A.png"))  # which of the two?
    with pytest.raises(ValueError, match=r"without degraded image y/1 \(1\)"):
        match_degraded(faces("a", "x/1.png"), faces("b", "x/1.png", "y/1.png"))


def test_names_that_case_alone_parts_are_named_only_where_case_would_have_to_be_passed_over() -> None:
    with pytest.raises(ValueError, match=r"Face \(1\); in a only case tells FACE\.jpg and face\.jpg apart, so it has"):
        match_degraded(faces("a", "FACE.jpg", "face.jpg"), faces("b", "Face.png"), may_be_more=True)
    with pytest.raises(ValueError, match=r"; in b only case tells x/A\.png and x/a\.png apart, .*; rename or remove"):
        match_degraded(faces("a", "1.png"), faces("b", "x/A.png", "x/a.png"))
    archive = faces("a.tar", "lq/A.png", "lq/a.png")  # without its folder both have a face
    assert match_degraded(archive, faces("b", "A.png", "a.png")).names == archive.names


@pytest.mark.parametrize(
    ("templates", "degraded", "target"),
    [
        (["{}x4"], "0801x4.png", "0801.png"),
        (["{}_lq", "{}_hq"], "p/1_lq.jpg", "p/1_hq.png"),
        (["{}_lq", "{}_hq"], "\u00e9_lq.jpg", "e\u0301_hq.png"),
        (["lq-{}"], "lq-1.jpg", "1.png"),
        (["{}", "{}.clean"], "1.jpg", "1.clean.png"),
    ],
)
def test_a_template_says_how_names_differ(templates: list[str], degraded: str, target: str) -> None:
    assert match_degraded(faces("a", degraded), faces("b", target), templates).names == [degraded]
    names = " ".join(f"'{one}'" for one in templates)
    if templates[0].startswith("{}") and templates != ["{}", "{}.clean"]:  # differing ends are recognised
        with pytest.raises(ValueError, match=re.escape(f"say how the names differ, which looks like {names}")):
            match_degraded(faces("a", degraded), faces("b", target))


def test_templates_that_are_none_and_names_that_do_not_fit_are_refused() -> None:
    for names in (["x4"], ["{}{}"], ["{}", "{}", "{}"]):
        with pytest.raises(ValueError, match=r"at most two templates that hold \{\} once"):
            match_degraded(faces("a", "1.png"), faces("b", "1.png"), names)
    with pytest.raises(
        ValueError, match=r"names in a must be like \{\}x4 without their suffix, got 2\.png; correct the"
    ):
        match_degraded(faces("a", "1x4.png", "2.png"), faces("b", "1.png"), ["{}x4"])


def test_faces_without_a_degraded_version_are_named_and_others_may_be_passed_over() -> None:
    with pytest.raises(ValueError, match=r"without target 3 \(1\); without degraded image 2 \(1\); rename or remove"):
        match_degraded(faces("a", "1.png", "3.png"), faces("b", "1.png", "2.png"))
    assert match_degraded(faces("a", "1.png", "3.png"), faces("b", "3.png"), may_be_more=True).names == ["3.png"]
