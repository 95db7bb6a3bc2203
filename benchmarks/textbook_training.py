"""Training iterations of both stages as the public scripts write them, on the networks of `textbook`."""

import math
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import textbook
from models import GPEN, Discriminator, Prior

R1_WEIGHT, R1_INTERVAL = 10.0, 16
PATH_LENGTH_WEIGHT, PATH_LENGTH_INTERVAL, PATH_LENGTH_DECAY, PATH_LENGTH_BATCH_SHRINK = 2.0, 4, 0.01, 2


class TextbookTraining:
    """One generator pass for each update, R1 and path length on graphs of their own, unfused Adam, average in a loop.

    Stage 2 with the released recipe without identity loss for a GPEN, stage 1 with StyleGAN2's for a prior.

    Args:
        generator: GPEN or prior; its parameters are trained, its code is not called. Must be in contiguous layout.
        discriminator: Likewise.

    Source: the released script (see configs/recipes/released.yaml); StyleGAN2 (arXiv 1912.04958) appendix B.
    """

    def __init__(self, generator: GPEN | Prior, discriminator: Discriminator) -> None:
        self.noise_mode = generator.architecture.noise_mode
        self.is_restoring = isinstance(generator, GPEN)
        self.generator = dict(generator.named_parameters())
        self.discriminator = dict(discriminator.named_parameters())
        self.average = deepcopy(self.generator)
        self.group_size = discriminator.minibatch_group_size
        self.noise_shapes = [] if isinstance(generator, GPEN) else generator.synthesis.noise_shapes()
        self.num_styles = generator.architecture.num_styles
        self.style_dim = generator.architecture.style_dim
        self.adam, self.judge_adam = (
            torch.optim.Adam(parameters.values(), lr=2e-3 * ratio, betas=(0.0, 0.99**ratio))
            for parameters, ratio in ((self.generator, 4 / 5), (self.discriminator, 16 / 17))
        )
        self.mean_path_length = torch.zeros([])

    def step(self, degraded: Tensor, target: Tensor) -> None:
        """Both updates and the moving average, without the lazy terms; [N, 3, R, R] each."""
        with torch.no_grad():
            generated, _ = self._generate(degraded)
        real, fake = self._judge(target), self._judge(generated)
        self._update(self.judge_adam, F.softplus(-real).mean() + F.softplus(fake).mean())
        for parameter in self.discriminator.values():
            parameter.requires_grad_(False)
        generated, _ = self._generate(degraded)
        loss = F.softplus(-self._judge(generated)).mean()
        if self.is_restoring:
            loss = loss + F.smooth_l1_loss(generated, target)
        self._update(self.adam, loss)
        for parameter in self.discriminator.values():
            parameter.requires_grad_(True)
        decay = 0.5 ** (len(target) / 10_000)
        with torch.no_grad():
            for name, parameter in self.generator.items():
                self.average[name].mul_(decay).add_(parameter, alpha=1 - decay)

    def penalize_discriminator(self, target: Tensor) -> None:
        """R1 on [N, 3, R, R]."""
        target = target.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self._judge(target).sum(), target, create_graph=True)
        self._update(self.judge_adam, R1_WEIGHT / 2 * R1_INTERVAL * gradient.square().sum((1, 2, 3)).mean())

    def penalize_generator(self, degraded: Tensor) -> None:
        """Path length on every second image of [N, 3, R, R]."""
        image, styles = self._generate(degraded[::PATH_LENGTH_BATCH_SHRINK])
        direction = torch.randn_like(image) / math.sqrt(image.shape[2] * image.shape[3])
        (gradient,) = torch.autograd.grad((image * direction).sum(), styles, create_graph=True)
        lengths = gradient.square().sum(2).mean(1).sqrt()
        mean = self.mean_path_length + PATH_LENGTH_DECAY * (lengths.mean() - self.mean_path_length)
        self._update(self.adam, PATH_LENGTH_WEIGHT * PATH_LENGTH_INTERVAL * (lengths - mean).square().mean())
        self.mean_path_length = mean.detach()

    def _generate(self, degraded: Tensor) -> tuple[Tensor, Tensor]:
        """Images and styles; a prior takes no more from the degraded images than their number."""
        if self.is_restoring:
            return textbook.gpen(degraded, self.generator, self.noise_mode)
        mapping = textbook.part(self.generator, "mapping.")
        num_images = len(degraded)
        first, second = (textbook.mapping(torch.randn(num_images, self.style_dim), mapping) for _ in range(2))
        crossover = int(torch.randint(1, self.num_styles, ()))
        styles = torch.stack([first] * crossover + [second] * (self.num_styles - crossover), dim=1)
        noises = [torch.randn(num_images, *shape) for shape in self.noise_shapes]
        synthesis = textbook.part(self.generator, "synthesis.")
        return textbook.synthesis(styles, noises, synthesis, self.noise_mode), styles

    def _judge(self, image: Tensor) -> Tensor:
        return textbook.discriminator(image, self.discriminator, self.group_size or len(image))

    def _update(self, adam: torch.optim.Adam, loss: Tensor) -> None:
        adam.zero_grad()
        loss.backward()
        adam.step()
