"""A bundle with fp16 and int8, made once of real faces and read back as a deployment engineer would."""

import hashlib
import json
import runpy
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from PIL import Image

from data.faces.files import Pictures, open_faces
from data.ranges import model_to_uint8, uint8_to_model
from evaluation.metrics.image_metrics import psnr, ssim
from export.bundle.absolute_paths import write_absolute_lists
from export.bundle.assembly import export_bundle
from export.bundle.contents import ExportReport, FormResult
from export.bundle.faces import choose_faces, enlarged_warnings
from export.bundle.precision_forms import missed_budgets
from export.formats.options import ExportSettings, ParityFaces
from export.int8.quantization import QuantizationSettings, quantize
from export.int8.simulation import Quality
from export.static.graph import map_layers
from export.static.network import StaticGPEN
from inference.restorers import accepted_deprecations, load_restorer
from models import load_generator
from system.live_progress import ignore_step
from system.machine import processor

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "gpen_64.safetensors"
SETTINGS = ExportSettings(("float32", "fp16", "int8"), calibration_faces=12, evaluation_faces=10, sensitivity_faces=2)


@pytest.fixture(scope="module")
def bundle(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    folder = tmp_path_factory.mktemp("vacc") / "bundle"
    return folder, export_bundle(SHIPPED, folder, ParityFaces(photographs, images=4), SETTINGS)


@pytest.fixture(scope="module")
def layers(bundle: tuple[Path, ExportReport]) -> list[dict[str, Any]]:
    return json.loads((bundle[0] / "layer_map.json").read_text())["layers"]


def test_every_artefact_restores_golden_faces_as_the_trained_network(bundle: tuple[Path, ExportReport]) -> None:
    folder, report = bundle
    generator = load_generator(SHIPPED)
    stems = [Path(line).stem for line in (folder / "golden" / "datalist.txt").read_text().splitlines()]
    assert len(stems) == report.images.number == 4
    for stem in stems:
        pixels = np.load(folder / "golden" / "inputs" / f"{stem}.npz")["input_0"]
        assert pixels.dtype == np.uint8 and pixels.shape == (3, 64, 64)
        picture = np.asarray(Image.open(folder / "golden" / "images" / f"{stem}.png"))
        assert np.array_equal(picture.transpose(2, 0, 1), pixels)
        degraded = uint8_to_model(torch.from_numpy(pixels)[None])
        with torch.no_grad():
            expected = generator(degraded)
        golden = np.load(folder / "golden" / "outputs" / "float32" / f"{stem}.npz")["output_0"]
        assert golden.shape == (1, 3, 64, 64) and golden.dtype == np.float32
        torch.testing.assert_close(torch.from_numpy(golden), expected, rtol=0, atol=1e-5)
        for name in ("generator.safetensors", "generator.torchscript.pt", "generator.onnx", "generator_opset11.onnx"):
            torch.testing.assert_close(load_restorer(folder / name)(degraded), expected, rtol=0, atol=2e-5)
        for name in ("generator_int8.torchscript.pt", "generator_int8.onnx"):
            restored = load_restorer(folder / name)(degraded)
            assert float(psnr(model_to_uint8(restored), model_to_uint8(expected))) > 38, name


def test_int8_figures_in_the_report_are_those_a_fresh_evaluation_gives(
    bundle: tuple[Path, ExportReport], photographs: Path
) -> None:
    folder, report = bundle
    faces = choose_faces(ParityFaces(photographs, images=4), SETTINGS, 64)
    network = StaticGPEN(load_generator(SHIPPED))
    assert faces.calibration is not None
    fresh = quantize(network, map_layers(network), faces.calibration, SETTINGS.quantization(), ignore_step)
    stored = {result.form: result for result in report.results}
    with torch.no_grad():
        exact = model_to_uint8(network(uint8_to_model(faces.evaluation.degraded)))
        executed = load_restorer(folder / "generator_int8.onnx")(uint8_to_model(faces.evaluation.degraded))
    for form, image in (
        ("float32", exact),
        ("int8 (mse), simulated", model_to_uint8(fresh.simulate(faces.evaluation.degraded))),
        ("int8 (mse), onnxruntime", model_to_uint8(executed)),
    ):
        figures = stored[form].quality
        assert figures is not None
        assert figures.psnr == pytest.approx(float(psnr(image, faces.evaluation.target).mean()), abs=2e-3)
        assert figures.ssim == pytest.approx(float(ssim(image, faces.evaluation.target).mean()), abs=1e-4)
    share = sum(layer.flops for layer in map_layers(network) if fresh.precisions[layer.name] == "int8") / report.flops
    assert report.int8_flops_share == pytest.approx(share)


def test_shipped_network_meets_the_targets_of_int8_and_fp16(bundle: tuple[Path, ExportReport]) -> None:
    results = {result.form: result for result in bundle[1].results}
    exact, half, integer = (results[f].quality for f in ("float32", "fp16, simulated", "int8 (mse), simulated"))
    assert exact is not None and half is not None and integer is not None
    assert exact.psnr - integer.psnr < 0.10
    assert exact.ssim - integer.ssim < 0.005
    assert abs(exact.psnr - half.psnr) < 0.01
    assert integer.psnr_to_float > 45
    assert bundle[1].int8_flops_share is not None and bundle[1].int8_flops_share >= 0.95


def test_settings_of_the_compiler_read_back_with_the_values_of_the_zoo(
    bundle: tuple[Path, ExportReport], layers: list[dict[str, Any]]
) -> None:
    folder, _ = bundle
    for precision in ("fp16", "int8"):
        settings = yaml.safe_load((folder / "vacc" / f"{precision}.yaml").read_text())
        frontend, backend = settings["frontend"], settings["backend"]
        assert (frontend["type"], frontend["dtype"], frontend["shape"]) == (
            "pytorch",
            "fp32",
            {"input": [1, 3, 64, 64]},
        )
        assert (backend["type"], backend["dtype"]) == ("tvm_vacc", precision)
        assert backend["compile"] == {
            "data_transport_mode": 1,
            "output_ddr": [-1, 1],
            "switch_lhs_rhs": True,
            "opt_level": 2,
            "data_type": 0,
        }
        with accepted_deprecations():
            traced = torch.jit.load(folder / frontend["checkpoint"])
        assert [argument.name for argument in traced.forward.schema.arguments] == ["self", "input"]
        assert traced(torch.zeros(1, 3, 64, 64)).shape == (1, 3, 64, 64)
    quantize_options = backend["quantize"]
    assert quantize_options.pop("exclude_layers") == [
        layer["conv2d_index"] for layer in layers if layer["precision"] == "fp16" and layer["conv2d_index"] is not None
    ]
    assert quantize_options == {
        "calibrate_mode": "mse",
        "quantize_per_channel": True,
        "weight_scale": "power2",
        "output_ddr": [-1],
        "quantize_mode": "manual",
    }
    pictures = list((folder / settings["dataset"]["path"]).glob(f"*.{settings['dataset']['sampler']['suffix']}"))
    assert len(pictures) == settings["dataset"]["sampler"]["get_data_num"] == 12
    with Image.open(pictures[0]) as picture:
        assert picture.size == (64, 64)


def test_layer_map_names_the_convolutions_of_the_trace_that_is_compiled(
    bundle: tuple[Path, ExportReport], layers: list[dict[str, Any]]
) -> None:
    with accepted_deprecations():
        traced = torch.jit.load(bundle[0] / "generator_int8.torchscript.pt")
    found = []
    for node in traced.inlined_graph.nodes():
        operands = list(node.inputs())
        if node.kind() == "aten::_convolution":
            assert operands[1].node().kind() == "prim::GetAttr", "a weight is computed at run time"
            if not operands[6].toIValue():
                path, value = [], operands[1].node()
                while value.kind() == "prim::GetAttr":
                    path.append(value.s("name"))
                    value = next(iter(value.inputs())).node()
                found.append(".".join(reversed(path)).removesuffix(".weight"))
    numbered = [layer["name"] for layer in layers if layer["conv2d_index"] is not None]
    assert found == numbered
    assert [layer["conv2d_index"] for layer in layers if layer["conv2d_index"] is not None] == list(range(len(found)))
    assert sum(layer["flops"] for layer in layers) == bundle[1].flops


def test_no_convolution_of_the_onnx_files_computes_its_weight_at_run_time(bundle: tuple[Path, ExportReport]) -> None:
    for name in ("generator.onnx", "generator_opset11.onnx", "generator_int8.onnx"):
        graph = onnx.load(bundle[0] / name).graph
        makers = {output: node for node in graph.node for output in node.output}
        constants = {tensor.name for tensor in graph.initializer}
        convolutions = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
        assert len(convolutions) == 31
        for node in convolutions:
            weight = node.input[1]
            if weight in makers:  # codes that are read
                assert makers[weight].op_type == "DequantizeLinear"
                weight = makers[weight].input[0]
            assert weight in constants


def test_preprocessing_is_that_of_the_zoo_at_the_size_of_the_network(bundle: tuple[Path, ExportReport]) -> None:
    settings = json.loads((bundle[0] / "vacc" / "preprocessing.json").read_text())
    assert settings["OpType"] == "FUSION_OP_RGB_RESIZE_CVTCOLOR_NORM_TENSOR"
    assert settings["OpConfig"] == {
        "IimageFormat": "RGB_PLANAR",
        **{f"{which}image{side}": 64 for which in "IO" for side in ("Width", "Height")},
        **{f"Iimage{side}Pitch": 64 for side in ("Width", "Height")},
        "Mean": [0.5, 0.5, 0.5],
        "Std": [0.5, 0.5, 0.5],
        "NormaType": "DIV255_MINUSMEAN_DIVSTD",
        "ColorCvtCode": "NO_CHANGE",
        "ResizeType": "BILINEAR_CV",
    }


def test_lists_become_absolute_and_checksums_hold(
    bundle: tuple[Path, ExportReport], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, report = bundle
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    digests = dict(reversed(line.split("  ", 1)) for line in lines)
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert digests.keys() == files - {"SHA256SUMS", "report.json"}
    assert all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == d for name, d in digests.items())
    assert all(digests[name] == digest for name, digest in report.sha256.items())
    monkeypatch.setattr(sys, "argv", ["absolute_paths.py"])
    runpy.run_path(str(folder / "absolute_paths.py"), run_name="__main__")
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.parent.name for path in written] == ["calibration", "golden"]
    for path in written:
        listed = [Path(line) for line in path.read_text().splitlines()]
        assert len(listed) == {"calibration": 12, "golden": 4}[path.parent.name]
        assert all(one.is_absolute() and one.is_file() for one in listed)
        path.unlink()


def test_a_list_of_files_that_are_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no datalist"):
        write_absolute_lists(tmp_path)
    (tmp_path / "datalist.txt").write_text("gone.npz\n")
    with pytest.raises(FileNotFoundError, match=r"gone\.npz"):
        write_absolute_lists(tmp_path)


def test_no_photograph_is_calibrated_and_measured_on(photographs: Path) -> None:
    faces = choose_faces(ParityFaces(photographs, images=4), SETTINGS, 64)
    assert faces.calibration is not None
    assert len(faces.calibration.names) == 12 and len(faces.evaluation.names) == 10
    assert not set(faces.calibration.names) & set(faces.evaluation.names)
    assert not torch.equal(faces.calibration.degraded[0], faces.evaluation.degraded[0])
    assert faces.golden.names == faces.evaluation.names[:4]


def test_transparent_faces_are_laid_over_the_color_that_was_asked_for(tmp_path: Path) -> None:
    for index in range(4):
        Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(tmp_path / f"{index}.png")
    compare_on = ParityFaces(tmp_path, "small", images=2, pictures=Pictures("#ff8000"))
    faces = choose_faces(compare_on, replace(SETTINGS, calibration=tmp_path), 64)
    assert faces.calibration is not None and faces.range_faces is not None
    for images in (faces.calibration.target, faces.evaluation.target, faces.range_faces):
        assert (images == torch.tensor([255, 128, 0], dtype=torch.uint8)[:, None, None]).all()


class Sources(HTMLParser):
    """Collects what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_is_self_contained_and_says_what_was_not_run(bundle: tuple[Path, ExportReport]) -> None:
    page = Sources()
    page.feed((bundle[0] / "report.html").read_text())
    assert len(page.sources) == 3 and all(source.startswith("data:image/") for source in page.sources)
    assert "compiler and card were not at hand" in page.text
    integer = next(result for result in bundle[1].results if result.form == "int8 (mse), simulated")
    assert integer.quality is not None and f"{integer.quality.psnr:.3f}" in page.text
    assert "encoder.convolutions.3" in page.text


def test_clean_calibration_faces_are_noticed_and_degraded_ones_are_not(
    bundle: tuple[Path, ExportReport], photographs: Path
) -> None:
    folder = bundle[0]
    clean, degraded = (
        choose_faces(
            ParityFaces(photographs, images=4),
            ExportSettings(("int8",), calibration=folder / place, calibration_faces=4, evaluation_faces=8),
            64,
        )
        for place in ("golden/targets", "calibration/images")
    )
    (warning,) = clean.warnings
    assert "look clean, not degraded" in warning and "Laplacian" in warning
    assert degraded.warnings == ()
    assert degraded.calibrated_on is not None and len(degraded.calibrated_on.names) == 12


def test_what_an_engineer_reads_says_why(bundle: tuple[Path, ExportReport], layers: list[dict[str, Any]]) -> None:
    folder, report = bundle
    settings = (folder / "vacc" / "int8.yaml").read_text()
    for words in (
        "# the float32 trace that was made for int8",
        "[] means that all are int8",
        "does not say what it means",
    ):
        assert words in settings
    assert all(layer["reason"] for layer in layers)
    assert layers[0]["inputs"] == ["input"] and layers[0]["input_range"][0] >= -1
    assert [layer["name"] for layer in layers if layer["outputs"] == ["output"]]
    named = {layer["name"]: layer for layer in layers}
    for layer in layers:
        for source in set(layer["inputs"]) - {"input"}:
            assert layer["name"] in named[source]["outputs"]
        assert (layer["input_range"] is None) == (layer["kind"] == "linear")
    difference = report.differences["generator_int8.torchscript.pt"]
    assert 0 <= difference.mean <= difference.largest < 2e-5
    assert report.processor in (folder / "report.html").read_text()


def test_forms_that_miss_their_budget_are_named_with_the_processor_that_ran_them() -> None:
    exact = FormResult("float32", 100.0, Quality(25.0, 0.7, 100.0))
    good = FormResult("int8 (mse), simulated", 48.0, Quality(24.95, 0.7, 48.0))
    bad = FormResult("int8 (mse), onnxruntime", 25.9, Quality(24.4, 0.6, 25.9))
    (warning,) = missed_budgets([exact, good, bad], QuantizationSettings())
    assert "onnxruntime" in warning and processor() in warning
    assert "0.600 dB below float and 25.9 dB from it" in warning


def test_enlarged_calibration_faces_are_a_warning(photographs: Path) -> None:
    faces = open_faces(photographs).take(slice(2))
    assert enlarged_warnings(faces, 128) == ()
    (warning,) = enlarged_warnings(faces, 256)
    assert (
        "calibration faces smaller than 256 x 256 pixels" in warning and "2 of 2" in warning and "128 x 128" in warning
    )
