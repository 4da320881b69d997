"""The processes of a launcher, told from what other programs left in the environment."""

from __future__ import annotations

from collections.abc import MutableMapping
from os import environ

from hw2.log import say

LAUNCHED = ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun sets, and `accelerate launch` through it, for each process that it starts."""

PLACES = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    *("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    *("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),
)
"""Variables by which accelerate finds that a process is one of several."""

KEPT = "ACCELERATE_USE_CPU"
"""Where to compute is for `accelerate launch --cpu` to say. How to compute is not: each training has its recipe."""


def forget_other_launchers(variables: MutableMapping[str, str] = environ) -> None:
    """Remove what would make accelerate wait for processes that nobody started, or compute in another way.

    Schedulers, MPI and notebooks leave ranks in the environment; the processes of a launcher have all of LAUNCHED.
    accelerate's own variables hold its default configuration, such as mixed precision or DeepSpeed. If a number of
    processes is removed, it says so on stderr.
    """
    for name in [name for name in variables if name.startswith("ACCELERATE_") and name != KEPT]:
        del variables[name]
    if all(variables.get(name) for name in LAUNCHED):
        return
    found = [name for name in PLACES if variables.pop(name, None) is not None]
    if sizes := [name for name in found if name.endswith("SIZE")]:
        say(f"{sizes[0]} is set, but no launcher started this process; it runs alone (use accelerate launch for more)")
