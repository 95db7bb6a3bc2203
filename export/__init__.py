"""A trained model to artefacts: the static form, TorchScript, ONNX and safetensors, and a bundle for the card."""
