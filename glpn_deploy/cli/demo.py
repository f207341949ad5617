"""``make demo``: the demo checkpoint exported, verified and run on a rendered room or a photograph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from glpn_deploy.checkpoints.hub import DEMO
from glpn_deploy.cli.app import command
from glpn_deploy.optional import needs
from glpn_deploy.options import Option
from glpn_deploy.runtimes.registry import require_backend

DEFAULT_ROOM = 7
"""The test room that is shown: chosen for its view (a whole room, near and far), not for its figures."""


def demo(
    image: Annotated[Path | None, Option("Photograph to predict, instead of a rendered room.")] = None,
    out: Annotated[Path, Option("Folder for the bundle and the pictures.")] = Path("demo"),
    room: Annotated[int, Option("Which of the test rooms to show.", least=0)] = DEFAULT_ROOM,
    checkpoint: Annotated[str, Option("Another checkpoint than the packaged one.")] = DEMO,
) -> None:
    """Export the demo checkpoint, verify it, and show what it sees.

    Writes OUT/bundle, the depth as 16-bit millimetres and in colour, and one picture with everything
    side by side: for a room of the test seeds with ground truth and error.

    Example: python -m glpn_deploy.cli.demo --image photo.jpg
    """
    for backend in ("torch", "onnxruntime"):
        require_backend(backend)
    with needs("exporting the demo network", "cpu", "export"):
        from glpn_deploy.cli.working.demo import run
    run(image, out, room, checkpoint)


main = command(demo)

if __name__ == "__main__":
    main()
