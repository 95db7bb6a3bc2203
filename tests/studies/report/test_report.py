import csv
import html
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from statistics import stdev

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from studies.comparison import Comparison, Member, Variant
from studies.report.page import write_comparison

MakeMember = Callable[..., Member]
Compare = Callable[..., Comparison]

CONCAT, ADD = [20.0, 21.0, 22.0, 23.0, 24.0], [19.0, 20.0, 21.0, 22.0, 23.0]


def cells_of_page(page: Path) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", page.read_text())
    return [[html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


def cells_of_markdown(path: Path) -> list[list[str]]:
    """Rows of all tables as a parser of its own reads them."""
    rows: list[list[str]] = []
    is_cell = False
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text()):
        if token.type == "tr_open":
            rows.append([])
        is_cell = token.type in ("td_open", "th_open") or (is_cell and token.type == "inline")
        if token.type == "inline" and is_cell:
            rows[-1].append("".join(child.content for child in token.children or ()))
            is_cell = False
    return rows


def test_the_tables_hold_means_and_deviations_computed_by_hand(written: Path) -> None:
    rows = cells_of_page(written / "report.html")
    header = next(row for row in rows if row[:2] == ["variant", "seeds"] and "parameters M" in row)
    assert header == ["variant", "seeds", "PSNR dB ↑", "FID ↓", "parameters M", "GFLOPs", "training time"]
    first = rows.index(header)
    quality = {row[0]: row for row in rows[first + 1 : first + 4]}
    deviation = stdev([22.0, 22.2])
    assert quality["concat"][1:4] == ["2", f"22.100 ± {deviation:.3f}", "30.50 ± 0.71"]
    assert quality["add"][2] == f"21.050 ± {stdev([21.0, 21.1]):.3f}"
    assert quality["degraded input"][2] == "21.000"
    # 1,000 images at 50 a second and 1,000 at 100 take 30 seconds.
    assert quality["concat"][6] == "0.5 ± 0.0 min"


def test_page_markdown_and_csv_hold_the_same_numbers(written: Path) -> None:
    page = written / "report.html"
    assert cells_of_page(page) == cells_of_markdown(written / "report.md")
    tidy = list(csv.DictReader((written / "report.csv").read_text().splitlines()))
    psnr = {(r["variant"], r["member"]): float(r["value"]) for r in tidy if r["metric"] == "psnr"}
    assert psnr[("concat", "seed 1")] == pytest.approx(22.2) and psnr[("add", "seed 0")] == pytest.approx(21.0)
    assert psnr[("degraded input", "")] == pytest.approx(21.0)
    seconds = [float(row["value"]) for row in tidy if row["metric"] == "restoration training_seconds"]
    assert seconds == [30.0] * 4
    (difference,) = csv.DictReader((written / "differences.csv").read_text().splitlines())
    assert (difference["variant"], difference["reference"], difference["metric"]) == ("add", "concat", "psnr")
    assert float(difference["difference"]) == pytest.approx(-1.05)
    shown = next(row for row in cells_of_page(page) if row[:3] == ["add", "small", "PSNR dB ↑"])
    assert shown[3] == "−1.050"
    assert shown[4] == "[−1.050, −1.050]"  # each face lost as much as every other
    low, high = float(difference["faces_and_seeds_low"]), float(difference["faces_and_seeds_high"])
    assert shown[5] == f"[{low:.3f}, {high:.3f}]".replace("-", "−")


def test_a_difference_is_said_in_words_with_its_interval_and_its_limits(written: Path) -> None:
    text = html.unescape((written / "report.html").read_text())
    assert re.search(
        r"small: add is 1\.050 dB PSNR below concat \(worse\) \[−1\.\d+, −0\.\d+\]: significant, also", text
    )


def test_one_seed_each_speaks_of_these_networks_only(make_member: MakeMember, compare: Compare, tmp_path: Path) -> None:
    one = Variant("a", "", (make_member("a.onnx", {"small": {"psnr": CONCAT}}, folder="a"),))
    other = Variant("b", "", (make_member("b.onnx", {"small": {"psnr": ADD}}, folder="b"),))
    page = write_comparison(compare(one, other), tmp_path / "out")
    rows = cells_of_page(page)
    quality = next(row for row in rows if row[:2] == ["b", "1"])
    assert quality[2] == "21.000" and quality[5] == "–"
    shown = next(row for row in rows if row[:2] == ["b", "small"])
    assert shown[5] == "–" and shown[8] == "significant for these networks"
    text = page.read_text()
    assert "this says nothing about training again" in text and "±–" not in text.replace(" ", "")
    assert "one seed has no deviation: its figure stands alone" in text
    assert not (tmp_path / "out" / "configs").exists()


def test_equal_networks_are_level_and_lower_is_better_where_it_is(
    make_member: MakeMember, compare: Compare, tmp_path: Path
) -> None:
    tables = [{"psnr": CONCAT, "lpips": [0.3 + shift + i / 100 for i in range(5)]} for shift in (0.0, 0.1)]
    members = [make_member("x", {"small": t}, folder=n) for n, t in zip("ab", tables, strict=True)]
    one, other = (Variant(n, "", (member,)) for n, member in zip("ab", members, strict=True))
    page = write_comparison(compare(one, other), tmp_path / "out").read_text()
    assert "small: b is level with a in PSNR (0.000 dB) [+0.000, +0.000]: these networks are not disting" in page
    assert "small: b is 0.1000 LPIPS above a (worse) [+0.1000, +0.1000]" in page


def test_a_significant_difference_too_small_for_its_digits_is_not_called_level(
    make_member: MakeMember, compare: Compare, tmp_path: Path
) -> None:
    tables = [{"psnr": [value + shift for value in CONCAT]} for shift in (0.0, 0.0002)]
    members = [make_member("x", {"small": t}, folder=n) for n, t in zip("ab", tables, strict=True)]
    one, other = (Variant(n, "", (member,)) for n, member in zip("ab", members, strict=True))
    page = html.unescape(write_comparison(compare(one, other), tmp_path / "out").read_text())
    assert "small: b is less than 0.001 dB PSNR above a (better) [" in page
    assert "these networks differ significantly" in page and "level with" not in page


def test_the_page_says_in_words_who_makes_faces_worse(
    make_member: MakeMember, compare: Compare, tmp_path: Path
) -> None:
    good, bad = (
        make_member("x", {"small": {"psnr": CONCAT, "lpips": [0.3] * 5}}),
        make_member("x", {"small": {"psnr": CONCAT, "lpips": [0.3] * 5}}, folder="b"),
    )
    # the fixture's degraded faces are one less; here the restored ones are 8.5 dB below those
    change_rows(bad, lambda row: {"restored_psnr": float(row["degraded_psnr"]) - 8.5})
    page = write_comparison(compare(Variant("a", "", (good,)), Variant("b", "", (bad,))), tmp_path / "out").read_text()
    assert (
        "small: b makes faces worse: 8.500 dB PSNR below, 1.0000 LPIPS above the degraded faces it was given." in page
    )
    assert "small: a makes faces worse: 1.0000 LPIPS above the degraded faces it was given." in page


def change_rows(member: Member, change: Callable[[dict[str, str]], dict[str, float]]) -> None:
    """Writes other figures per face into the results of a member."""
    file = member.evaluations["small"] / "per_image.csv"
    rows = list(csv.DictReader(file.read_text().splitlines()))
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | change(row) for row in rows)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_change_that_chance_may_have_made_is_neither_better_nor_worse(
    make_member: MakeMember, compare: Compare, tmp_path: Path, sign: int
) -> None:
    changes = [sign * value for value in (0.012, -0.006, 0.001, 0.004, -0.006)]  # 0.001 on average
    pair = [make_member("x", {"small": {"identity": [0.5] * 5}}, folder=name) for name in "ab"]
    for member, by in zip(pair, ([0.0] * 5, changes), strict=True):
        left = iter(by)
        change_rows(member, lambda _, left=left: {"degraded_identity": 0.5, "restored_identity": 0.5 + next(left)})
    variants = [Variant(name, "", (member,)) for name, member in zip("ab", pair, strict=True)]
    text = html.unescape(write_comparison(compare(*variants), tmp_path / "out").read_text())
    assert (
        "small: cannot be told apart from the degraded input in identity: a, b." in text and "faces worse" not in text
    )
    side = "above" if sign > 0 else "below"
    assert f"small: b is 0.0010 identity {side} a [" in text and "(worse)" not in text and "(better)" not in text


def test_with_several_seeds_faces_are_made_worse_where_another_training_would_too(
    make_member: MakeMember, compare: Compare, tmp_path: Path
) -> None:
    seeds = [make_member(f"seed {i}", {"small": {"psnr": CONCAT}}) for i in range(2)]
    for member, by in zip(seeds, (-0.05, 0.03), strict=True):  # certain for each network, not for training again
        change_rows(member, lambda row, by=by: {"restored_psnr": float(row["degraded_psnr"]) + by})
    text = write_comparison(compare(Variant("a", "", tuple(seeds))), tmp_path / "out").read_text()
    assert "small: cannot be told apart from the degraded input in PSNR: a." in text and "faces worse" not in text


def test_a_single_variant_has_a_report_without_differences(
    make_member: MakeMember, compare: Compare, tmp_path: Path
) -> None:
    only = Variant("a", "", (make_member("seed 0", {"small": {"psnr": CONCAT}}),))
    page = write_comparison(compare(only, missing={"add": "its run failed: disk full"}), tmp_path / "out").read_text()
    assert "No differences: one variant was measured." in page and "its run failed: disk full" in page
    assert (tmp_path / "out" / "differences.csv").read_text().count("\n") == 1


def test_a_metric_that_some_lack_is_a_dash_and_no_difference(
    make_member: MakeMember, compare: Compare, tmp_path: Path
) -> None:
    with_both = Variant("a", "", (make_member("x", {"small": {"psnr": CONCAT, "ssim": [0.5] * 5}}, folder="a"),))
    without = Variant("b", "", (make_member("x", {"small": {"psnr": ADD}}, folder="b"),))
    rows = cells_of_page(write_comparison(compare(with_both, without), tmp_path / "out"))
    assert next(row for row in rows if row[:2] == ["b", "1"])[3] == "–"
    differences = csv.DictReader((tmp_path / "out" / "differences.csv").read_text().splitlines())
    assert [row["metric"] for row in differences] == ["psnr"]


@pytest.mark.parametrize(
    "changed",
    [{"images_fingerprint": "0" * 64}, {"resolution": 64}, {"metrics": {"psnr": "another definition"}}, {"seed": 1}],
)
def test_networks_that_were_measured_on_other_pairs_are_refused(
    make_member: MakeMember, compare: Compare, tmp_path: Path, changed: dict[str, object]
) -> None:
    one = Variant("a", "", (make_member("x", {"small": {"psnr": CONCAT}}, folder="a"),))
    other = Variant("b", "", (make_member("x", {"small": {"psnr": ADD}}, folder="b", **changed),))
    with pytest.raises(ValueError, match="identical pairs"):
        write_comparison(compare(one, other), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_results_of_another_file_are_refused(make_member: MakeMember, compare: Compare, tmp_path: Path) -> None:
    member = make_member("x", {"small": {"psnr": CONCAT}}, model_sha256="0" * 64)
    with pytest.raises(ValueError, match="not those of"):
        write_comparison(compare(Variant("a", "", (member,))), tmp_path / "out")


def test_names_of_variants_are_text_wherever_they_appear(
    make_member: MakeMember, compare: Compare, tmp_path: Path
) -> None:
    name = "<b>x</b> | *y* & `z`_"
    variants = [
        Variant(n, "<i>", (make_member("x", {"small": {"psnr": values}}, {"settings": {"noise": n}}, folder=f),))
        for n, values, f in (("plain", CONCAT, "a"), (name, ADD, "b"))
    ]
    page = write_comparison(compare(*variants), tmp_path / "out")
    assert "<b>" not in page.read_text() and "<i>" not in page.read_text()
    for rows in (cells_of_page(page), cells_of_markdown(tmp_path / "out" / "report.md")):
        assert any(row[0] == name for row in rows)
    assert sorted(p.name for p in (tmp_path / "out" / "configs").iterdir()) == [
        "_b_x_b_y_z___restoration.yaml",
        "plain_restoration.yaml",
    ]


def test_no_folder_of_the_machine_is_published(written: Path) -> None:
    for path in written.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"/data/alice" not in content and str(written.parent).encode() not in content, path.name


def test_photographs_are_left_out_where_they_may_not_be_published(
    comparison: Comparison, written: Path, tmp_path: Path
) -> None:
    page = write_comparison(comparison, tmp_path, with_photographs=False).read_text()
    words = "degraded | concat | add | target"
    assert words in (written / "report.html").read_text() and words not in page
    files = [folder / "pictures" / "faces_small.png" for folder in (written, tmp_path)]
    with Image.open(files[0]) as first, Image.open(files[1]) as second:
        shown, published = np.asarray(first), np.asarray(second)
    assert (shown.shape[1], published.shape[1]) == (4 * 132 + 4, 2 * 132 + 4)
    assert (published[:, 4:132] == shown[:, 136:264]).all()  # the restored faces are the same


def test_settings_that_differ_are_shown_and_configurations_lie_beside(written: Path) -> None:
    page = written / "report.html"
    rows = cells_of_page(page)
    assert ["restoration: model, noise", "concat", "add"] in rows
    assert not any(row[0].endswith(("run, folder", "data, faces", "run, seed")) for row in rows)
    assert "noise: add" in (written / "configs" / "add_restoration.yaml").read_text()
    assert "noise: add" in page.read_text()


def test_circumstances_that_differ_are_named_with_those_that_have_them(
    make_member: MakeMember, compare: Compare, tmp_path: Path
) -> None:
    members = [
        make_member(f"seed {i}", {"small": {"psnr": CONCAT}}, {"git_dirty": bool(i), "settings": {"rate": i}})
        for i in range(2)
    ]
    page = write_comparison(compare(Variant("a", "", tuple(members))), tmp_path / "out")
    commit = next(row for row in cells_of_page(page) if row[0] == "commit")[1]
    assert commit == (
        "0123456789abcdef (a, seed 0, restoration); 0123456789abcdef with uncommitted changes (a, seed 1, restoration)"
    )
    assert "differ in more than the seed: restoration: model, rate" in page.read_text()


def test_the_curve_is_the_mean_of_the_seeds(written: Path) -> None:
    page = (written / "report.html").read_text()
    for name in ("restoration_validation_psnr", "restoration_generator_l1"):
        assert (written / "pictures" / f"{name}.svg").read_text().startswith("<?xml")
    assert "restoration: PSNR on validation faces; mean over seeds" in page


def test_variants_without_members_are_no_rows_and_a_missing_reference_no_differences(
    make_member: MakeMember, compare: Compare, tmp_path: Path
) -> None:
    variants = [
        Variant("a", "", ()),
        *(Variant(n, "", (make_member("x", {"small": {"psnr": CONCAT}}, folder=n),)) for n in ("b", "c")),
    ]
    page = write_comparison(compare(*variants), tmp_path / "out")
    assert "the reference a was not measured" in page.read_text()
    assert not any(row[0] == "a" for row in cells_of_page(page))
    with pytest.raises(ValueError, match="at least one network"):
        compare(Variant("a", "", ()))


@pytest.mark.parametrize("width_pixels", [420, 1200])
def test_nothing_reaches_beyond_the_page_as_tables_scroll_inside_their_frames(
    written: Path, tmp_path: Path, width_pixels: int
) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium to lay the page out")
    frame = tmp_path / "frame.html"
    page = html.escape((written / "report.html").read_text())
    frame.write_text(
        f'<iframe width="{width_pixels}" height="800" style="border: 0" srcdoc="{page}"></iframe>'
        '<script>onload = () => { const page = document.querySelector("iframe").contentDocument;'
        'const wide = [...page.querySelectorAll(".frame")].filter((f) => f.scrollWidth > f.clientWidth).length;'
        "const root = page.documentElement;"
        "document.title = [root.scrollWidth, root.clientWidth, wide].join(' ') }</script>"
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [browser, *options, "--window-size=1400,900", "--dump-dom", frame.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    title = re.search("<title>([0-9]+) ([0-9]+) ([0-9]+)</title>", shown)
    assert title is not None, shown[:500]
    content, visible, num_scrolling = map(int, title.groups())
    assert content == visible and 0 < visible <= width_pixels
    assert (num_scrolling > 0) == (width_pixels < 1000)
