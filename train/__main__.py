"""`python -m train fit --config FILE …`."""

import command_line
from train.command import main

if __name__ == "__main__":
    command_line.run(main)
