"""What may be read and written where."""

import os
from pathlib import Path

import pytest

from system.paths import check_apart, check_output_folder


def test_output_folders_in_which_something_could_be_lost_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, used = tmp_path / "in", tmp_path / "used"
    for folder in (inputs, used):
        folder.mkdir()
        (folder / "x.png").touch()
    for output in (inputs, inputs / "restored", tmp_path):
        with pytest.raises(ValueError, match="must not lie in one another"):
            check_output_folder(output, overwrite=True, inputs=inputs)
    with pytest.raises(ValueError, match="add --overwrite"):
        check_output_folder(used, overwrite=False, inputs=inputs)
    (tmp_path / "link").symlink_to("nowhere")
    for output, words in (("used/x.png", "used/x.png is a file"), ("used/x.png/a/b", "used/x.png is a file"),
                          ("link/a", "link is a link to nothing")):  # fmt: skip
        with pytest.raises(ValueError, match=f"output must be a folder, {tmp_path}/{words}; choose another name"):
            check_output_folder(tmp_path / output, overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: path != tmp_path)
        with pytest.raises(ValueError, match=f"can be written to, {tmp_path} cannot; choose another place"):
            check_output_folder(tmp_path / "new" / "x", overwrite=True)
    check_output_folder(used, overwrite=True, inputs=inputs)
    check_output_folder(tmp_path / "new", overwrite=False, inputs=inputs)


def test_inputs_below_outputs_are_refused_also_through_links(tmp_path: Path) -> None:
    (tmp_path / "output" / "faces").mkdir(parents=True)
    (tmp_path / "output" / "faces" / "0.png").touch()
    (tmp_path / "input").mkdir()
    outputs = [tmp_path / "output" / "faces"]
    check_apart(outputs, {"which is read (--faces)": tmp_path / "input"}, "--overwrite")
    check_apart(outputs, {"which is read (--faces)": tmp_path / "output"}, "--overwrite")
    (tmp_path / "input" / "link.png").symlink_to(tmp_path / "output" / "faces" / "0.png")
    with pytest.raises(ValueError, match=r"--overwrite would remove .*0\.png, which is read \(--faces\); write to"):
        check_apart(outputs, {"which is read (--faces)": tmp_path / "input"}, "--overwrite")
