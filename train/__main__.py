"""`python -m train fit --config FILE …`."""

from system import command_line
from train.command import main

if __name__ == "__main__":
    command_line.conclude(main)
