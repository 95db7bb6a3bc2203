"""The README of a bundle: what the files are and how to run each; its code runs as it stands."""

from export.artefacts import INPUT_NAME, ONNX_NAME, OUTPUT_NAME, SAFETENSORS_NAME, TORCHSCRIPT_NAME
from models import Architecture

_TEXT = """# Face restoration, {resolution}×{resolution}

GPEN (arXiv 2105.06070), channel multiplier {multiplier}, narrow {narrow:g}, noise mode `{noise_mode}`. All files hold
the same network; how far each lies from the trained one, its FLOPs and its parameters stand in `report.json`.

| file | what it is | input | output |
|---|---|---|---|
| `{torchscript}` | TorchScript trace, float32, CPU | `{input}` {shape} | one tensor {shape} |
| `{onnx}` | ONNX, opset {opset}, float32 | `{input}` {shape} | `{output}` {shape} |
| `{safetensors}` | trained weights, float32, for this project | [N, 3, {resolution}, {resolution}] | the same |

The ONNX file takes one image at a time; so does, for compilers, the trace, which PyTorch runs on any number.

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

session = onnxruntime.InferenceSession("{onnx}", providers=["CPUExecutionProvider"])
(restored,) = session.run(["{output}"], {{"{input}": read_face("face.png")}})
write_face(restored, "restored_onnx.png")
```

## TorchScript

```python
import torch

network = torch.jit.load("{torchscript}")
with torch.no_grad():
    restored = network(torch.from_numpy(read_face("face.png"))).numpy()
write_face(restored, "restored_torchscript.png")
```

## This project

From its repository, for any of the three files:
`python -m scripts.restore_faces --checkpoint {safetensors} --input FOLDER --output FOLDER`; in Python:

```python
from export.restorers import load_restorer

restorer = load_restorer("{safetensors}")
write_face(restorer(torch.from_numpy(read_face("face.png"))).numpy(), "restored_safetensors.png")
```
"""


def readme_text(architecture: Architecture, opset: int) -> str:
    """Writes the README of a bundle.

    Args:
        architecture: Of the network.
        opset: Of the ONNX file.

    Returns:
        Markdown; its Python blocks, run one after the other in the bundle beside a `face.png`, restore it.
    """
    return _TEXT.format(
        resolution=architecture.resolution,
        multiplier=architecture.channel_multiplier,
        narrow=architecture.narrow,
        noise_mode=architecture.noise_mode,
        shape=f"[1, 3, {architecture.resolution}, {architecture.resolution}]",
        torchscript=TORCHSCRIPT_NAME,
        onnx=ONNX_NAME,
        safetensors=SAFETENSORS_NAME,
        input=INPUT_NAME,
        output=OUTPUT_NAME,
        opset=opset,
    )
