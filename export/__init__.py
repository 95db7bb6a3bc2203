"""A trained model to artefacts: the static form, TorchScript, ONNX and safetensors, and whatever restores faces."""

from export.bundle.assembly import export_bundle
from export.bundle.contents import ExportReport, ExportSettings
from export.formats.parity import ParityFaces
from export.static.network import StaticGPEN
from inference.restorers import Restorer, load_restorer

__all__ = ["ExportReport", "ExportSettings", "ParityFaces", "Restorer", "StaticGPEN", "export_bundle", "load_restorer"]
