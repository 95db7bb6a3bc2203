"""A trained model to artefacts: the static form, TorchScript, ONNX and safetensors, and whatever restores faces."""

from export.bundle import export_bundle
from export.bundle_contents import ExportReport, ExportSettings
from export.parity import ParityFaces
from export.restorers import Restorer, load_restorer
from export.static_network import StaticGPEN

__all__ = ["ExportReport", "ExportSettings", "ParityFaces", "Restorer", "StaticGPEN", "export_bundle", "load_restorer"]
