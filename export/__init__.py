"""A trained model to artefacts: the static form, TorchScript, ONNX and safetensors, and a bundle for the card."""

from system.interruption import end_interrupted_in_one_line

end_interrupted_in_one_line()
