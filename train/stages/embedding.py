"""How networks start: a prior goes on or becomes a decoder, a finished GPEN goes on."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple, Self

from torch import Tensor, nn

from models import GPEN, Architecture, Discriminator, Prior, StoredNetworks, read_checkpoint
from models.files.checkpoints import StoredDiscriminator, decoder_state, load_exactly, read_discriminator
from models.files.public_format import drop_blocks, widen_to_concat
from models.growth import grow
from system.wording import counted

TAKE_NEW = "take a new one: --model.init_args.optimization.take_discriminator false"
CHECKSUM_CHARACTERS = 12


class Transfer(NamedTuple):
    """Where the weights of a part came from."""

    part: str
    origin: str
    num_tensors: int
    note: str = ""
    """What is to be said beside it: which of several networks was taken, what was left out and why."""

    @classmethod
    def new(cls, part: str, network: nn.Module, note: str = "") -> Self:
        """The record of a part that starts from new weights."""
        return cls(part, "new weights", len(network.state_dict()), note)


def start_networks(
    path: Path | None,
    generator: Prior | GPEN,
    discriminator: Discriminator,
    take_discriminator: bool = True,
    discriminator_path: Path | None = None,
) -> list[Transfer]:
    """Fills the networks of a stage from any file or run that `models.read_checkpoint` knows, strictly and by averaged
    weights; without a path all weights of the generator stay new. Gives what came from where, for the log.

    A prior is filled from a prior or from a GPEN's decoder, of which a larger one gives its lower layers. Of a GPEN,
    another GPEN fills everything and a prior the decoder; one with added noise is widened for a GPEN that concatenates
    (see `models.files.public_format`), one of fewer pixels grows (see `models.growth`). A discriminator that is not to
    be taken is not even looked for; else it comes from its own path or, without one, from the first. FileNotFoundError
    where there is no such file, ValueError where it holds another architecture, or misses the discriminator.
    """
    stored = None if path is None else read_checkpoint(path)
    if stored is not None:
        transfers = _start_generator(stored, generator)
    elif isinstance(generator, GPEN):
        transfers = [Transfer.new("encoder", generator.encoder), Transfer.new("decoder", generator.decoder)]
    else:
        transfers = [Transfer.new("prior", generator)]
    if not take_discriminator or (stored is None and discriminator_path is None):
        return [*transfers, Transfer.new("discriminator", discriminator)]
    return [*transfers, _start_discriminator(stored, discriminator_path, discriminator)]


def describe_start(transfers: list[Transfer], networks: Mapping[str, nn.Module]) -> str:
    """Two lines for the log: what came from where, and the checksums of the networks as they begin."""
    return f"{describe(transfers)}\n{describe_checksums(networks)}"


def describe(transfers: list[Transfer]) -> str:
    """One line for the log."""
    return "start: " + "; ".join(
        f"{t.part} from {t.origin} ({counted(t.num_tensors, 'tensor')}{f', {t.note}' if t.note else ''})"
        for t in transfers
    )


def describe_checksums(networks: Mapping[str, nn.Module]) -> str:
    """One line for the log: SHA-256 of the values of each network, in the order of the names of its tensors."""
    found = []
    for part, network in networks.items():
        digest = hashlib.sha256()
        for name, tensor in sorted(network.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        found.append(f"{part} {digest.hexdigest()[:CHECKSUM_CHARACTERS]}")
    return f"SHA-256 of the first weights: {', '.join(found)}"


def _start_generator(stored: StoredNetworks, generator: Prior | GPEN) -> list[Transfer]:
    origin = str(stored.path)
    if stored.kind == "gpen" and isinstance(generator, GPEN):
        state, notes = _grown(stored.generator, stored.architecture, generator, stored.path)
        load_exactly(generator, state, origin)
        note = ", ".join((*stored.notes, *notes))
        return [Transfer("encoder and decoder", origin, len(stored.generator), note)]
    decoder = generator.decoder if isinstance(generator, GPEN) else generator
    state, notes = _decoder_for(stored, decoder)
    load_exactly(decoder, state, origin)
    note = ", ".join((*stored.notes, *notes))
    if isinstance(generator, GPEN):
        return [Transfer.new("encoder", generator.encoder), Transfer("decoder", origin, len(state), note)]
    return [Transfer("prior", origin, len(state), note)]


def _start_discriminator(stored: StoredNetworks | None, path: Path | None, discriminator: Discriminator) -> Transfer:
    judge: StoredDiscriminator | None
    if path is not None:
        judge = read_discriminator(path)
        if judge is None:
            raise ValueError(f"{path} holds a generator and no discriminator; name another file or {TAKE_NEW}")
    else:
        assert stored is not None  # for the type checker: without both the discriminator stays new
        judge = stored.discriminator
        if judge is None and stored.is_public:
            return Transfer.new("discriminator", discriminator, f"as {stored.path.name} holds none")
        if judge is None:
            raise ValueError(f"{stored.path} holds no discriminator; {TAKE_NEW}")
        if judge.architecture.resolution > discriminator.architecture.resolution and stored.kind == "prior":
            return Transfer.new("discriminator", discriminator, f"as that of {stored.path.name} judges larger faces")
    wanted = discriminator.architecture
    have, want = (tuple(a.channels(r) for r in a.resolutions) for a in (judge.architecture, wanted))
    if have != want:
        raise ValueError(
            f"the discriminator of {judge.path} has channels {have} from 4×4 upwards instead of {want}; {TAKE_NEW}"
        )
    load_exactly(discriminator, judge.read(), str(judge.path))
    return Transfer("discriminator", str(judge.path), len(judge.tensors))


def _decoder_for(stored: StoredNetworks, decoder: Prior) -> tuple[Mapping[str, Tensor], list[str]]:
    """The decoder's tensors, and what was done to them."""
    architecture, state, notes = decoder.architecture, decoder_state(stored), []
    smaller = replace(
        stored.architecture,
        resolution=min(stored.architecture.resolution, architecture.resolution),
        fed_convolutions=architecture.fed_convolutions,  # a prior is not fed, and has no encoder
        encoder_resolution=architecture.encoder_resolution,
    )
    if smaller.resolution < stored.architecture.resolution:
        notes.append(f"layers above {architecture.resolution} pixels left out of {stored.architecture.resolution}")
        state = drop_blocks(state, smaller)
    if smaller.noise_mode == "add" and architecture.noise_mode == "concat":
        narrow = replace(architecture, resolution=smaller.resolution)
        _check_architecture(replace(smaller, noise_mode="concat"), narrow, stored.path)
        state, smaller = widen_to_concat(state, smaller), replace(smaller, noise_mode="concat")
        notes.append("widened from added to concatenated noise")
    grown, more = _grown(state, smaller, decoder, stored.path)
    return grown, notes + more


def _grown(
    state: Mapping[str, Tensor], stored: Architecture, network: Prior | GPEN, path: Path
) -> tuple[Mapping[str, Tensor], list[str]]:
    """A state as it is, or that of a smaller resolution for a larger network, and a word about that."""
    wanted = network.architecture
    is_smaller = stored.resolution < wanted.resolution
    _check_architecture(replace(stored, resolution=wanted.resolution) if is_smaller else stored, wanted, path)
    if not is_smaller:
        return state, []
    return grow(state, stored, network), [f"grown from {stored.resolution} pixels"]


def _check_architecture(stored: Architecture, wanted: Architecture, path: Path) -> None:
    have, want = asdict(stored), asdict(wanted)
    different = [f"{name} {have[name]} instead of {want[name]}" for name in want if have[name] != want[name]]
    if different:
        raise ValueError(f"{path} has {', '.join(different)}; change the run's architecture or take another checkpoint")
