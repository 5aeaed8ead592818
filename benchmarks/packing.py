"""How many trials share a device: what `search.resources: auto` measures, and what so many at once then take.

    python benchmarks/packing.py                     # on the GPU, where there is one
    python benchmarks/packing.py --device cpu

Each task is measured by one short training in a process of its own; then as many processes as are said to fit train
it at once, each capped to its share, and their peaks are read. Needs neither Ray nor Optuna nor MLflow.
"""

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pandas as pd
import torch

from metaopt.gan import Task, task_from_spec
from metaopt.schedules import build_schedule
from metaopt.search.packing import Node, Share, measured_share
from metaopt.training import train
from metaopt.training.footprint import Footprint, cap_gpu_memory, footprint, gpu_peak_mb, peak_memory_mb

SCHEDULE = build_schedule("constant", {"lr_g": 2e-4, "lr_d": 2e-4, "update_ratio": 1.0})
TASKS = (
    task_from_spec("digits", n_samples=500),
    task_from_spec("mnist5k", n_samples=500),
    task_from_spec("mnist5k", name="mnist5k-w64", width=64, n_samples=500),
)
MOST = 16
"""Processes at once that are tried here, however many fit."""


def measured(task: Task, device: str) -> Footprint:
    """One short training, in this process."""
    torch.set_num_threads(1)
    return footprint(task, SCHEDULE, device=device)


def trained(task: Task, device: str, share: Share) -> tuple[str, float]:
    """How a capped training ends, and its peak in MiB."""
    torch.set_num_threads(1)
    if 0 < share.gpu < 1:
        cap_gpu_memory(share.gpu, share.gpu_context_mb)
    try:
        *_, last = train(replace(task, budget=200, evaluations=2), SCHEDULE, device=device)
    except torch.OutOfMemoryError:
        return "out of memory", gpu_peak_mb(device)
    return str(last.outcome), gpu_peak_mb(device) if share.gpu else peak_memory_mb()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    device = parser.parse_args().device
    node = Node(cpu=os.cpu_count() or 1, memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20)
    if device == "cuda":
        print(torch.cuda.get_device_name())
        total_mb = torch.cuda.get_device_properties(device).total_memory / 2**20
        node = replace(node, gpu=1, gpu_memory_mb=total_mb, name="here")
    rows, spawn = [], multiprocessing.get_context("spawn")
    for task in TASKS:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            found = pool.submit(measured, task, device).result()
        share = measured_share({0: found}, [(0,)], [node])
        n = min(MOST, node.room(share))
        with ProcessPoolExecutor(n, mp_context=spawn) as pool:
            ended = list(pool.map(trained, [task] * n, [device] * n, [share] * n))
        rows.append(
            {
                "task": task.name,
                "training, MiB": round(found.gpu_memory_mb or found.memory_mb),
                "process, MiB": round(found.gpu_context_mb or found.process_mb),
                "share": str(share),
                "fit": node.room(share),
                "at once": n,
                "ended as": ", ".join(sorted({outcome for outcome, _ in ended})),
                "largest peak, MiB": round(max(peak for _, peak in ended)),
            }
        )
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
