"""The rules of CONTRIBUTING.md that a syntax tree can show: who imports what, lengths, names, docstrings."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "system",
    "losses",
    "models",
    "data",
    "evaluation",
    "inference",
    "photographs",
    "train",
    "export",
    "studies",
    "benchmarks",
    "demo",
    "scripts",
)
OWN_IMPORTS = {
    "system": set(),
    "losses": set(),
    "models": {"system"},
    "data": {"system"},
    "evaluation": {"system", "data", "losses"},
    "inference": {"system", "models", "data", "evaluation"},
    "photographs": {"system", "data", "evaluation", "inference"},
    "train": {"system", "models", "losses", "data", "evaluation", "inference"},
    "export": {"system", "models", "data", "evaluation", "inference"},
    "studies": {"system", "models", "data", "evaluation", "inference", "train", "export"},
    "benchmarks": {"system", "models", "losses", "data", "evaluation", "inference", "train", "export"},
}
OWN_IMPORTS["demo"] = OWN_IMPORTS["benchmarks"] | {"benchmarks"}
OWN_IMPORTS["scripts"] = set(OWN_IMPORTS)
"""Which other packages of this repository a package may import."""
FOREIGN_IMPORTS = {
    "system": {"yaml", "jsonargparse", "docstring_parser", "rich", "torch"},
    "losses": {"torch", "torchvision", "lpips", "safetensors", "numpy", "PIL", "dlib"},
    "models": {"torch", "safetensors"},
    "data": {"torch", "kornia", "numpy", "PIL", "jsonargparse", "lmdb"},
    "evaluation": {"torch", "torchmetrics", "numpy", "scipy", "PIL", "matplotlib", "markdown_it"},
    "inference": {"torch", "onnxruntime", "numpy", "PIL"},
    "photographs": {"torch", "numpy", "PIL", "cv2", "imagehash"},
    "train": {"torch", "pytorch_lightning", "jsonargparse", "yaml", "numpy", "PIL", "rich", "filelock", "wandb"},
    "export": {"torch", "onnx", "onnxruntime", "numpy", "matplotlib", "rich", "PIL", "yaml"},
    "studies": {"torch", "numpy", "PIL", "yaml", "jsonargparse", "filelock", "rich"},
    "benchmarks": {"torch", "pytorch_lightning", "onnxruntime", "numpy", "matplotlib", "cv2", "rich", "PIL"},
}
FOREIGN_IMPORTS["demo"] = {"torch", "numpy", "PIL"}
FOREIGN_IMPORTS["scripts"] = set().union(*FOREIGN_IMPORTS.values())
"""Which libraries a package may import beside the standard library."""
FORBIDDEN_NAMES = {"utils", "util", "misc", "helpers", "helper", "common", "base", "core", "v2"}
PARENTS = {
    "nn.Module",
    "Dataset",
    "LightningModule",
    "LightningDataModule",
    "Callback",
    "NamedTuple",
    "torch.autograd.Function",
}
OTHER_PARENTS = {
    "train/processes/strategy.py": {"DDPStrategy"},
    "benchmarks/iterations.py": {"TorchDispatchMode"},
    "models/quantization.py": {"TorchFunctionMode"},
}
"""What Lightning and PyTorch let one adapt in no other way, file by file."""
LONGEST_FUNCTION_LINES, LONGEST_FILE_LINES = 60, 400
MOST_ARGUMENTS = 8
MOST_FILES_PER_ROOM, MOST_COMMANDS = 12, 20
HOME_FOLDERS = ("/" + "home/", "/" + "root/", "/" + "Users/")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def product_files() -> list[Path]:
    return sorted(chain.from_iterable((ROOT / package).rglob("*.py") for package in PACKAGES))


def files_of_tests() -> list[Path]:
    return sorted((ROOT / "tests").rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_modules(path: Path) -> set[str]:
    """Every module that is imported anywhere in a file, in functions and type-checking blocks too."""
    modules: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"{name_of(path)}: imports are absolute"
            modules.add(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "importlib.import_module"):
            assert isinstance(node.args[0], ast.Constant), f"{name_of(path)}: the name of an import is a constant"
            modules.add(str(node.args[0].value))
    return modules


def top_level_imports(path: Path) -> set[str]:
    return {module.partition(".")[0] for module in imported_modules(path)}


def functions_of(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, Function))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_the_arrows_allow(package: str) -> None:
    allowed = OWN_IMPORTS[package] | FOREIGN_IMPORTS[package] | {package}
    for path in (ROOT / package).rglob("*.py"):
        wrong = top_level_imports(path) - allowed - set(sys.stdlib_module_names)
        assert not wrong, f"{name_of(path)} imports {', '.join(sorted(wrong))}"


def test_the_arrows_have_no_cycle() -> None:
    placed: set[str] = set()
    while len(placed) < len(PACKAGES):
        lowest = {package for package in PACKAGES if package not in placed and placed >= OWN_IMPORTS[package]}
        assert lowest, f"a cycle among {set(PACKAGES) - placed}"
        placed |= lowest


def rooms() -> list[Path]:
    """Every folder with code; the files beside its sub folders are a room of their own."""
    return sorted({path.parent for path in product_files()})


def room_of(module: str) -> Path | None:
    """Where a module of this repository stands."""
    path = ROOT.joinpath(*module.split("."))
    if path.with_suffix(".py").is_file():
        return path.parent
    return path if path.is_dir() else None


def modules_named_in(path: Path) -> set[str]:
    """Imported modules of this repository, `from package import module` too."""
    modules = imported_modules(path)
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {module for module in modules if module.partition(".")[0] in PACKAGES}


def test_no_room_imports_one_that_imports_it() -> None:
    arrows: dict[Path, set[Path]] = {room: set() for room in rooms()}
    for path in product_files():
        if path.name != "__init__.py":  # it may gather what its package offers
            arrows[path.parent] |= {room for module in modules_named_in(path) if (room := room_of(module))}
    arrows = {room: others - {room} for room, others in arrows.items()}
    placed: set[Path] = set()
    while len(placed) < len(arrows):
        lowest = {room for room, others in arrows.items() if room not in placed and others <= placed}
        assert lowest, f"a circle among {', '.join(sorted(map(name_of, set(arrows) - placed)))}"
        placed |= lowest


def test_a_room_holds_about_ten_files_and_contributing_says_in_a_sentence_what_they_are() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for room in rooms():
        files = [path for path in room.glob("*.py") if path.name not in ("__init__.py", "__main__.py")]
        most = MOST_COMMANDS if room.name == "scripts" else MOST_FILES_PER_ROOM
        assert len(files) <= most, f"{name_of(room)} holds {len(files)} files"
        assert f"| `{name_of(room)}/` | " in table, f"{name_of(room)} has no row in CONTRIBUTING.md"


def test_no_code_stands_at_the_root() -> None:
    assert not list(ROOT.glob("*.py"))


def test_nobody_imports_the_tests() -> None:
    for path in product_files():
        assert not top_level_imports(path) & {"tests", "pytest"}, name_of(path)


def test_the_table_in_contributing_is_the_one_that_is_enforced() -> None:
    rows = {}
    for line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[0].strip("`/") in PACKAGES:
            rows[cells[0].strip("`/")] = set(cells[2].split(", "))
    assert rows.keys() == set(PACKAGES)
    for package in PACKAGES:
        expected = {"all"} if package == "scripts" else OWN_IMPORTS[package] | FOREIGN_IMPORTS[package]
        assert rows[package] == expected, f"{package}: {', '.join(sorted(expected))}"


def test_functions_and_files_are_short() -> None:
    for path in product_files():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= LONGEST_FILE_LINES, f"{name_of(path)} has {lines} lines"
        for function in functions_of(path):
            length = (function.end_lineno or 0) - function.lineno + 1
            assert length <= LONGEST_FUNCTION_LINES, f"{name_of(path)}: {function.name} has {length} lines"


def test_functions_take_at_most_eight_arguments() -> None:
    for path in product_files():
        for function in functions_of(path):
            given = function.args
            names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            number = len([name for name in names if name not in ("self", "cls")])
            assert number <= MOST_ARGUMENTS, f"{name_of(path)}: {function.name} takes {number} arguments"


def test_files_are_named_for_what_they_hold() -> None:
    for path in chain(product_files(), files_of_tests()):
        assert not set(path.relative_to(ROOT).with_suffix("").parts) & FORBIDDEN_NAMES, name_of(path)


def test_errors_are_never_swallowed_and_weights_never_half_loaded() -> None:
    for path in product_files():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ExceptHandler):
                place = f"{name_of(path)}:{node.lineno}"
                assert node.type is not None, f"{place} catches everything"
                caught = ast.unparse(node.type)
                if "Exception" in caught.replace("(", " ").replace(",", " ").split():
                    assert any(isinstance(n, ast.Raise) for n in ast.walk(node)), f"{place} hides every error"
            elif isinstance(node, ast.Call):
                options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert options.get("strict") != "False", f"{name_of(path)}:{node.lineno} has strict=False"


def test_files_from_outside_are_loaded_as_weights_only() -> None:
    for path in product_files():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                options = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert options.get("weights_only") == "True", f"{name_of(path)}:{node.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("pickle.load", "pickle.loads", "yaml.load"):
                raise AssertionError(f"{name_of(path)}:{node.lineno} loads what could run code")


def test_everything_public_has_a_docstring() -> None:
    for path in product_files():
        tree = tree_of(path)
        assert ast.get_docstring(tree), f"{name_of(path)} has no docstring"
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
        for scope in (tree, *classes):
            for node in scope.body:
                if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
                    assert ast.get_docstring(node), f"{name_of(path)}:{node.lineno} {node.name} has no docstring"


def test_parents_are_the_few_that_are_agreed_on() -> None:
    others: dict[str, set[str]] = {}
    for path in product_files():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                parents = {ast.unparse(parent).partition("[")[0] for parent in node.bases}
                if parents - PARENTS:
                    others.setdefault(name_of(path), set()).update(parents - PARENTS)
    assert others == OTHER_PARENTS


def test_names_of_tests_are_sentences() -> None:
    for path in files_of_tests():
        for function in functions_of(path):
            if function.name.startswith("test_"):
                assert function.name.count("_") >= 3, f"{name_of(path)}: {function.name}"


def test_no_tracked_file_names_a_home_folder() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git repository")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        content = path.read_bytes() if path.is_file() else b""
        for folder in HOME_FOLDERS:
            assert folder.encode() not in content, f"{name} names {folder}"
