"""The only root of randomness: a seed is a function of (seed of the run, purpose, index)."""

from hashlib import blake2b


def derive_seed(seed: int, purpose: str, index: int) -> int:
    """Derives an independent seed; every random draw of the project starts from one.

    No global generator is ever read, so the k-th image of a run is the same photograph with the same flip, degradation,
    latent and noise whatever the number of processes, workers or restarts.

    Args:
        seed: Seed of the run, any integer (0 is a seed like any other).
        purpose: What is drawn, e.g. "flip"; two purposes never share a stream.
        index: Image index in the run, or another counter that belongs to the purpose.

    Returns:
        Integer in [0, 2^63), which fits torch's and numpy's generators.

    Source:
        BLAKE2b (RFC 7693) of the text "seed/purpose/index": the same on every machine and in every version.
    """
    digest = blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
