"""Repeats an update that was skipped as not finite: `python -m scripts.replay_update RUN/non_finite/images_…`."""

import argparse
from pathlib import Path

from system import command_line
from train.run.repetition import replay


def main() -> None:
    """Trains one iteration from the dumped state, or from the checkpoint before up to it, and says what happens."""
    parser = argparse.ArgumentParser(prog="python -m scripts.replay_update", description=__doc__)
    parser.add_argument("dump", type=Path, help="folder below non_finite/ of a run")
    parser.add_argument(
        "--exact", action="store_true", help="train again from the checkpoint before it, bit for bit, however long"
    )
    parser.add_argument(
        "--anomaly", action="store_true", help="stop at the operation whose gradient is not finite, and name it"
    )
    options = parser.parse_args()
    replay(options.dump, options.exact, options.anomaly)


if __name__ == "__main__":
    command_line.conclude(main)
