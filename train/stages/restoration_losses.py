"""The terms of the generator's loss in stage 2 and their weights."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from losses import distances
from losses.adversarial import feature_matching_loss, generator_logistic_loss
from losses.dlib_face import DlibIdentityLoss
from losses.dlib_landmarks import face_place, locate_faces
from losses.identity import IdentityLoss
from losses.imagenet_features import EfficientNetLite0
from losses.perceptual import LpipsLoss
from models import Discriminator
from models.discriminator import ComponentDiscriminators
from train.updates.optimization import frozen

OF_THE_DISCRIMINATOR = ("adversarial", "feature_matching", "components", "component_style")
"""Terms that read it, or those of eyes and mouth beside it."""


@dataclass(frozen=True)
class PerceptualNetworks:
    """Files of the frozen networks that some terms need."""

    lpips: Literal["alex", "vgg"] = "vgg"
    """Backbone of LPIPS as a loss."""
    lpips_path: Path | None = None
    """Its ImageNet weights; null looks in GPEN_WEIGHTS and the cache, then downloads."""
    identity_path: Path | None = None
    """IR-SE50 ArcFace weights (model_ir_se50.pth); null takes the small recognition network that comes along."""


@dataclass(frozen=True)
class RestorationLossWeights:
    """Weights of the terms; a term of weight 0 is not computed.

    Source: arXiv 2105.06070 section 3.3 for adversarial, l1 and feature_matching; the released script for smooth_l1 and
    identity.
    """

    adversarial: float = 1.0
    """Non-saturating logistic loss."""
    adversarial_rise_images: tuple[int, int] | None = None
    """Fidelity first: images seen between which the weights of the discriminators' terms (adversarial,
    feature_matching, components, component_style) rise linearly from 0; before the first they neither judge nor learn.
    Null for their full weights throughout."""
    l1: float = 1.0
    """Mean absolute difference."""
    smooth_l1: float = 0.0
    """Huber loss with beta 1, which is half the squared difference for images in [-1, 1]."""
    psnr: float = 0.0
    """Decibels that each image is from PSNR 40: what PSNR asks for, all images alike; 0.01 is about as much as l1 1."""
    perceptual: float = 0.0
    """Distance of EfficientNet-Lite0's features, whose weights come with the packages."""
    style: float = 0.0
    """L1 between Gram matrices of EfficientNet-Lite0's features."""
    texture: float = 0.0
    """DISTS' construction on EfficientNet-Lite0's features and the image itself, all channels alike."""
    focal_frequency: float = 0.0
    """Squared difference of Fourier coefficients that counts most those that are furthest off (arXiv 2012.12821)."""
    lpips: float = 0.0
    """Perceptual distance of papers; its backbone's ImageNet weights are a download."""
    feature_matching: float = 0.0
    """L1 between the discriminator's features."""
    components: float = 0.0
    """Logistic loss of further discriminators for eyes and mouth, where these stand in faces aligned as FFHQ's."""
    component_style: float = 0.0
    """L1 between Gram matrices of the features of these discriminators."""
    identity: float = 0.0
    """1 - cosine of identity vectors, by the network that comes along or by ArcFace (networks.identity_path)."""
    identity_dlib: float = 0.0
    """Squared distance of dlib's embeddings, by which the metric `identity` judges too. With `identity` above 0 each of
    the two networks judges every other face of a batch, for the time of one: what is drawn for a single network
    pleases that network only. On a GPU the gradient of its resampling is summed in no fixed order: runs with it are
    not repeated to the bit there."""
    networks: PerceptualNetworks = PerceptualNetworks()
    """Files of the frozen networks that lpips and identity need."""

    def __post_init__(self) -> None:
        weights = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(f.default, float)}
        negative = [f"{name} {value}" for name, value in weights.items() if not 0 <= value < float("inf")]
        if negative:
            raise ValueError(f"loss weights must be 0 or more, got {', '.join(negative)}")
        if not any(weights.values()):
            raise ValueError("at least one loss weight must be above 0")

        low, high = self.adversarial_rise_images or (0, 0)
        if not 0 <= low <= high:
            raise ValueError(f"adversarial_rise_images must rise from 0 or more, got ({low}, {high})")
        if low > 0 and not any(value for name, value in weights.items() if name not in OF_THE_DISCRIMINATOR):
            raise ValueError(
                f"nothing would be learned before image {low} (adversarial_rise_images) without a loss weight beside "
                f"{', '.join(OF_THE_DISCRIMINATOR)}; give l1 a weight or let them rise from 0"
            )

    def at(self, images_seen: int) -> Self:
        """The weights in the iteration at whose end so many images were seen."""
        if self.adversarial_rise_images is None:
            return self
        low, high = self.adversarial_rise_images
        factor = min(max((images_seen - low) / max(high - low, 1), 0.0), 1.0)
        scaled = {name: getattr(self, name) * factor for name in OF_THE_DISCRIMINATOR}
        return replace(self, adversarial_rise_images=None, **scaled)

    @property
    def needs_discriminator(self) -> bool:
        """Whether a term reads the discriminator or those of eyes and mouth, which learn together with it."""
        return any(getattr(self, name) > 0 for name in OF_THE_DISCRIMINATOR)

    @property
    def needs_components(self) -> bool:
        """Whether a term reads the discriminators of eyes and mouth."""
        return self.components > 0 or self.component_style > 0


class RestorationLosses:
    """Computes the terms that have a weight. Not a module: the frozen networks stay out of every checkpoint. Raises
    FileNotFoundError where a term needs weights that are not to be had."""

    def __init__(self, weights: RestorationLossWeights) -> None:
        self.given = self.weights = weights
        self._features: EfficientNetLite0 | None = None
        self._lpips: torch.nn.Module | None = None
        self._identities: dict[str, torch.nn.Module] = {}
        try:
            self._load()
        except ModuleNotFoundError as error:  # a package that holds weights
            raise FileNotFoundError(error.msg) from error

    def _load(self) -> None:
        weights = self.given
        if weights.perceptual > 0 or weights.style > 0 or weights.texture > 0:
            self._features = EfficientNetLite0()
        if weights.lpips > 0:
            self._lpips = LpipsLoss(weights.networks.lpips, weights.networks.lpips_path)
        if weights.identity > 0:
            self._identities["identity"] = IdentityLoss(weights.networks.identity_path)
        if weights.identity_dlib > 0:
            self._identities["identity_dlib"] = DlibIdentityLoss()

    @property
    def locate(self) -> Callable[[Tensor], Tensor] | None:
        """What a term wants to know of each target, uint8 [3, R, R], asked for by the workers that read it; None where
        none wants anything."""
        return face_place if "identity_dlib" in self._identities else None

    def follow(self, images_seen: int) -> dict[str, float]:
        """Takes the weights of the iteration at whose end so many images were seen; gives those that change, to log."""
        self.weights = self.given.at(images_seen)
        if self.given.adversarial_rise_images is None:
            return {}
        changing = [name for name in OF_THE_DISCRIMINATOR if getattr(self.given, name) > 0]
        return {f"loss_weight/{name}": getattr(self.weights, name) for name in changing}

    def to(self, device: torch.device) -> None:
        """Moves the frozen networks."""
        for network in (self._features, self._lpips, *self._identities.values()):
            if network is not None:
                network.to(device)

    def __call__(
        self,
        restored: Tensor,
        target: Tensor,
        discriminator: Discriminator,
        components: ComponentDiscriminators | None = None,
        places: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Unweighted terms by name, for [N, 3, R, R] in [-1, 1].

        `places` is what `locate` gave of the N targets; None asks for it here, for which a GPU waits.
        """
        terms = {}
        w = self.weights
        # Fidelity: pixels and frequencies (GPEN, section 3.3: the content loss).
        if w.l1 > 0:
            terms["l1"] = distances.l1_loss(restored, target)
        if w.smooth_l1 > 0:
            terms["smooth_l1"] = distances.smooth_l1_loss(restored, target)
        if w.psnr > 0:
            terms["psnr"] = distances.psnr_loss(restored, target)
        if w.focal_frequency > 0:
            terms["focal_frequency"] = distances.focal_frequency_loss(restored, target)
        # Perception and identity, by frozen networks.
        if self._features is not None:
            terms |= self._feature_terms(self._features, restored, target)
        if self._lpips is not None:
            terms["lpips"] = self._lpips(restored, target)
        # Where there are two judges of identity, they take turns over the batch.
        share = min(len(self._identities), len(restored))
        for index, (name, judge) in enumerate(self._identities.items()):
            mine = slice(index % share, None, share)
            if name == "identity_dlib":
                located = locate_faces(target[mine]) if places is None else places[mine]
                terms[name] = judge(restored[mine], target[mine], located)
            else:
                terms[name] = judge(restored[mine], target[mine])
        # The discriminators, of the face (GPEN, section 3.3) and of eyes and mouth (GFPGAN, section 3.4).
        if w.adversarial > 0 or w.feature_matching > 0:
            terms |= self._discriminator_terms(restored, target, discriminator)
        if components is not None and w.needs_components:
            terms |= self._component_terms(restored, target, components)
        return terms

    def _discriminator_terms(self, restored: Tensor, target: Tensor, discriminator: Discriminator) -> dict[str, Tensor]:
        terms = {}
        with frozen(discriminator):
            judgement = discriminator(restored)
        if self.weights.adversarial > 0:
            terms["adversarial"] = generator_logistic_loss(judgement.logits)
        if self.weights.feature_matching > 0:
            with torch.no_grad():
                features = discriminator(target).features
            terms["feature_matching"] = feature_matching_loss(judgement.features, features)
        return terms

    def _component_terms(
        self, restored: Tensor, target: Tensor, components: ComponentDiscriminators
    ) -> dict[str, Tensor]:
        """Means over eyes and mouth."""
        terms = {}
        with frozen(components):
            judgements = components(restored)
        if self.weights.components > 0:
            terms["components"] = torch.stack([generator_logistic_loss(j.logits) for j in judgements]).mean()
        if self.weights.component_style > 0:
            with torch.no_grad():
                targets = components(target)
            pairs = zip(judgements, targets, strict=True)
            styles = [distances.gram_loss(ours.features, theirs.features) for ours, theirs in pairs]
            terms["component_style"] = torch.stack(styles).mean()
        return terms

    def _feature_terms(self, network: EfficientNetLite0, restored: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Terms that share the features of ImageNet's network."""
        ours = network.features(restored)
        with torch.no_grad():
            theirs = network.features(target)
        terms = {}
        if self.weights.perceptual > 0:
            terms["perceptual"] = distances.feature_distances(ours, theirs).mean()
        if self.weights.style > 0:
            terms["style"] = distances.gram_loss(ours, theirs)
        if self.weights.texture > 0:
            terms["texture"] = distances.structure_texture_distances([restored, *ours], [target, *theirs]).mean()
        return terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return torch.stack([terms[name] * getattr(self.weights, name) for name in terms]).sum()
