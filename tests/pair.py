"""Two processes of one run, forked from a warm one: they start in a tenth of the time a launcher takes."""

import importlib
import multiprocessing
import os
import socket
import sys
from signal import SIGSTOP

from faulty import die_before_disk_step

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["pair", "transfer3d.run.training.train", "transfer3d.cli.main", "timm.optim"])


def signal_in_step(number, signal, ranks=(0, 1)):
    """Processes of these ranks get a signal in their `number`-th training step."""
    from transfer3d.engine.trainer import Trainer

    whole = Trainer._train_step

    def step(trainer, batch):
        if trainer.step == number - 1 and trainer.accelerator.process_index in ranks:
            os.kill(os.getpid(), signal)
        return whole(trainer, batch)

    Trainer._train_step = step


def stop_in_call(place, name, number, rank, hung_after_s=10):
    """The process of this rank is stopped (SIGSTOP) in its `number`-th call of a function.

    Args:
        place: module, or module and class as in "transfer3d.engine.trainer:Trainer".
        name: of the function there.
    """
    os.environ["TRANSFER3D_HUNG_AFTER"] = str(hung_after_s)
    module, _, kind = place.partition(":")
    owner = importlib.import_module(module)
    owner = getattr(owner, kind) if kind else owner
    whole, calls = getattr(owner, name), []

    def call(*arguments, **options):
        calls.append(name)
        if len(calls) == number and os.environ["RANK"] == str(rank):
            os.kill(os.getpid(), SIGSTOP)
        return whole(*arguments, **options)

    setattr(owner, name, call)


def die_in_checkpoint(step, moment):
    """The main process is killed before its `moment`-th step on the disk, in the checkpoint of a step."""
    from transfer3d.engine.run_folder import RunFolder

    whole = RunFolder.save_checkpoint

    def save(folder, number, *arguments, **options):
        if number == step:
            die_before_disk_step(moment)
        whole(folder, number, *arguments, **options)
        if number == step:
            os._exit(0)  # it came through: the write has fewer steps

    RunFolder.save_checkpoint = save


def _process(rank, port, said, arguments, fault):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_PORT": str(port)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true"}
    with said.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    from transfer3d.cli.main import main

    torch.set_num_threads(1)
    if fault:
        fault[0](*fault[1:])
    sys.argv = ["transfer3d", *arguments]
    main()


def start(arguments, said, fault=()):
    """Starts `transfer3d ARGUMENTS` in two processes; each writes what it says to `said`.0 or `said`.1.

    Args:
        fault: a function and its arguments: called in both processes before they begin.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in (0, 1):
        file = said.with_name(f"{said.name}.{rank}")
        processes.append(FORKS.Process(target=_process, args=(rank, port, file, arguments, fault)))
        processes[-1].start()
    return processes


def end(processes, seconds=240):
    """Waits for both, and returns their exit codes; minus 9 is that of a process that was killed."""
    for process in processes:
        process.join(seconds)
    return [process.exitcode for process in processes]


def kill(processes):
    """Kills both at once, and returns whether that ended one of them."""
    for process in processes:
        process.kill()
    return -9 in end(processes)
