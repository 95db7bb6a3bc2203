"""What to say of a path where what is wanted is not."""

from pathlib import Path

from system.child_processes import ROOT


def way_out(name: Path | str) -> str:
    """What a message adds behind the name of a file that is none: what is there instead, or where this repository has
    one of that name."""
    path = Path(name).expanduser()
    if path.is_dir():
        return ", which is a folder; name a file in it"
    if path.is_symlink():
        return f", a link to {path.readlink()}, where nothing is; mend it"
    if not path.is_absolute() and (ROOT / path).exists():
        return f" in {Path.cwd()}; commands run in the repository's folder, {ROOT}"
    return "; check the path"
