"""glpn-verify: is this bundle whole, and does it give the reference's depth on this machine?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glpn_deploy.cli.app import ConsoleProgress, command, output, print_json
from glpn_deploy.cli.options import DeviceOption, JsonOption, OfflineOption, ThreadsOption


def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    reference: Annotated[
        str | None,
        typer.Option(
            help="Checkpoint folder, hub id or .ckpt: also compare with PyTorch over the whole shape sweep."
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0.0, help="Largest difference allowed, as a share of max_depth [default: 1e-5]."),
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check a bundle's digests, and its depth against the reference.

    Without --reference the bundle's own goldens are used: inputs and PyTorch's outputs that travel
    with it, so that any machine can verify without torch. Exit status: 0 the depth is the
    reference's, 1 it is not, 2 wrong use or a damaged bundle.

    Example: glpn-verify glpn-nyu --reference vinvino02/glpn-nyu
    """
    from glpn_deploy.runtimes.base import RuntimeOptions
    from glpn_deploy.verification import verify_bundle

    console = output(as_json=as_json)
    options = RuntimeOptions(device, threads=threads)
    reports = verify_bundle(bundle, reference, options, tolerance, offline, ConsoleProgress(console))
    for report in reports:
        ran = f"{report.candidate['backend']} on {report.candidate['device']}"
        console.print(f"\n{ran} against {report.reference['backend']}, at most {report.tolerance_m:.2g} m:")
        for case in report.cases:
            mark = "[green]✓[/]" if case.passed else "[red]✗[/]"
            stats = case.stats
            figures = (
                f"max {stats.max_abs_m:.2e} m   p99 {stats.p99_abs_m:.2e} m   AbsRel {stats.abs_rel:.2e}"
            )
            console.print(f"  {mark} {case.name:<18} {figures}")
    if as_json:
        print_json({"passed": all(r.passed for r in reports), "reports": [r.to_dict() for r in reports]})
    for report in reports:
        report.require()
    console.print(
        "\nThe depth is the reference's."
        + ("" if reference else f"  Next:\n  glpn-predict {bundle} photo.jpg")
    )


main = command(verify)

if __name__ == "__main__":
    main()
