"""Both stages on a device without numbers: nothing is left on the host, and the host asks for nothing while it trains.

Where a function's own tests cannot tell on a machine without a GPU, whole runs tell here.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import alexnet

from evaluation.metrics.choice import choose_metrics
from losses.identity import ArcFace
from tests.fixtures.devices import DeviceWatch
from tests.train.conftest import Train
from train.stages.restoration_losses import RestorationLossWeights

SHORT = (
    *("--run.total_images", 8, "--run.log_every_images", 8),
    *("--run.validate_every_images", 8, "--run.checkpoint_every_images", 4),
)
"""Two batches: both lazy terms in the first one, a checkpoint after it, a row and a validation after the second."""
OPTIMIZATION = "--model.init_args.optimization"
REGULATED = (
    *(f"{OPTIMIZATION}.clip_norm.generator", 1, f"{OPTIMIZATION}.clip_norm.discriminator", 1),
    *(f"{OPTIMIZATION}.schedule.warm_up_images", 8, f"{OPTIMIZATION}.discriminator_waits_below", 0.6),
)
"""What may look at an update before it is made, or change it: bounds, rates, a discriminator that waits."""
PINNED = {
    # Parameters of a batch; on a GPU both copy from pinned memory and go on at once.
    ("copy", "data/degradation/synthesis.py:to_device"),
    ("copy", "data/degradation/synthesis.py:_apply_jitter"),
    ("copy", "data/degradation/operators.py:compress_jpeg"),
}
LOGGING = {
    # When a row is logged: means of the losses, flags of skipped updates, speed and memory.
    ("read", "train/run/progress.py:Meters.read"): 1,
    ("read", "train/run/progress.py:SkippedUpdates._values"): 2,  # and in the checkpoint before it
    ("read", "train/reporting/console.py:Reporting._host_values"): 1,
    # When a checkpoint is written: the same sums, before they are read.
    ("read", "train/run/progress.py:Meters.state"): 4,  # one for each group of names
    ("read", "train/reporting/console.py:Reporting.state_dict"): 2,
}
DEGRADATION = """
first: {blur: {motion_probability: 0.5}}
second: {blur: {probability: 0.8}}
color:
  jitter_probability: 0.7
  brightness_range: [0.5, 1.5]
  contrast_range: [0.5, 1.5]
  saturation_range: [0.5, 1.5]
  grey_probability: 0.5
"""


def requests_of(watch: DeviceWatch, is_training: bool) -> Counter[tuple[str, str]]:
    """What was asked for within iterations, or between two of them; without start, end and the reading of faces."""
    asked: Counter[tuple[str, str]] = Counter()
    around = (
        "train/training.py:Training._train",
        "train/stages/embedding.py:describe_checksums",
        "restoration_losses.py:RestorationLosses.to",
    )
    for request, number in watch.requests.items():
        is_counted = is_training or request.kind != "host"  # the host may compute while it validates
        if request.is_training == is_training and is_counted and not request.place.endswith(around):
            asked[request.kind, request.place] += number
    return asked


def test_stage_1_asks_the_device_for_nothing_but_rows_samples_and_their_distance(
    tmp_path: Path, train: Train, meta_device: torch.device
) -> None:
    augmentation = "--model.init_args.augmentation"
    adapted = (f"{augmentation}.target", 0.6, f"{augmentation}.interval", 1)
    with DeviceWatch() as watch:
        train("prior", tmp_path, *SHORT, *REGULATED, *adapted, "--model.init_args.fid_num_images", 8)
    assert requests_of(watch, is_training=True) == {}
    validation = "train/stages/validation.py:PriorPictures"
    asked = requests_of(watch, is_training=False)
    assert asked.pop(("copy", f"{validation}._choose_metric")) > 50  # the network of fd_lite0, tensor by tensor
    assert asked == LOGGING | {
        ("read", "evaluation/reports/pictures.py:picture_grid"): 2,  # samples, at the start and at the end
        # At the start all processes agree on the distance; then features of drawn and of real faces.
        ("read", f"{validation}._choose_metric"): 1,
        ("read", "evaluation/metrics/perceptual.py:pooled_by"): 2,
        ("copy", f"{validation}._distances"): 1,
    }


@pytest.fixture
def all_terms(tmp_path: Path) -> list[object]:
    """Options that switch all losses and all of the degradation on; their networks have weights of 0."""
    loss, paths = "--model.init_args.loss_weights", {}
    with torch.device("meta"):
        networks: dict[str, nn.Module] = {"lpips": alexnet(), "identity": ArcFace()}
    for name, network in networks.items():
        state = {n: t for n, t in network.state_dict().items() if not n.startswith("classifier")}
        paths[name] = tmp_path / f"{name}.pth"
        torch.save({n: torch.zeros((), dtype=t.dtype).expand(t.shape) for n, t in state.items()}, paths[name])
    (tmp_path / "all.yaml").write_text(DEGRADATION)
    terms = [field.name for field in fields(RestorationLossWeights) if isinstance(field.default, float)]
    weights = [option for term in terms for option in (f"{loss}.{term}", 1)]
    networks_of = [f"{loss}.networks.{option}" for option in ("lpips", "lpips_path", "identity_path")]
    files = [x for pair in zip(networks_of, ("alex", paths["lpips"], paths["identity"]), strict=True) for x in pair]
    rising = [f"{loss}.adversarial_rise_images", "[0, 16]"]
    return [*weights, *rising, *REGULATED, *files, "--model.init_args.degradation", tmp_path / "all.yaml"]


def test_stage_2_asks_the_device_for_nothing_but_rows_and_restored_faces(
    tmp_path: Path, train: Train, all_terms: list[object], meta_device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring = partial(choose_metrics, lpips_weights=tmp_path / "lpips.pth")
    monkeypatch.setattr("train.stages.validation.choose_metrics", measuring)
    with DeviceWatch() as watch:
        train("restoration", tmp_path / "run", *SHORT, *all_terms)
    assert set(requests_of(watch, is_training=True)) == PINNED
    assert requests_of(watch, is_training=False) == LOGGING | {
        # Two validations of one batch: faces go to the device and back, and are asked whether they are finite.
        ("copy", "train/stages/validation.py:RestorationValidation._restore"): 2,
        ("read", "evaluation/protocol.py:_restore"): 4,
        # LPIPS: its network at the start; pairs of degraded faces once, of restored ones twice.
        ("copy", "evaluation/metrics/perceptual.py:lpips_distance"): 17,
        ("copy", "evaluation/metrics/perceptual.py:distances_by"): 6,
        ("read", "evaluation/metrics/perceptual.py:distances_by"): 3,
    }


def test_fine_tuning_in_int8_reads_ranges_once(tmp_path: Path, train: Train, meta_device: torch.device) -> None:
    num_convolutions = 17
    with DeviceWatch() as watch:
        lazy = (f"--model.init_args.regularization.{name}_interval" for name in ("r1", "path_length"))
        calibration = ("--model.init_args.optimization.quantization", "percentile")
        train("restoration", tmp_path, *SHORT, *calibration, *(word for name in lazy for word in (name, 0)))
    asked = requests_of(watch, is_training=True)
    assert {request: number for request, number in asked.items() if request not in PINNED} == {
        # Both once, from the first batch: the end of the histogram; its counts and whether all are 0.
        ("read", "models/quantization.py:histogram"): num_convolutions,
        ("read", "models/quantization.py:threshold"): 2 * num_convolutions,
        ("host", "models/quantization.py:threshold"): 3 * num_convolutions,
    }
    assert (
        requests_of(watch, is_training=False)[
            "read", "train/stages/quantized_fine_tuning.py:FakeQuantization.is_calibrated"
        ]
        == 1
    )


def ask_for_a_number(images: Tensor) -> object:
    return images.sum().item()


def ask_whether(images: Tensor) -> object:
    return bool((images > 0).all())


def ask_for_a_list(images: Tensor) -> object:
    return images.tolist()


def copy_to_the_host(images: Tensor) -> object:
    return images.cpu()


def copy_to_the_device(images: Tensor) -> object:
    return torch.ones(3).to(images.device)


def convolve_with_a_filter_on_the_host(images: Tensor) -> object:
    return torch.nn.functional.conv2d(images, torch.ones(3, 3, 1, 1))


def draw_on_the_host(images: Tensor) -> object:
    return torch.randn(images.shape)


@pytest.mark.parametrize(
    ("mistake", "kind"),
    [
        (ask_for_a_number, "read"),
        (ask_whether, "read"),
        (ask_for_a_list, "read"),
        (copy_to_the_host, "read"),
        (copy_to_the_device, "copy"),
        (convolve_with_a_filter_on_the_host, "mixed"),
        (draw_on_the_host, "host"),
    ],
)
def test_the_watch_notices(mistake: Callable[[Tensor], object], kind: str) -> None:
    with DeviceWatch() as watch:
        mistake(torch.empty(2, 3, 16, 16, device="meta"))
    assert {request.kind for request in watch.requests} == {kind}


@pytest.mark.parametrize("mistake", [Tensor.numpy, Tensor.nonzero, Tensor.unique, lambda x: x + torch.ones(3)])
def test_the_device_itself_refuses(mistake: Callable[[Tensor], object]) -> None:
    with DeviceWatch(), pytest.raises((TypeError, NotImplementedError, RuntimeError)):
        mistake(torch.empty(3, device="meta"))
