"""The README of a bundle: what the files are and how to run each; its Python runs as it stands."""

from export.bundle import contents
from export.bundle.contents import ExportReport
from export.formats import artefacts

_TEXT = """# Face restoration, {resolution}×{resolution}

GPEN (arXiv 2105.06070), {network}. How far each
form lies from the trained network, its FLOPs and its parameters stand in `report.html` and `report.json`.

| file | what it is | input | output |
|---|---|---|---|
| `{files.TORCHSCRIPT_NAME}` | TorchScript trace, float32, CPU | {input} | one tensor {shape} |
| `{files.ONNX_NAME}` | ONNX, opset {report.opset}, float32, for onnxruntime | {input} | {output} |
| `{files.COMPILER_ONNX_NAME}` | ONNX, opset {files.COMPILER_OPSET}, float32, for compilers | {input} | {output} |
| `{files.SAFETENSORS_NAME}` | trained weights, float32, for this project | {any_number} | the same |
{integer_rows}| `layer_map.json` | number, kind, weight, FLOPs and precision of every layer | | |
| `golden/` | degraded faces and what each precision should make of them | | |
| `vacc/` | settings of the VACC compiler and runtime | | |

The ONNX files take one image at a time; so does, for compilers, the trace, which PyTorch runs on any number.
`sha256sum --check {checksums}` checks the files.

## Before and after

The input is an aligned face of {resolution}×{resolution} pixels, RGB, planes first (NCHW), float32 in [-1, 1]:
`(pixel / 255 - 0.5) / 0.5`, that is mean 0.5 and standard deviation 0.5 for every channel. The output has the same
layout and about the same range; clip it: `pixel = round(clip(value * 0.5 + 0.5, 0, 1) * 255)`.

```python
import numpy as np
from PIL import Image

def read_face(path):
    image = Image.open(path).convert("RGB").resize(({resolution}, {resolution}), Image.Resampling.LANCZOS)
    return (np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255 - 0.5) / 0.5

def write_face(values, path):
    pixels = np.clip(values[0] * 0.5 + 0.5, 0, 1).transpose(1, 2, 0) * 255
    Image.fromarray(pixels.round().astype(np.uint8)).save(path)
```

## ONNX

```python
import onnxruntime

session = onnxruntime.InferenceSession("{files.ONNX_NAME}", providers=["CPUExecutionProvider"])
(restored,) = session.run(["{files.OUTPUT_NAME}"], {{"{files.INPUT_NAME}": read_face("face.png")}})
write_face(restored, "restored_onnx.png")
```

## TorchScript

```python
import torch

network = torch.jit.load("{files.TORCHSCRIPT_NAME}")
with torch.no_grad():
    restored = network(torch.from_numpy(read_face("face.png"))).numpy()
write_face(restored, "restored_torchscript.png")
```

## This project

From its repository, for any of these files:
`python -m scripts.restore_faces --checkpoint {files.SAFETENSORS_NAME} --input FOLDER --output FOLDER`; in Python:

```python
from inference.restorers import load_restorer

restorer = load_restorer("{files.SAFETENSORS_NAME}")
write_face(restorer(torch.from_numpy(read_face("face.png"))).numpy(), "restored_safetensors.png")
```
"""

_CARD = """
## On a VACC card

Written from the public model zoo (Vastai/VastModelZOO); `vamc` and `vamp` could not be run where this bundle was
made, so look at their first messages. Run everything in this folder, for {precisions}:

    python {script}
{commands}
The first command writes `golden/datalist.absolute.txt`, since vamp wants absolute paths. Then, from the repository
of the project, on any machine:

    python -m scripts.evaluate_bundle BUNDLE --outputs BUNDLE/card_PRECISION --precision PRECISION

compares what came back with the golden outputs and the clean faces, file by file, and names the layer most likely at
fault where it differs. Output files may have the names of the inputs or end in their number in the list (from 0).
"""

_COMMANDS = """    vamc compile vacc/{precision}.yaml
    vamp -m deploy_weights/gpen_{resolution}_{precision}/mod --vdsp_params vacc/preprocessing.json \\
        -i 1 p 1 -b 1 -s [3,{resolution},{resolution}] \\
        --datalist golden/datalist.absolute.txt --path_output card_{precision}
"""

_LAYERS = """
`exclude_layers` in `vacc/int8.yaml` are the numbers `conv2d_index` of `layer_map.json`: nn.conv2d calls from 0,
depthwise ones included, transposed ones not, as TVM's relay.quantize counts. If a compiler counts otherwise, its log
shows another number of convolutions than the {num_convolutions} here; then map the excluded ones by their shapes.
"""


def readme_text(report: ExportReport, num_convolutions: int) -> str:
    """Writes the README of a bundle, of which so many layers have a number, in Markdown; its Python blocks, run one
    after the other in the bundle beside a `face.png`, restore it."""
    resolution = report.resolution
    shape = f"[1, 3, {resolution}, {resolution}]"
    given, made = f"`{artefacts.INPUT_NAME}` {shape}", f"`{artefacts.OUTPUT_NAME}` {shape}"
    integer_rows = ""
    if "int8" in report.precisions:
        trace, quantized = contents.INTEGER_TORCHSCRIPT_NAME, contents.INTEGER_ONNX_NAME
        integer_rows = (
            f"| `{trace}` | TorchScript trace rescaled for int8, float32, for vamc | {given} | one tensor {shape} |\n"
            f"| `{quantized}` | int8 for onnxruntime (QDQ) | {given} | {made} |\n"
            f"| `calibration/` | {report.num_calibration} degraded faces | | |\n"
        )
    network = report.architecture
    text = _TEXT.format(
        report=report,
        files=artefacts,
        network=f"channel multiplier {network.channel_multiplier}, narrow {network.narrow:g}, noise mode "
        f"`{network.noise_mode}`",
        resolution=resolution,
        any_number=f"[N, 3, {resolution}, {resolution}]",
        shape=shape,
        input=given,
        output=made,
        integer_rows=integer_rows,
        checksums=contents.CHECKSUMS_NAME,
    )
    return text + _card_text(report, num_convolutions)


def _card_text(report: ExportReport, num_convolutions: int) -> str:
    on_card = [precision for precision in report.precisions if precision != "float32"]
    if not on_card:
        return ""
    commands = "".join(_COMMANDS.format(precision=precision, resolution=report.resolution) for precision in on_card)
    text = _CARD.format(precisions=" and ".join(on_card), script=contents.PATHS_SCRIPT_NAME, commands=commands)
    return text + (_LAYERS.format(num_convolutions=num_convolutions) if "int8" in on_card else "")
