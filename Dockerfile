# syntax=docker/dockerfile:1
# The trainer for machines with NVIDIA GPUs; the CUDA libraries come with PyTorch's wheels, only the driver is the host's.
#   docker build --tag gpen-trainer .
#   docker run --rm --gpus all --ipc host --volume /data/faces:/faces:ro --volume /data/runs:/runs gpen-trainer \
#       train fit --config configs/prior_512.yaml --data.faces /faces --run.folder /runs/prior_512 --trainer.devices 8
FROM python:3.11-slim-bookworm

# Before the code: this layer of about 7 GB is built again only when the versions change.
WORKDIR /app
COPY requirements.lock .
RUN --mount=type=cache,target=/var/cache/pip \
    PIP_CACHE_DIR=/var/cache/pip python -m pip install --disable-pip-version-check --requirement requirements.lock

# Nothing is written beside the code: a run writes below --run.folder, caches go to XDG_CACHE_HOME.
RUN useradd --uid 10001 --create-home gpen && mkdir /runs && chown gpen /runs
COPY . .
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 XDG_CACHE_HOME=/tmp/cache TORCH_HOME=/tmp/cache/torch MPLCONFIGDIR=/tmp/cache
USER 10001
VOLUME /runs

# Python is process 1 and gets SIGTERM itself: it saves and exits with 143; give it time: docker stop --timeout 300.
ENTRYPOINT ["python", "-m"]
CMD ["train", "fit", "--help"]
