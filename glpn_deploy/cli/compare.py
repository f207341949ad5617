"""glpn-compare: did anything become faster or slower between two reports of glpn-bench?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from glpn_deploy.benchmarks.options import CompareOptions
from glpn_deploy.cli.app import command
from glpn_deploy.cli.options import JsonOption
from glpn_deploy.options import Option


def compare(
    first: Annotated[
        Path, Option("Report of before: a folder of glpn-bench, or its report.json.", argument=True)
    ],
    second: Annotated[Path, Option("Report of after.", argument=True)],
    options: CompareOptions,
    as_json: JsonOption = False,
) -> None:
    """Compare two benchmark reports of one machine, case by case.

    Exit status: 0 nothing became slower by more than the margin, 1 a case did, could not be judged or is
    gone, 2 wrong use, or unlike machines, checkpoints or images.

    Example: glpn-compare before-bench after-bench --margin 0.03
    """
    from glpn_deploy.cli.working.compare import run

    run(first, second, options, as_json=as_json)


main = command(compare)

if __name__ == "__main__":
    main()
