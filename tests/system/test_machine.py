"""The machine says what it is and which precisions it computes natively."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from system import machine
from system.machine import BF16, FLOAT32, code_state, fastest_precision, native_precisions, processor, versions

ROOT = Path(__file__).resolve().parents[2]
SAPPHIRE_RAPIDS = "fpu sse4_2 avx2 avx512f avx512_bf16 avx512_vnni amx_bf16 amx_int8"
SKYLAKE = "fpu sse4_2 avx2 avx512f avx512dq"
ZEN_3 = "fpu sse4_2 avx2 fma vaes"


@pytest.fixture(autouse=True)
def _any_processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable of the surroundings holds PyTorch back, and nothing is remembered from test to test."""
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"):
        monkeypatch.delenv(name, raising=False)
    factor = machine.bf16_factor
    factor.cache_clear()
    yield
    factor.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, **fields: str) -> None:
    """Makes this a machine with that entry in /proc/cpuinfo; underscores stand for spaces."""
    values = {name.replace("_", " "): value for name, value in fields.items()}
    monkeypatch.setattr(machine, "_processor_fields", lambda: values)


@pytest.mark.parametrize(
    ("flags", "precisions"),
    [(SAPPHIRE_RAPIDS, (FLOAT32, BF16)), (SKYLAKE, (FLOAT32,)), (ZEN_3, (FLOAT32,))],
    ids=["AMX", "AVX-512 without bf16", "AVX2"],
)
def test_bf16_is_native_where_the_processor_has_instructions_for_it(
    flags: str, precisions: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, flags=flags)
    assert native_precisions() == precisions
    assert fastest_precision().name == precisions[-1]


@pytest.mark.parametrize(
    ("variable", "value", "precisions"),
    [
        ("ONEDNN_MAX_CPU_ISA", "AVX2", (FLOAT32,)),
        ("ONEDNN_MAX_CPU_ISA", "avx512_core", (FLOAT32,)),
        ("DNNL_MAX_CPU_ISA", "AVX2_VNNI", (FLOAT32,)),
        ("ATEN_CPU_CAPABILITY", "avx2", (FLOAT32,)),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", (FLOAT32, BF16)),
        ("ONEDNN_MAX_CPU_ISA", "ALL", (FLOAT32, BF16)),
        ("ATEN_CPU_CAPABILITY", "avx512", (FLOAT32, BF16)),
    ],
)
def test_variables_that_hold_pytorch_back_count(
    variable: str, value: str, precisions: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, flags=SAPPHIRE_RAPIDS)
    monkeypatch.setenv(variable, value)
    assert native_precisions() == precisions


@pytest.mark.parametrize(("factor", "name"), [(0.5, BF16), (1.0, FLOAT32), (4.0, FLOAT32)])
def test_on_arm_a_measurement_decides_as_flags_do_not_tell(
    factor: float, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, Features="fp asimd bf16 i8mm")
    monkeypatch.setattr(machine, "bf16_factor", lambda: factor)
    assert native_precisions() == (FLOAT32, BF16)
    assert fastest_precision().name == name


def test_the_reason_for_a_precision_names_what_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, flags=ZEN_3)
    assert fastest_precision().reason == "this processor has no units for bf16"
    pretend(monkeypatch, flags=SAPPHIRE_RAPIDS)
    assert fastest_precision().reason == "this processor computes bf16 natively (avx512_bf16, amx_bf16)"


def test_without_a_gpu_none_computes_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert native_precisions(on_gpu=True) == (FLOAT32,)
    assert fastest_precision(on_gpu=True).reason == "this GPU has no units for bf16"


def test_the_measured_factor_is_that_of_two_times_and_is_measured_once() -> None:
    factor = machine.bf16_factor()
    assert 0.01 < factor < 1000
    assert machine.bf16_factor() == factor


def test_a_processor_is_described_by_name_extensions_and_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, model_name="Example 9000", cpu_family="25", model="33", flags=ZEN_3)
    monkeypatch.setattr(machine, "num_cores", lambda: 3)
    assert processor() == "Example 9000 (family 25, model 33; avx2), 3 cores"
    pretend(monkeypatch, model_name="Example", flags="")
    assert processor() == "Example (no extensions known), 3 cores"


def test_versions_name_python_and_say_what_is_not_installed() -> None:
    found = versions(("torch", "a-package-that-nobody-has"))
    assert found["python"].split(".")[0] == str(sys.version_info.major)
    assert found["a-package-that-nobody-has"] == "not installed" and found["torch"][0].isdigit()


def test_the_state_of_the_code_is_a_commit_or_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "ROOT", tmp_path)  # no repository
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert code_state() == {"git_commit": "unknown", "git_dirty": None}


def test_a_command_that_needs_no_networks_names_the_machine_without_importing_torch() -> None:
    code = "import sys; from system import machine; print(machine.processor()); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0


def test_kept_memory_lies_in_huge_pages_where_the_kernel_gives_them_to_those_who_ask() -> None:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not setting.is_file() or "[never]" in setting.read_text():
        pytest.skip("this kernel has no transparent huge pages")
    code = """
import sys
from pathlib import Path
from system import machine
machine.keep_freed_memory()
kept = b"1" * 2**26
lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
(kilobytes,) = (int(line.split()[1]) for line in lines if line.startswith("AnonHugePages:"))
sys.exit(kilobytes < 2**15)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
