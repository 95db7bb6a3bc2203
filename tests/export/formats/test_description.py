"""A few true lines about any file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from export.formats.artefacts import write_onnx, write_torchscript
from export.formats.description import describe_checkpoint
from export.static.network import StaticGPEN
from models import GPEN, Discriminator, NoiseMode
from models.files.public_format import public_discriminator_name, public_generator_name, to_public
from scripts import describe_checkpoint as command


def test_a_release_is_described_with_its_card(checkpoint: Path, generators: dict[NoiseMode, GPEN]) -> None:
    facts = describe_checkpoint(checkpoint)
    assert facts["kind"] == "release file of this project" and facts["network"] == "GPEN, a restorer"
    assert facts["parameters"] == f"{sum(p.numel() for p in generators['concat'].parameters()):,}"
    assert "resolution 64" in facts["architecture"] and "noise mode concat" in facts["architecture"]
    assert facts["data"] == "none" and facts["discriminator"] == "none"
    assert facts["tensors"].endswith("complete, all values finite") and facts["FLOPs"].endswith("G for one face")


def test_a_public_file_is_described_with_what_was_taken_and_its_licence(
    generators: dict[NoiseMode, GPEN], tmp_path: Path
) -> None:
    state = to_public(generators["concat"].state_dict(), public_generator_name)
    judge = to_public(Discriminator(generators["concat"].architecture).state_dict(), public_discriminator_name)
    torch.save({"params_ema": state, "d": judge}, tmp_path / "a.pth")
    facts = describe_checkpoint(tmp_path / "a.pth")
    assert facts["kind"] == "public GPEN checkpoint" and facts["read"] == "taken from params_ema"
    assert facts["licence"].startswith("public GPEN weights come without a licence")
    assert facts["discriminator"].endswith("channels 32, 32, 32, 32, 16 from 4×4 upwards")
    torch.save({"params_ema": state, "d": {}}, tmp_path / "b.pth")
    assert describe_checkpoint(tmp_path / "b.pth")["discriminator"].startswith(
        "unusable: holds no discriminator: its entry d"
    )
    torch.save(judge, tmp_path / "d.pth")
    assert describe_checkpoint(tmp_path / "d.pth")["kind"] == "a discriminator alone"


def test_a_checkpoint_of_a_run_is_described_with_recipe_data_and_figures(
    make_run: Callable[..., Path], run: Callable[..., tuple[int, str, str]]
) -> None:
    folder = make_run("a")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["model"]["init_args"] |= {"degradation": "small", "loss_weights": {"l1": 1.0}}
    config["data"] = {"batch_size": 8}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "run.json").write_text(
        json.dumps(
            {
                "data": {"fingerprint": "0123abcd"},
                "sessions": [{"num_processes": 1, "num_threads": 1, "precision": "32-true"}],
            }
        )
    )
    (folder / "validation.csv").write_text("images_seen,validation/psnr\n1000,20\n2000,21.5\n")
    code, out, _ = run(command.main, folder)
    lines = dict(line.split(": ", 1) for line in out.splitlines())
    assert code == 0 and lines["kind"] == "Lightning checkpoint" and lines["data"] == "fingerprint 0123abcd"
    assert lines["trained with"] == "seed 0, batch size 8"
    assert lines["recipe"] == "degradation small, loss weights (L1 1)"
    assert lines["last validation"] == "images seen 2000, validation/psnr 21.5" and "preset small" in lines["protocol"]
    (folder / "run.json").write_text("{")
    code, _, error = run(command.main, folder)
    assert code == 2 and "run.json is damaged" in error


def test_an_exported_model_is_described_and_anything_else_refused(
    checkpoint: Path, generators: dict[NoiseMode, GPEN], tmp_path: Path
) -> None:
    write_onnx(tmp_path / "a.onnx", StaticGPEN(generators["concat"]))
    facts = describe_checkpoint(tmp_path / "a.onnx")
    assert facts["resolution"] == "64 pixels" and "ONNX a.onnx" in facts["kind"]
    assert facts["opset"] == "20, 1 face at a time" and facts["constants"].endswith(" float")
    assert facts["FLOPs"] == describe_checkpoint(checkpoint)["FLOPs"] and facts["licence"].startswith("not in the file")
    write_onnx(tmp_path / "many.onnx", StaticGPEN(generators["concat"]), 17, dynamic_batch=True)
    assert describe_checkpoint(tmp_path / "many.onnx")["opset"] == "17, any number of faces at a time"
    write_torchscript(tmp_path / "trace.pt", StaticGPEN(generators["concat"]))
    assert describe_checkpoint(tmp_path / "trace.pt")["parameters"] == facts["parameters"]
    (tmp_path / "b.pth").write_text("<html>")
    with pytest.raises(ValueError, match=r"b\.pth is a text file that begins with '<html>'"):
        describe_checkpoint(tmp_path / "b.pth")
