"""Repeats an update that was skipped as not finite: `python -m scripts.replay_update RUN/non_finite/images_…`."""

from pathlib import Path

from system import command_line
from system.paths import check_there


def main(dump: Path, /, exact: bool = False, anomaly: bool = False) -> None:
    """Trains one iteration from a dumped state, or from the checkpoint before up to it, and says what happens.

    Args:
        dump: Folder below non_finite/ of a run.
        exact: Train again from the checkpoint before it, bit for bit, however long.
        anomaly: Stop at the operation whose gradient is not finite, and name it.
    """
    check_there(dump, "dump of an update")
    from train.run.repetition import replay

    replay(dump, exact, anomaly)


if __name__ == "__main__":
    command_line.run(main)
