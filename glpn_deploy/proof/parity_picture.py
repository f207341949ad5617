"""The image of a comparison that came out worst: input, reference, candidate and error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.depth.pictures import compose, depth_panel, error_limit, error_panel, image_panel
from glpn_deploy.proof.parity_report import ParityReport, WorstImage, describe_flags


def draw_worst_image(report: ParityReport, image: WorstImage, max_depth: float) -> NDArray[np.uint8]:
    """Draws the image that a comparison found worst.

    Depth is drawn on the fixed scale from 0 to ``max_depth``, the error on one that is fitted to it. What is
    not finite is black.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    picture = np.rint(image.pixel_values.transpose(1, 2, 0).clip(0, 1) * 255).astype(np.uint8)
    limit_m = error_limit(image.candidate, image.reference)
    worst = image.case
    said = "FAILED" if not worst.passed else "passed"
    flags = f", {describe_flags(worst.flags)}" if worst.flags else ""
    candidate, reference = report.candidate, report.reference
    run = f" ({candidate['run']})" if candidate.get("run", "native") != "native" else ""
    return compose(
        [
            image_panel("Input", picture, f"{picture.shape[0]}x{picture.shape[1]}"),
            depth_panel(
                f"Reference: {reference['backend']} {reference['precision']}", image.reference, max_depth
            ),
            depth_panel(f"{candidate['backend']} {candidate['precision']}", image.candidate, max_depth),
            error_panel("Error", image.candidate, image.reference, limit_m),
        ],
        heading=f"Worst image: {image.name}  {said}{flags}",
        footer=(
            f"{candidate.get('file', candidate['backend'])}{run} against {reference['backend']} "
            f"{reference['precision']}, {report.limit}. Its case: max "
            f"{worst.stats.max_abs_m:.2g} m, p99 {worst.stats.p99_abs_m:.2g} m, AbsRel "
            f"{worst.stats.abs_rel:.2g}. Error: candidate minus reference, colours end at ±{limit_m:g} m. "
            "Black: not finite."
        ),
    )
