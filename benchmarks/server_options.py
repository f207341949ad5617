"""What is asked of a server, and how hard. Light: commands read it for ``--help``."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from glpn_deploy.errors import InputError
from glpn_deploy.options import WHOLE_NUMBERS, Option, check_options

MOST_CALLERS = 256
CALLERS = (1, 2, 4, 8, 16, 32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """A server under load, instead of a bundle in this process.

    Raises:
        InputError: A value is out of range, or a load is asked for without a server.
    """

    server: Annotated[
        str | None,
        Option(
            "Measure a server of the KServe v2 protocol instead (see glpn-serve), on the images of --images "
            "or on rendered ones.",
            metavar="URL",
        ),
    ] = None
    model: Annotated[
        str | None, Option("The server's model [default: glpn, else glpn_python].", names=("--model",))
    ] = None
    server_callers: Annotated[
        tuple[int, ...],
        Option(
            "With --server: callers, each of which calls again when it has its answer.",
            names=("--callers",),
            metavar="N,…",
            reader=WHOLE_NUMBERS,
        ),
    ] = CALLERS
    rate: Annotated[
        float | None,
        Option(
            "With --server: instead, images a second that come at random, whether or not answers do.", above=0
        ),
    ] = None

    def __post_init__(self) -> None:
        check_options(self)
        if not self.server_callers or not all(1 <= n <= MOST_CALLERS for n in self.server_callers):
            raise InputError(f"--callers {self.server_callers}", expected=f"numbers from 1 to {MOST_CALLERS}")
        if self.server is None and (self.rate, self.model, self.server_callers) != (None, None, CALLERS):
            raise InputError("--rate, --model or --callers without --server", expected="the server's URL")
