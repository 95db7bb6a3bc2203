"""How a run ends: errors of one process reach the others, and a lost process is named in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed
from pytorch_lightning.strategies import Strategy

from system.command_line import exit_code_of
from train.processes.strategy import ExplicitAveraging
from train.run.data_module import LOADER_TIMEOUT_SECONDS, FacesDataModule

CONTINUE = "the same command continues from the last checkpoint"


@contextmanager
def ending_together(strategy: Strategy, data: FacesDataModule) -> Iterator[None]:
    """Inside, an error of this process ends the other processes of the run, and the workers of its data, too. Raises
    ChildProcessError where a worker or a process of the run was lost."""
    try:
        yield
    except BaseException as error:
        watch = strategy.watch if isinstance(strategy, ExplicitAveraging) else None
        has_hung = data.loader is not None and data.loader.has_hung
        problem = plain_problem(RuntimeError("DataLoader timed out") if has_hung else error, data)
        if watch is not None:
            if _is_of_a_collective(error):
                watch.wait_for_reason()  # which ends this process if it finds one
            watch.fail(str(problem) or type(problem).__name__, exit_code_of(problem))
        if problem is error:
            raise
        raise problem from None
    finally:
        data.end_workers()
    if isinstance(strategy, ExplicitAveraging):
        strategy.end_processes()


def plain_problem(error: BaseException, data: FacesDataModule) -> BaseException:
    """What an error of PyTorch about lost processes means; files that workers died of are noted as broken."""
    text = " ".join(str(error).split())
    has_hung, has_died = "DataLoader timed out" in text, "DataLoader worker (pid" in text
    if isinstance(error, RuntimeError) and (has_hung or has_died):
        reading, how = f" while reading {', '.join(data.being_read()[:4]) or 'nothing'}", data.lost_worker()
        try:
            deadly = data.note_deadly_faces()
        except (ValueError, OSError) as problem:  # too many broken faces
            return problem
        go_on = CONTINUE
        if deadly:
            go_on = f"{', '.join(deadly)} does so by itself and is noted in {data.broken.report}; {CONTINUE} without it"
        if has_hung:
            return ChildProcessError(
                f"no photographs arrived for {LOADER_TIMEOUT_SECONDS} seconds{reading}: a worker of the data loader "
                f"hangs or the storage of --data.faces does not answer; {go_on}"
            )
        return ChildProcessError(
            f"a worker of the data loader died{reading} ({how or text.partition('. ')[0]}); if memory ran out lower "
            f"--data.num_workers or --data.cache_mebibytes; {go_on}"
        )
    if _is_of_a_collective(error):
        return ChildProcessError(f"the connection to another process of the run failed ({text[:200]}); {CONTINUE}")
    return error


def _is_of_a_collective(error: BaseException) -> bool:
    is_dist_error = isinstance(error, torch.distributed.DistError)
    return is_dist_error or (isinstance(error, RuntimeError) and "gloo" in str(error))
