"""glpn-doctor: what this machine can run, what is missing, and how to fix it."""

from __future__ import annotations

import typer

from glpn_deploy.cli.app import FAILED, command
from glpn_deploy.cli.options import JsonOption
from glpn_deploy.optional import install_line

_DETAIL = len("✓ tensorrt_rtx ")


def doctor(as_json: JsonOption = False) -> None:
    """Tell what this machine can run and how to fix what is missing.

    Looks at Python, the processor, memory, the GPU and its driver, every backend, what building TensorRT
    engines needs, and the export tools; on a Jetson also at JetPack, power mode and clocks. Needs no root.
    Exit status: 0 at least one backend can run, 1 none can.

    Example: glpn-doctor
    """
    from rich.markup import escape

    from glpn_deploy.cli.console import output, print_json, say_next
    from glpn_deploy.doctor.machine import look, to_dict

    console = output(as_json=as_json)
    marks = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "missing": "[red]✗[/]"}
    findings = []
    for finding in look():
        findings.append(finding)
        if not as_json:
            line = f"{marks[finding.status]} {finding.name:<12} {escape(finding.detail)}"
            console.print(line, hang=_DETAIL)
            if finding.fix:
                console.print(f"{'':<{_DETAIL}}→ {escape(finding.fix)}")
    report = to_dict(findings)
    if as_json:
        print_json(report)
    elif report["backends"]:
        console.print(f"\nThis machine can run bundles with: {', '.join(report['backends'])}.")
    else:
        console.print("\nNo backend can run.")
        say_next(console, install_line("cpu"))
    if not report["backends"]:
        raise typer.Exit(FAILED)


main = command(doctor)

if __name__ == "__main__":
    main()
