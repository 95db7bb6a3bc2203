"""`python -m train fit --config FILE …`."""

from system import command_line


def main() -> int:
    """Imports what training needs where Ctrl-C ends in one line: it takes seconds."""
    from train.command import main as train

    return train()


if __name__ == "__main__":
    command_line.conclude(main)
