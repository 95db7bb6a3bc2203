#!/usr/bin/env bash
# Gathers what a GPU machine without internet lacks, where its Python brings torch, torchvision, pytorch-lightning,
# torchmetrics, safetensors, onnx and onnxruntime. Run it where there is internet, with the Python version and the kind of
# processor of that machine:
#   scripts/launch/offline_wheels.sh wheels                   # PYTHON=python3.12 for another version
# There, with the archive of this repository unpacked and the folder beside it:
#   wheels/install.sh                                         # PYTHON=… for the Python that brings torch
#   make test-gpu && .venv/bin/python -m scripts.check_gpu
set -euo pipefail
folder=${1:?usage: scripts/launch/offline_wheels.sh FOLDER}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# What comes with torch, and tools that only this repository's development needs, stay away.
brought='torch|torchvision|triton|pytorch-lightning|lightning-utilities|torchmetrics|safetensors|onnx|onnxruntime'
tools='mypy|mypy-extensions|ruff|ast-serialize|librt'
grep -vE "^(#|($brought|$tools|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==)" requirements.lock > "$folder/requirements.txt"
"${PYTHON:-.venv/bin/python}" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$folder" \
    --requirement "$folder/requirements.txt"

cat > "$folder/install.sh" <<'END'
#!/usr/bin/env bash
# Run in the root of the repository: .venv sees the machine's own packages, and the wheels that lie here.
set -euo pipefail
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"${PYTHON:-python3}" -c 'import torch, torchvision, pytorch_lightning, torchmetrics, safetensors, onnx, onnxruntime'
"${PYTHON:-python3}" -m venv --system-site-packages .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps --find-links "$folder" \
    --requirement "$folder/requirements.txt"
# Where PYTHON lies in an environment of its own, the packages that it brings are not the system's.
brought=$("${PYTHON:-python3}" -c 'import site; print(*(f"import site; site.addsitedir({p!r})" for p in site.getsitepackages()), sep="\n")')
echo "$brought" > "$(.venv/bin/python -c 'import site; print(site.getsitepackages()[0])')/brought.pth"
.venv/bin/python -c 'import torch; print("torch", torch.__version__, "sees", torch.cuda.device_count(), "GPUs")'
touch .venv/.complete  # nothing is to be installed by make
END
chmod +x "$folder/install.sh"
echo "$(find "$folder" -name '*.whl' | wc -l) wheels, $(du -sh "$folder" | cut -f1), in $folder"
