"""Many variants at once: in processes of this machine, or on the workers of a Dask cluster.

Both run the same function on the same arguments, so they give the same. On this machine the recording is read
from its file; to a cluster its bytes are sent once, so that workers need no common disk.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

from .recordfile import RecordingReader
from .variants import Outcome, Source, Variant
from .whatif import run_variant

CONNECT_S: Final = 10


Done = tuple[Outcome, float]
"""An outcome, and the seconds of a core it took."""


def task(source: Source, variant: Variant) -> Done:
    """What is run, wherever it is run."""
    began_s = time.thread_time()
    outcome = run_variant(source, variant)
    return outcome, time.thread_time() - began_s


def on_this_machine(path: Path, variants: Sequence[Variant], jobs: int) -> Iterator[Done]:
    """Outcomes in the order of the variants, each as soon as it and those before it are there."""
    if jobs == 1:
        yield from (task(path, variant) for variant in variants)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(variants)), mp_context=context) as pool:
        yield from pool.map(task, [path] * len(variants), variants)


def on_cluster(path: Path, variants: Sequence[Variant], scheduler: str) -> Iterator[Done]:
    """The same on a Dask cluster. Raises ModuleNotFoundError without `distributed`, OSError if the scheduler
    does not answer."""
    from distributed import Client

    parts: Source = tuple(one.read_bytes() for one in RecordingReader(path).paths)
    with Client(scheduler, timeout=CONNECT_S) as client:  # type: ignore[no-untyped-call]
        source = client.scatter(parts, broadcast=True, hash=False)
        futures = [client.submit(task, source, variant, pure=False) for variant in variants]
        for future in futures:
            yield future.result()
