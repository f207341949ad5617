"""BatchOptions: how an archive of images is shared among workers. Light: commands read it for ``--help``."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Annotated, Literal

from glpn_deploy.errors import InputError
from glpn_deploy.options import ADVANCED, Option, check_options

Container = Literal["png", "parquet", "webdataset"]
_advanced = partial(Option, panel=ADVANCED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """What is written of every image, and by how many workers.

    Raises:
        InputError: A value is out of range, or two contradict each other.
    """

    into: Annotated[
        Container,
        Option(
            "png: a file an image, named after it. parquet, webdataset: the PNGs' bytes in few large files, "
            "for archives of millions."
        ),
    ] = "png"
    save: Annotated[
        Literal["mm", "kitti"],
        Option("mm: 16-bit millimetres, up to 65 m. kitti: 256 units a metre, up to 256 m."),
    ] = "mm"
    workers: Annotated[
        int | None,
        Option("Processes, of one thread each on a CPU [default: one a CPU, or one a GPU].", least=1),
    ] = None
    gpus_per_worker: Annotated[
        float,
        Option("Share of a GPU that a worker claims: 1, or 0.5 for two on each; 0 runs on CPUs.", least=0),
    ] = 0
    address: Annotated[
        str | None,
        Option(
            "Join the Ray cluster at this address ('auto': the one that this machine belongs to) "
            "[default: this machine alone, nothing to start]."
        ),
    ] = None
    retry_failed: Annotated[
        bool, Option("Where the job was done before, try the images again that failed then.")
    ] = False
    compress_level: Annotated[
        int, _advanced("Of the PNGs, 0 to 9: smaller files, more of the processor's time.", least=0, most=9)
    ] = 1
    images_per_part: Annotated[
        int | None,
        _advanced(
            "Images that one worker takes at a time; what a killed job has to do again "
            "[default: up to 64; 1000 for more than a million images].",
            least=1,
        ),
    ] = None
    stalled_after: Annotated[
        float, _advanced("Seconds without a finished image after which the job says why.", above=0)
    ] = 60

    def __post_init__(self) -> None:
        check_options(self)
        if self.address is not None and self.address.startswith("ray://"):
            raise InputError(
                f"the address {self.address}",
                expected="auto or HOST:PORT, from a machine of the cluster",
                fix="ray job submit --address http://HEAD:8265 -- glpn-batch ... --address auto",
            )
        if 1 < self.gpus_per_worker != int(self.gpus_per_worker):
            raise InputError(
                f"gpus_per_worker {self.gpus_per_worker:g}", expected="below 1, or a whole number"
            )

    @property
    def units_per_metre(self) -> int:
        """Of the PNGs."""
        return 1000 if self.save == "mm" else 256
