"""What comes back from a card: matched by name, measured, and traced to a layer."""

import copy
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from data.ranges import model_to_uint8, uint8_to_model
from export.bundle.assembly import export_bundle
from export.card.evaluation import evaluate_card, read_bundle, read_outputs
from export.card.fault_location import Suspect, is_sure, locate_fault
from export.formats.options import ExportSettings, ParityFaces
from export.static.graph import map_layers
from export.static.network import StaticGPEN
from models import GPEN, Architecture, save_release
from scripts.evaluate_bundle import main
from system import command_line


@pytest.fixture(scope="module")
def generator(random_generator: Callable[[Architecture], GPEN]) -> GPEN:
    return random_generator(Architecture(32, 1, 0.03125, "concat", 16, 1))


@pytest.fixture(scope="module")
def bundle(generator: GPEN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    save_release(folder / "g.safetensors", generator, numbers="float32")
    export_bundle(folder / "g.safetensors", folder / "bundle", ParityFaces(images=12), ExportSettings(("fp16",)))
    return folder / "bundle"


def damaged(generator: GPEN, layer: str) -> StaticGPEN:
    """The network with noise on the weight of one layer."""
    network = copy.deepcopy(StaticGPEN(generator))
    weight = network.get_submodule(layer).weight
    assert isinstance(weight, Tensor)
    with torch.no_grad():
        weight.add_(torch.randn_like(weight) * weight.std() * 0.2)
    return network


def card_outputs(bundle: Path, network: Callable[[Tensor], Tensor], folder: Path) -> Path:
    """Outputs as vamp names them: by their number in the list, without leading zeros."""
    folder.mkdir()
    with torch.no_grad():
        for index, image in enumerate(network(uint8_to_model(read_bundle(bundle).degraded))):
            np.savez(folder / f"output_{index}.npz", output_0=image[None].numpy().astype(np.float16))
    return folder


def test_numbered_files_belong_to_the_list_and_not_to_their_sorted_order(
    bundle: Path, generator: GPEN, tmp_path: Path
) -> None:
    golden = read_bundle(bundle)
    outputs = card_outputs(bundle, generator, tmp_path / "card")
    assert sorted(path.name for path in outputs.iterdir())[:3] == ["output_0.npz", "output_1.npz", "output_10.npz"]
    read = read_outputs(outputs, golden.stems, 32)
    torch.testing.assert_close(read, golden.outputs["float32"], rtol=0, atol=5e-3)
    assert not evaluate_card(golden, "fp16", read).is_different


def test_files_with_the_names_of_the_inputs_belong_to_them_in_any_form(
    bundle: Path, generator: GPEN, tmp_path: Path
) -> None:
    golden = read_bundle(bundle)
    arrays, pictures = tmp_path / "arrays", tmp_path / "pictures"
    arrays.mkdir()
    pictures.mkdir()
    for stem, image in zip(reversed(golden.stems), reversed(golden.outputs["float32"]), strict=True):
        np.savez(arrays / f"{stem}.npz", output_0=image.numpy())
        pixels = model_to_uint8(image).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(pictures / f"{stem}.png")
    assert torch.equal(read_outputs(arrays, golden.stems, 32), golden.outputs["float32"])
    from_pictures = model_to_uint8(read_outputs(pictures, golden.stems, 32))
    assert torch.equal(from_pictures, model_to_uint8(golden.outputs["float32"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "output_3.npz").unlink(), "exactly one output for each of 12"),
        (lambda folder: shutil.copy(folder / "output_3.npz", folder / "again_3.npz"), "holds 2 for"),
        (lambda folder: (folder / "output_3.npz").rename(folder / "output_99.npz"), "0 to 11"),
        (lambda folder: (folder / "output_3.npz").rename(folder / "three.npz"), "names of the inputs"),
        (lambda folder: np.savez(folder / "output_3.npz", output_0=np.zeros((1, 3, 64, 64))), "shape"),
        (lambda folder: np.savez(folder / "output_3.npz", output_0=np.zeros((3, 32, 32), np.uint8)), "floating-point"),
        (lambda folder: np.savez(folder / "output_3.npz", other=np.zeros(3)), "the array output_0"),
        (lambda folder: (folder / "output_3.npz").write_bytes(b"no archive"), "must be an npz file"),
        (lambda folder: (folder / "output_3.npz").write_bytes(b"PK\x03\x04cut off"), "must be an npz file"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "at least one face image"),
    ],
)
def test_outputs_that_do_not_fit_the_golden_faces_are_refused(
    bundle: Path, generator: GPEN, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    outputs = card_outputs(bundle, generator, tmp_path / "card")
    change(outputs)
    with pytest.raises(ValueError, match=message):
        read_outputs(outputs, read_bundle(bundle).stems, 32)


@pytest.mark.parametrize(
    "layer", ["blocks.1.plain.convolution", pytest.param("encoder.convolutions.1", marks=pytest.mark.slow)]
)
def test_command_names_the_layer_that_was_damaged(
    bundle: Path,
    generator: GPEN,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    layer: str,
) -> None:
    outputs = card_outputs(bundle, damaged(generator, layer), tmp_path / "card")
    arguments = [str(bundle), "--outputs", str(outputs), "--json", str(tmp_path / "card.json")]
    monkeypatch.setattr(sys, "argv", ["evaluate_bundle", *arguments])
    with pytest.raises(SystemExit) as caught:
        command_line.run(main)
    assert caught.value.code == 0
    stored = json.loads((tmp_path / "card.json").read_text())
    assert stored["is_different"] and stored["precision"] == "fp16"
    assert stored["suspects"][0]["name"] == layer
    assert stored["suspects"][0]["cause"] == "wrong constants"
    assert stored["suspects"][0]["share"] > 0.5
    printed = capsys.readouterr().out
    assert "DIFFERS" in printed
    assert f"{layer} (wrong constants)" in printed
    with pytest.raises(SystemExit) as caught:
        command_line.run(main)
    assert caught.value.code == 2 and "card.json exists already" in capsys.readouterr().err


def test_a_layer_that_was_quantized_is_told_from_one_with_wrong_constants(generator: GPEN) -> None:
    network = StaticGPEN(generator)
    random = torch.Generator().manual_seed(0)
    degraded = torch.rand(4, 3, 32, 32, generator=random) * 2 - 1
    errors = {name: torch.randn(4, 3, 32, 32, generator=random) for name in ("first_layer.convolution", "to_latent")}
    observed = errors["to_latent"] + 0.3 * torch.randn(4, 3, 32, 32, generator=random)
    suspects = locate_fault(network, ["first_layer.convolution"], degraded, observed, errors)
    assert (suspects[0].name, suspects[0].cause) == ("to_latent", "quantized")
    assert suspects[0].share == pytest.approx(1 / 1.09, abs=0.03)
    assert is_sure(suspects)
    unclear = [Suspect("a", "quantized", 0.6), Suspect("a", "wrong constants", 0.59), Suspect("b", "quantized", 0.55)]
    assert not is_sure(unclear)
    assert is_sure(unclear[:2])
    assert not is_sure([Suspect("a", "quantized", 0.4)])


def test_a_change_that_is_small_is_explained_completely_on_faces_it_was_not_fitted_to(generator: GPEN) -> None:
    network = StaticGPEN(generator)
    layers = [layer.name for layer in map_layers(network)]
    changed = copy.deepcopy(network)
    random = torch.Generator().manual_seed(0)
    degraded = torch.rand(8, 3, 32, 32, generator=random) * 2 - 1
    with torch.no_grad():
        changed.blocks[0].to_rgb.convolution.weight.mul_(1.001)
        error = changed(degraded) - network(degraded)
    suspects = locate_fault(network, layers, degraded, error)
    assert suspects[0].name == "blocks.0.to_rgb.convolution"
    assert suspects[0].share > 0.99


def test_identical_outputs_have_no_fault_to_locate(bundle: Path, generator: GPEN) -> None:
    golden = read_bundle(bundle)
    evaluation = evaluate_card(golden, "float32", golden.outputs["float32"])
    assert not evaluation.is_different and "agrees" in evaluation.verdict
    assert evaluation.mean.to_clean is None
    with pytest.raises(ValueError, match="at least two faces"):
        locate_fault(StaticGPEN(generator), [], torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 32, 32))


def test_outputs_that_are_no_numbers_differ_and_point_to_an_overflow(bundle: Path) -> None:
    golden = read_bundle(bundle)
    outputs = golden.outputs["fp16"].clone()
    outputs[2, 0, 0, 0] = float("nan")
    evaluation = evaluate_card(golden, "fp16", outputs)
    assert evaluation.is_different
    assert "1 output with values that are not finite" in evaluation.verdict


def test_a_folder_that_is_no_bundle_and_a_precision_that_is_not_in_it_are_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="must be a complete bundle"):
        read_bundle(tmp_path)
    damaged = shutil.copytree(bundle, tmp_path / "damaged")
    for change in (lambda path: path.write_text("\n"), lambda path: path.unlink()):
        change(damaged / "golden" / "datalist.txt")
        with pytest.raises(ValueError, match=r"datalist\.txt must name the golden faces, but names none"):
            read_bundle(damaged)
    (damaged / "report.json").write_text('{"resolution": 32, "precisions": 5}')
    with pytest.raises(ValueError, match=r"report\.json is damaged .+; export the bundle again"):
        read_bundle(damaged)
    golden = read_bundle(bundle)
    with pytest.raises(ValueError, match="float32, fp16, got int8"):
        evaluate_card(golden, "int8", golden.outputs["float32"])
