"""Makes the lists of a bundle absolute: python absolute_paths.py, in the bundle, on the machine where it lies.

vamp reads absolute paths, one a line. Every `datalist.txt` of the bundle holds paths relative to the bundle's folder;
beside each this script writes `datalist.absolute.txt`. It needs Python alone and travels with the bundle.
"""

import sys
from pathlib import Path


def write_absolute_lists(bundle: Path) -> list[Path]:
    """Writes the absolute lists of a bundle's folder and returns their paths; FileNotFoundError where a listed file, or
    every list, is missing."""
    lists = sorted(bundle.rglob("datalist.txt"))
    if not lists:
        raise FileNotFoundError(f"there is no datalist.txt below {bundle}; run the script in the bundle's folder")
    written = []
    for source in lists:
        paths = [(bundle / line).resolve() for line in source.read_text(encoding="utf-8").splitlines() if line]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise FileNotFoundError(f"{source} lists {missing[0]} and {len(missing) - 1} more files that are not there")
        written.append(source.with_name("datalist.absolute.txt"))
        written[-1].write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
    return written


if __name__ == "__main__":
    try:
        for path in write_absolute_lists(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent):
            print(path)
    except OSError as error:
        sys.exit(f"error: {error}")
