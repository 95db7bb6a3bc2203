"""Repeats an update that was skipped as not finite: `python -m scripts.replay_update RUN/non_finite/images_…`."""

import argparse
import csv
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from system import command_line
from train.run.checkpoints import checkpoint_path, images_of
from train.run.non_finite import BEFORE, REPORT, STATE
from train.run.repetition import read_record, repeat


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
    path = options.dump / REPORT
    if not path.is_file():
        raise FileNotFoundError(f"{options.dump} is no dump of a skipped update: there is no {REPORT}")
    report = json.loads(path.read_text())
    config, record = read_record(options.dump.resolve().parents[1])
    total_images = report["first"] + config["data"]["batch_size"]
    config["run"] |= {"log_every_images": config["data"]["batch_size"], "validate_every_images": 10**12}
    more = ["--trainer.detect_anomaly", "true"] if options.anomaly else []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        start = _place_start(options, report, folder, config, record)
        print(f"training from {start} to image {total_images:,}", flush=True)
        problem = repeat(config, folder, total_images, record["sessions"][-1]["num_threads"], *more)
        print("\n".join(_findings(folder / "train.csv", report["first"] + config["data"]["batch_size"], problem)))


def _place_start(
    options: argparse.Namespace, report: dict[str, Any], folder: Path, config: dict[str, Any], record: dict[str, Any]
) -> str:
    """Puts the state to start from and a record where a run looks for them."""
    source = options.dump / (BEFORE if options.exact else STATE)
    if not source.is_file():
        return "the beginning of the run"
    images_seen = images_of(Path(report["before"])) if options.exact else report["first"]
    target = checkpoint_path(folder / "checkpoints", images_seen)
    target.parent.mkdir(parents=True)
    shutil.copyfile(source, target)
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return f"{source.name} (image {images_seen:,})"


def _findings(table: Path, images_seen: int, problem: str) -> list[str]:
    """What the iteration logged, and which of it is not finite."""
    if not table.is_file():
        return [f"training ended before a row was written: {problem}"]
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["images_seen"]) == images_seen]
    if not rows:
        return [f"training ended before the iteration was done: {problem}"]
    values = {name: float(value) for name, value in rows[-1].items() if value}
    skipped = [name.partition("/")[0] for name in ("generator/skipped", "discriminator/skipped") if values[name] > 0]
    terms = [name for name, value in values.items() if value != value]
    lines = [f"{name} is not finite" for name in terms]
    if skipped:
        return [*lines, f"repeated: updates of the {' and the '.join(skipped)} are skipped again"]
    return [*lines, "not repeated: every update of the iteration is finite from this state; try --exact"]


if __name__ == "__main__":
    command_line.run(main)
