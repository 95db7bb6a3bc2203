"""The report of a bundle as one page that needs nothing but a browser or a printer."""

import re
from collections.abc import Sequence

from matplotlib.figure import Figure

from data.ranges import model_to_uint8
from evaluation.reports.charts import BLUE, VERMILION, Curve, svg_of
from evaluation.reports.pictures import comparison_rows
from evaluation.reports.report import Report
from export.bundle.contents import INTEGER_TORCHSCRIPT_NAME, ExportReport
from export.bundle.faces import BundleFaces
from export.bundle.precision_forms import PrecisionForms
from export.formats.artefacts import COMPILER_ONNX_NAME, COMPILER_OPSET, ONNX_NAME, SAFETENSORS_NAME, TORCHSCRIPT_NAME
from export.int8.layer_selection import LayerSensitivity
from export.static.graph import LARGEST_HALF, KindCost
from system.wording import counted

NUM_PICTURES = 6
NOT_RUN = (
    "The VACC compiler and card were not at hand: the files for them follow the public model zoo, fp16 and int8 are "
    "simulations of their arithmetic, and onnxruntime's int8 is another engine. scripts.evaluate_bundle tells how far "
    "the card is from them."
)
ZOO_HEADER = ("Models", "Flops(G)", "Params(M)", "PSNR(dB)", "SSIM", "Shapes")


def bundle_page(report: ExportReport, faces: BundleFaces, forms: PrecisionForms) -> Report:
    """Writes the page of what was measured, with pictures of the faces."""
    page = Report(f"Export of {report.checkpoint}")
    page.add_paragraph(
        f"GPEN for {report.resolution}×{report.resolution} pixels, channel multiplier "
        f"{report.architecture.channel_multiplier}, narrow {report.architecture.narrow:g}, noise mode "
        f"{report.architecture.noise_mode}, upsampling {report.upsampling.replace('_', ' ')}. {NOT_RUN}"
    )
    _add_warnings(page, report)
    _add_quality(page, report)
    if faces.has_targets:
        _add_pictures(page, faces, forms)
    _add_artefacts(page, report)
    if report.ranges:
        _add_ranges(page, report)
    if forms.quantized is not None:
        _add_integers(page, report, forms)
    _add_layers(page, forms)
    _add_cost(page, report)
    return page


def zoo_rows(report: ExportReport) -> list[tuple[str, str, str, str, str, str]]:
    """The lines of the deployment zoo's table, no cell empty; a dash where faces to measure on were not given."""
    shape = f"3x{report.resolution}x{report.resolution}"
    rows = []
    for result in report.results:
        form = "" if result.form == "float32" else f" {result.form}"
        figures = ("–", "–") if result.quality is None else (f"{result.quality.psnr:.3f}", f"{result.quality.ssim:.4f}")
        cost = f"{report.flops / 1e9:.3f}", f"{report.parameters / 1e6:.3f}"
        rows.append((f"GPEN{form}", *cost, *figures, shape))
    return rows


def difference_rows(report: ExportReport) -> list[tuple[str, str, str, str]]:
    """Name of each artefact, what it is, and its largest and mean difference."""
    what = {
        SAFETENSORS_NAME: "trained weights, float32",
        TORCHSCRIPT_NAME: "TorchScript trace, float32, static form",
        ONNX_NAME: f"ONNX, opset {report.opset}",
        COMPILER_ONNX_NAME: f"ONNX, opset {COMPILER_OPSET}",
        INTEGER_TORCHSCRIPT_NAME: "TorchScript trace, float32, that int8 is compiled from",
    }
    return [(n, what[n], f"{found.largest:.1e}", f"{found.mean:.1e}") for n, found in report.differences.items()]


def _add_warnings(page: Report, report: ExportReport) -> None:
    page.add_heading("Attention")
    for warning in report.warnings:
        page.add_paragraph(f"Warning: {warning}.")
    if not report.warnings:
        page.add_paragraph("No warnings.")


def _add_quality(page: Report, report: ExportReport) -> None:
    page.add_heading("Quality")
    used = report.images
    where = f"{counted(report.num_evaluation, 'face')} (preset {used.degradation}, seed {used.seed})"
    if used.degradation is None:
        where = f"{counted(report.num_evaluation, 'smooth synthetic image')}, which are no faces"
    page.add_table(ZOO_HEADER, zoo_rows(report), f"In the zoo's format; means over {where} that int8 was not chosen on")
    page.add_paragraph(f"Measured on: {report.evaluated_on}. onnxruntime ran on {report.processor}.")
    rows = []
    reference = report.results[0].quality
    for result in report.results:
        drops = ("–", "–")
        if result.quality is not None and reference is not None:
            drops = f"{reference.psnr - result.quality.psnr:.4f}", f"{reference.ssim - result.quality.ssim:.5f}"
        rows.append((result.form, *drops, f"{result.psnr_to_float:.2f}" if result.form != "float32" else "–"))
    page.add_table(("form", "loss of PSNR [dB]", "loss of SSIM", "PSNR to float [dB]"), rows, "Against float32")


def _add_pictures(page: Report, faces: BundleFaces, forms: PrecisionForms) -> None:
    number = min(NUM_PICTURES, len(faces.golden.names))
    restored = {form: model_to_uint8(images[:number]) for form, images in forms.restored.items()}
    columns = [faces.golden.degraded[:number], *restored.values(), faces.golden.target[:number]]
    headings = ["degraded", *(re.sub(r" \(\w+\)", "", form) for form in restored), "target"]
    page.add_picture(comparison_rows(columns, headings), f"Golden faces, from left to right: {' | '.join(headings)}")


def _add_artefacts(page: Report, report: ExportReport) -> None:
    page.add_heading("Artefacts")
    caption = (
        f"Run and compared on {report.images.number} {report.images.kind}, units of [-1, 1]: with the trained network, "
        "the trace for int8 with the rescaled network whose biases were corrected"
    )
    rows = difference_rows(report)
    page.add_table(("file", "what it is", "largest difference", "mean"), rows, caption)
    page.add_table(("file", "SHA-256"), list(report.sha256.items()))


def _add_ranges(page: Report, report: ExportReport) -> None:
    page.add_heading("Ranges for fp16")
    named = {name: values for name, values in report.ranges.items() if name}
    numbers = list(range(len(named)))
    largest = [max(values.largest, 1e-6) for values in named.values()]
    limit = Curve("largest fp16 number", numbers, [LARGEST_HALF] * len(numbers))
    page.add_curves(
        [Curve("largest absolute value", numbers, largest), limit],
        "module in order of execution",
        "absolute value",
        "Largest absolute value of every module in float32, over the golden faces",
        logarithmic=True,
    )
    top = sorted(named.items(), key=lambda item: -item[1].largest)[:10]
    rows = [(name, f"{values.largest:.4g}", f"{LARGEST_HALF / values.largest:.0f}") for name, values in top]
    page.add_table(("module", "largest value", "times to overflow"), rows, "The ten largest; report.json has all")
    energies = [(name, f"{v.smallest_energy:.3g}") for name, v in named.items() if v.smallest_energy is not None]
    page.add_table(
        ("layer", "smallest sum of squares"), energies, "Under the root of the demodulation; ε becomes 0 in fp16"
    )


def _add_integers(page: Report, report: ExportReport, forms: PrecisionForms) -> None:
    page.add_heading("int8")
    quantized = forms.quantized
    assert quantized is not None and report.int8_flops_share is not None  # the caller looked
    page.add_paragraph(
        f"{report.int8_flops_share:.2%} of the FLOPs are in int8, calibrated on {report.num_calibration} degraded "
        "faces. Activations have one step per tensor, weights one per output channel that is a power of two."
    )
    if quantized.reasons:
        page.add_table(("convolution", "why it stays in floating point"), list(quantized.reasons.items()))
    else:
        page.add_paragraph("No convolution had to stay in floating point.")
    if quantized.sensitivity:
        caption = "What each convolution costs in int8 on calibration faces: alone, and as the only one spared"
        page.add_svg(sensitivity_plot(quantized.sensitivity), caption)
    ranges = [(name, f"{low:.4g}", f"{high:.4g}") for name, (low, high) in quantized.input_ranges.items()]
    page.add_table(("convolution", "smallest input", "largest input"), ranges, "On the calibration faces")


def _add_layers(page: Report, forms: PrecisionForms) -> None:
    page.add_heading("Layers")
    rows = []
    for entry in forms.layers:
        layer, number = entry.layer, "–" if entry.layer.conv2d_index is None else entry.layer.conv2d_index
        shape, cost = "×".join(map(str, layer.weight_shape)), f"{layer.flops / 1e9:.4f}"
        rows.append((layer.name, number, layer.kind, shape, cost, entry.precision))
    header = ("layer", "number", "kind", "weight", "GFLOPs", "precision")
    page.add_table(header, rows, "Numbers as exclude_layers means them: nn.conv2d calls only, from 0")


def _add_cost(page: Report, report: ExportReport) -> None:
    page.add_heading("Cost of one image")
    costs = [*report.cost_by_kind]
    costs.append(KindCost("all", sum(cost.num_layers for cost in costs), report.flops, report.parameters))
    rows = [
        (c.kind, c.num_layers, f"{c.flops / 1e9:.4f}", f"{c.flops / report.flops:.1%}", f"{c.parameters:,}")
        for c in costs
    ]
    header = ("layers", "number", "GFLOPs", "share", "trained parameters")
    page.add_table(header, rows, "A multiplication and an addition are two FLOPs")
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    page.add_paragraph(f"Written with {versions}.")


def sensitivity_plot(sensitivity: Sequence[LayerSensitivity]) -> bytes:
    """Draws what each convolution costs, in the order of execution: SVG with the drops in PSNR on the left and the
    distance to the float network's images on the right."""
    names = [row.name for row in sensitivity]
    places = range(len(names))
    figure = Figure(figsize=(9, 1.2 + 0.19 * len(names)), layout="constrained")
    drops, distances = figure.subplots(1, 2, sharey=True)
    alone = [(row.drop_alone_db, row.psnr_to_float_alone_db) for row in sensitivity]
    all_but = [(row.drop_all_but_db, row.psnr_to_float_all_but_db) for row in sensitivity]
    pairs = (("alone in int8", BLUE, "o", alone), ("all but this in int8", VERMILION, "s", all_but))
    for label, colour, marker, values in pairs:
        for axes, column in ((drops, 0), (distances, 1)):
            axes.plot([value[column] for value in values], places, marker, color=colour, label=label, markersize=4)
    drops.set_yticks(places, names, fontsize=7)
    drops.invert_yaxis()
    drops.set_xlabel("drop in PSNR against the clean faces, dB")
    distances.set_xlabel("PSNR against the float network's images, dB")
    for axes in (drops, distances):
        axes.locator_params(axis="x", nbins=4)  # more of their numbers, such as -0.015, would run into each other
        axes.grid(alpha=0.3)
    figure.legend(*drops.get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=8)
    return svg_of(figure)
