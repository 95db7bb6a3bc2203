"""How a restoration network starts: a prior becomes its decoder, or a finished GPEN goes on."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from models import GPEN, Architecture, Discriminator, StoredNetworks, read_checkpoint
from models.files.checkpoints import decoder_state, load_exactly
from models.files.widening import widen_to_concat


class Transfer(NamedTuple):
    """Where the weights of a part came from."""

    part: str
    origin: str
    num_tensors: int


def start_networks(
    path: Path | None, generator: GPEN, discriminator: Discriminator, take_discriminator: bool = True
) -> list[Transfer]:
    """Fills the networks of stage 2 from a checkpoint, strictly.

    From a prior every tensor of the decoder is taken and the encoder stays new; from a GPEN everything is taken. The
    discriminator is the checkpoint's where it has one. A prior with added noise is widened for a GPEN that
    concatenates (see `models.widening`).

    Args:
        path: Any file that `models.read_checkpoint` knows; None leaves all weights new.
        generator: To fill.
        discriminator: To fill.
        take_discriminator: Whether to take the checkpoint's discriminator.

    Returns:
        What came from where, for the log.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds another architecture, or misses the discriminator.
    """
    if path is None:
        networks = {"encoder": generator.encoder, "decoder": generator.decoder, "discriminator": discriminator}
        return [_new(part, network) for part, network in networks.items()]
    stored = read_checkpoint(path)
    if stored.kind == "gpen":
        _check_architecture(stored.architecture, generator.architecture, path)
        load_exactly(generator, stored.generator, str(path))
        transfers = [Transfer("encoder and decoder", str(path), len(stored.generator))]
    else:
        decoder = _decoder_for(stored, generator.architecture)
        load_exactly(generator.decoder, decoder, str(path))
        transfers = [_new("encoder", generator.encoder), Transfer("decoder", str(path), len(decoder))]
    if not take_discriminator:
        return [*transfers, _new("discriminator", discriminator)]
    if stored.discriminator is None:
        raise ValueError(
            f"{path} holds no discriminator; take a new one: --model.init_args.optimization.take_discriminator false"
        )
    load_exactly(discriminator, stored.discriminator, str(path))
    return [*transfers, Transfer("discriminator", str(path), len(stored.discriminator))]


def describe(transfers: list[Transfer]) -> str:
    """One line for the log."""
    return "start: " + "; ".join(f"{t.part} from {t.origin} ({t.num_tensors} tensors)" for t in transfers)


def _decoder_for(stored: StoredNetworks, architecture: Architecture) -> Mapping[str, Tensor]:
    state = decoder_state(stored)
    like_ours = replace(stored.architecture, fed_convolutions=architecture.fed_convolutions)  # a prior is not fed
    if like_ours.noise_mode == "add" and architecture.noise_mode == "concat":
        _check_architecture(replace(like_ours, noise_mode="concat"), architecture, stored.path)
        return widen_to_concat(state, stored.architecture)
    _check_architecture(like_ours, architecture, stored.path)
    return state


def _check_architecture(stored: Architecture, wanted: Architecture, path: Path) -> None:
    have, want = asdict(stored), asdict(wanted)
    different = [f"{name} {have[name]} instead of {want[name]}" for name in want if have[name] != want[name]]
    if different:
        raise ValueError(f"{path} has {', '.join(different)}; change the run's architecture or take another checkpoint")


def _new(part: str, network: nn.Module) -> Transfer:
    return Transfer(part, "new weights", len(network.state_dict()))
