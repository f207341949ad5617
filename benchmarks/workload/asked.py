"""What a benchmark was asked for by name, and whether it can be had."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from glpn_deploy.benchmarks.options import BenchOptions
from glpn_deploy.benchmarks.workload.cases import CaseId, NotRun
from glpn_deploy.errors import UnavailableError


def require_asked(options: BenchOptions, have: Collection[CaseId], not_run: Sequence[NotRun]) -> None:
    """Refuses where a backend or a precision that was named has no row at all.

    Args:
        options: What was asked for.
        have: What can be measured, or was.
        not_run: Why the others cannot.

    Raises:
        UnavailableError: There is such a name.
    """
    if options.allow_fallback:
        return
    backends = {(case.backend or "").partition("@")[0] for case in have}
    precisions = {case.precision for case in have}
    for kind, names, there in (
        ("backend", options.backends, backends),
        ("precision", options.precisions, precisions),
    ):
        for name in names or ():
            if name in there:
                continue
            about = [
                item.reason.rstrip(".")
                for item in not_run
                if name in ((item.case.backend or "").partition("@")[0], item.case.precision)
            ]
            raise UnavailableError(
                f"{kind} {name} was asked for, and nothing of it can be measured here: "
                f"{about[0] if about else 'no artefact or backend has it'}",
                expected=f"some of {', '.join(sorted(filter(None, there)))}" if there else "",
                fix=f"leave {name} out, or add --allow-fallback to measure the rest",
            )
