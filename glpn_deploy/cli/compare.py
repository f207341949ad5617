"""glpn-compare: did anything become faster or slower between two reports of glpn-bench?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glpn_deploy.cli.app import command
from glpn_deploy.cli.options import JsonOption


def compare(
    first: Annotated[
        Path, typer.Argument(help="Report of before: a folder of glpn-bench, or its report.json.")
    ],
    second: Annotated[Path, typer.Argument(help="Report of after.")],
    margin: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Changes of time below this share do not count.")
    ] = 0.03,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            "--anyway",
            help="Compare unlike machines, checkpoints and images too, and judge by time alone what else "
            "could not be judged.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two benchmark reports of one machine, case by case.

    Exit status: 0 nothing became slower by more than the margin, 1 a case did, could not be judged or is
    gone, 2 wrong use, or unlike machines, checkpoints or images.

    Example: glpn-compare before-bench after-bench --margin 0.03
    """
    from glpn_deploy.cli.working.compare import run

    run(first, second, margin, force=force, as_json=as_json)


main = command(compare)

if __name__ == "__main__":
    main()
