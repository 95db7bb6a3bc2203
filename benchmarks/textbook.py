"""StyleGAN2 and GPEN as papers and public code compute them on a CPU: the slow twin of `models`.

Weights per image and grouped convolutions, FIR filters as zeros between the pixels and a convolution over
[N·C, 1, H, W], a pass over memory for each of scale, bias, activation and gain, contiguous layout. Nothing is shared
with `models` but the parameters, read by their names: tests compare the fast networks with it, benchmarks time it.

Source: StyleGAN2 (arXiv 1912.04958) section 2.2, figures 2 and 7, appendix B; StyleGAN (arXiv 1812.04948); Progressive
GAN (arXiv 1710.10196) sections 3 and 4.1; GPEN (arXiv 2105.06070) section 3.1.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor

from models import GPEN, Discriminator, Prior

Parameters = Mapping[str, Tensor]


def part(parameters: Parameters, prefix: str) -> dict[str, Tensor]:
    """The parameters of a submodule."""
    return {n.removeprefix(prefix): p for n, p in parameters.items() if n.startswith(prefix)}


def fir_kernel(like: Tensor) -> Tensor:
    """[4, 4] with sum 1."""
    line = like.new_tensor([1, 3, 3, 1]) / 8
    return line[:, None] * line[None, :]


def upfirdn(x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, padding: tuple[int, int] = (0, 0)) -> Tensor:
    """Zeros after every pixel, zeros around (before, after), a convolution, every down-th pixel."""
    num_images, channels, height, width = x.shape
    stretched = x.reshape(num_images * channels, 1, height, 1, width, 1)
    stretched = F.pad(stretched, (0, up - 1, 0, 0, 0, up - 1))  # [N·C, 1, H, up, W, up]
    stretched = F.pad(stretched.reshape(num_images * channels, 1, height * up, width * up), padding * 2)
    filtered = F.conv2d(stretched, kernel.flip(0, 1)[None, None])[:, :, ::down, ::down]
    return filtered.reshape(num_images, channels, *filtered.shape[2:])


def biased_activation(x: Tensor, bias: Tensor) -> Tensor:
    """Bias, leaky ReLU with slope 0.2, gain √2."""
    return F.leaky_relu(x + bias.reshape(1, -1, *[1] * (x.ndim - 2)), 0.2) * math.sqrt(2)


def equalized_linear(x: Tensor, parameters: Parameters, rate: float = 1.0, activate: bool = False) -> Tensor:
    """Linear layer with its weight scaled at run time."""
    weight, bias = parameters["weight"], parameters["bias"]
    x = F.linear(x, weight * (rate / math.sqrt(weight.shape[1])))
    return biased_activation(x, bias * rate) if activate else x + bias * rate


def equalized_convolution(x: Tensor, parameters: Parameters, stride: int = 1, padding: int = 0) -> Tensor:
    """Convolution with its weight scaled at run time; activated where it has a bias."""
    weight = parameters["weight"]
    x = F.conv2d(x, weight * (1 / math.sqrt(weight[0].numel())), None, stride, padding)
    return biased_activation(x, parameters["bias"]) if "bias" in parameters else x


def modulated_convolution(
    x: Tensor, style: Tensor, parameters: Parameters, upsample: bool = False, demodulate: bool = True
) -> Tensor:
    """Equations 1 and 3 of StyleGAN2, one weight per image and all images in one grouped convolution."""
    weight = parameters["weight"]
    out_channels, in_channels, size, _ = weight.shape
    num_images, _, height, width = x.shape
    modulation = equalized_linear(style, part(parameters, "modulation."))
    weights = weight[None] * (1 / math.sqrt(in_channels * size**2)) * modulation[:, None, :, None, None]
    if demodulate:
        weights = weights * torch.rsqrt(weights.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)  # [N, O, I, K, K]
    x = x.reshape(1, num_images * in_channels, height, width)
    if not upsample:
        x = F.conv2d(x, weights.flatten(0, 1), padding=size // 2, groups=num_images)
        return x.reshape(num_images, out_channels, height, width)
    x = F.conv_transpose2d(x, weights.transpose(1, 2).flatten(0, 1), stride=2, groups=num_images)
    x = x.reshape(num_images, out_channels, *x.shape[2:])  # [N, O, 2H+1, 2W+1]
    return upfirdn(x, 4 * fir_kernel(x), padding=(1, 1))


def styled_layer(
    x: Tensor, style: Tensor, noise: Tensor | None, parameters: Parameters, noise_mode: str, upsample: bool = False
) -> Tensor:
    """Modulated convolution, noise, bias, leaky ReLU, in the order of figure 2c."""
    x = modulated_convolution(x, style, part(parameters, "convolution."), upsample)
    if noise is not None and noise_mode != "none":
        scaled = parameters["noise_strength"] * noise
        x = torch.cat([x, scaled], dim=1) if noise_mode == "concat" else x + scaled
    return biased_activation(x, parameters["bias"])


def to_rgb(x: Tensor, style: Tensor, image: Tensor | None, parameters: Parameters) -> Tensor:
    """Modulated 1×1 convolution without demodulation on top of the upsampled image."""
    rgb = modulated_convolution(x, style, part(parameters, "convolution."), demodulate=False)
    rgb = rgb + parameters["bias"].reshape(1, 3, 1, 1)
    return rgb if image is None else rgb + upfirdn(image, 4 * fir_kernel(image), up=2, padding=(2, 1))


def mapping(latent: Tensor, parameters: Parameters) -> Tensor:
    """Pixel norm and linear layers with a hundredth of the learning rate: latents [N, D] to styles [N, D]."""
    x = latent * torch.rsqrt(latent.square().mean(dim=1, keepdim=True) + 1e-8)
    for index in range(sum(name.endswith("weight") for name in parameters)):
        x = equalized_linear(x, part(parameters, f"layers.{index}."), rate=0.01, activate=True)
    return x


def synthesis(styles: Tensor, noises: Sequence[Tensor], parameters: Parameters, noise_mode: str) -> Tensor:
    """Styles [N, L, D] and the noise of every layer to images [N, 3, R, R]."""
    x = parameters["constant"].repeat(len(styles), 1, 1, 1)
    image: Tensor | None = None
    num_blocks = (styles.shape[1] - 2) // 2 + 1
    layer = 0
    for block in range(num_blocks):
        for name in ("up", "plain") if block else ("plain",):
            noise = noises[layer] if noises else None
            layer_parameters = part(parameters, f"blocks.{block}.{name}.")
            x = styled_layer(x, styles[:, layer], noise, layer_parameters, noise_mode, upsample=name == "up")
            layer += 1
        image = to_rgb(x, styles[:, layer], image, part(parameters, f"blocks.{block}.to_rgb."))
    assert image is not None
    return image


def encoder(image: Tensor, parameters: Parameters) -> tuple[Tensor, list[Tensor]]:
    """Images [N, 3, R, R] to latents [N, D] and the features of every resolution, from low to high."""
    x = equalized_convolution(image, part(parameters, "from_rgb."))
    features = [x]
    for index in range(sum(name.startswith("downs.") and name.endswith("bias") for name in parameters)):
        x = upfirdn(x, fir_kernel(x), padding=(2, 2))
        x = equalized_convolution(x, part(parameters, f"downs.{index}.1."), stride=2)
        features.append(x)
    return equalized_linear(x.flatten(1), part(parameters, "to_latent."), activate=True), features[::-1]


def gpen(degraded: Tensor, parameters: Parameters, noise_mode: str) -> tuple[Tensor, Tensor]:
    """Degraded faces [N, 3, R, R] to restored ones and the styles [N, L, D] they were drawn from."""
    latent, features = encoder(degraded, part(parameters, "encoder."))
    num_styles = 2 * len(features)
    styles = mapping(latent, part(parameters, "decoder.mapping."))[:, None].repeat(1, num_styles, 1)
    noises = [feature for feature in features for _ in range(2)][1:]
    return synthesis(styles, noises, part(parameters, "decoder.synthesis."), noise_mode), styles


def discriminator(image: Tensor, parameters: Parameters, group_size: int) -> Tensor:
    """Images [N, 3, R, R] to logits [N]; the standard deviation is taken over `group_size` neighbours."""
    x = equalized_convolution(image, part(parameters, "from_rgb."))
    for index in range(sum(name.endswith("skip.weight") for name in parameters)):
        block = part(parameters, f"blocks.{index}.")
        main = equalized_convolution(x, part(block, "plain."), padding=1)
        main = equalized_convolution(upfirdn(main, fir_kernel(x), padding=(2, 2)), part(block, "down."), stride=2)
        skip = equalized_convolution(upfirdn(x, fir_kernel(x), padding=(1, 1)), part(block, "skip."), stride=2)
        x = (main + skip) / math.sqrt(2)
    grouped = x.reshape(-1, group_size, *x.shape[1:])  # [N/G, G, C, 4, 4]
    deviation = (grouped.var(dim=1, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    deviation = deviation.repeat_interleave(group_size).reshape(-1, 1, 1, 1).repeat(1, 1, *x.shape[2:])
    x = equalized_convolution(torch.cat([x, deviation], dim=1), part(parameters, "final."), padding=1)
    x = equalized_linear(x.flatten(1), part(parameters, "hidden."), activate=True)
    return equalized_linear(x, part(parameters, "to_logit."))[:, 0]


R1_WEIGHT, R1_INTERVAL = 10.0, 16
PATH_LENGTH_WEIGHT, PATH_LENGTH_INTERVAL, PATH_LENGTH_DECAY, PATH_LENGTH_BATCH_SHRINK = 2.0, 4, 0.01, 2


class TextbookTraining:
    """One generator pass for each update, R1 and path length on graphs of their own, unfused Adam, average in a loop.

    Stage 2 with the released recipe for a GPEN, stage 1 with StyleGAN2's for a prior. The networks, in contiguous
    layout, are trained, their code is not called. A distance of restored and target images [N, 3, R, R] for the
    identity, where it is given, is added to a GPEN's loss.

    Source: the released script (see configs/recipes/released.yaml); StyleGAN2 (arXiv 1912.04958) appendix B.
    """

    def __init__(
        self,
        generator: GPEN | Prior,
        discriminator: Discriminator,
        identity: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        self.identity = identity
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
        self.mean_path_length = torch.zeros([], device=next(generator.parameters()).device)

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
        if self.is_restoring and self.identity is not None:
            loss = loss + self.identity(generated, target)
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
            return gpen(degraded, self.generator, self.noise_mode)
        of_mapping, of_synthesis = (part(self.generator, prefix) for prefix in ("mapping.", "synthesis."))
        num_images, device = len(degraded), degraded.device
        latents = torch.randn(2, num_images, self.style_dim, device=device)
        first, second = (mapping(latent, of_mapping) for latent in latents)
        crossover = int(torch.randint(1, self.num_styles, ()))
        styles = torch.stack([first] * crossover + [second] * (self.num_styles - crossover), dim=1)
        noises = [torch.randn(num_images, *shape, device=device) for shape in self.noise_shapes]
        return synthesis(styles, noises, of_synthesis, self.noise_mode), styles

    def _judge(self, image: Tensor) -> Tensor:
        return discriminator(image, self.discriminator, self.group_size or len(image))

    def _update(self, adam: torch.optim.Adam, loss: Tensor) -> None:
        adam.zero_grad()
        loss.backward()
        adam.step()
