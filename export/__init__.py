"""A trained model to artefacts: the static form, TorchScript, ONNX and safetensors, and whatever restores faces."""

from export.bundle import ExportReport, export_bundle
from export.parity import ParityFaces
from export.restorers import Restorer, load_restorer
from export.static_network import StaticGPEN

__all__ = ["ExportReport", "ParityFaces", "Restorer", "StaticGPEN", "export_bundle", "load_restorer"]
