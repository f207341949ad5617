"""The part of glpn-predict that takes clips and cameras: sources opened, predicted one by one, told of."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from glpn_deploy.cli.console import output
from glpn_deploy.cli.options import SaveOptions
from glpn_deploy.cli.working.loading import conclude, load_to_predict
from glpn_deploy.errors import GlpnError, InputError
from glpn_deploy.runtimes.options import LoadOptions
from glpn_deploy.video.mjpeg_page import MjpegPage
from glpn_deploy.video.options import FrameOptions, VideoOptions
from glpn_deploy.video.outputs import check_save
from glpn_deploy.video.predicting import INTERRUPTED, VideoReport, predict_video, stem_of
from glpn_deploy.video.sources.opening import frames, is_video


def are_videos(names: Sequence[str], frame_options: FrameOptions, options: VideoOptions) -> bool:
    """Whether the names mean videos; all of them, or none.

    Raises:
        InputError: Some are images and some are videos, or images come with options for videos.
    """
    videos = [name for name in names if is_video(name)]
    if videos and len(videos) < len(names):
        other = next(name for name in names if name not in videos)
        raise InputError(
            f"the video {videos[0]} together with {other}", expected="videos or images, not both"
        )
    given = [
        field.name
        for chosen in (frame_options, options)
        for field in dataclasses.fields(chosen)
        if getattr(chosen, field.name) != field.default
    ]
    if given and not videos:
        raise InputError(
            f"--{given[0]} for {names[0]}",
            expected="a clip, a camera or an address",
            fix=f"a folder whose images are frames is frames:{names[0]}",
        )
    return bool(videos)


def predict_videos(
    network: str,
    names: Sequence[str],
    saving: SaveOptions,
    frame_options: FrameOptions,
    options: VideoOptions,
    load: LoadOptions,
    *,
    as_json: bool,
) -> None:
    """Predicts every source and tells what was made of it; exit status 1 where one ended before its time.

    Raises:
        GlpnError: The only source cannot be opened or gave no frame, or the network cannot be used.
    """
    if saving.skip_existing:
        raise InputError(
            f"--skip-existing for {names[0]}", expected="images; a video is predicted as a whole"
        )
    if saving.max_m == "auto":
        raise InputError(f"--max-m auto for {names[0]}", expected="metres: a video has one scale throughout")
    options = dataclasses.replace(options, save=saving.save, max_m=saving.max_m)
    console = output(as_json=as_json)
    check_save(options.save)
    stem, count = Counter(map(stem_of, names)).most_common(1)[0]
    if count > 1:
        raise InputError(
            f"{count} of the videos would be saved as {stem}", expected="one at a time, each --out"
        )
    first = frames(names[0], frame_options)  # what cannot be opened is known before the network is loaded
    reports: list[dict[str, Any]] = []
    failed = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(first)
        estimator = stack.enter_context(load_to_predict(console, network, load))
        page = stack.enter_context(MjpegPage()) if options.show else None
        if page is not None:
            console.print(f"  the newest frame: {page.url}", markup=False)
        for name in names:
            try:
                source = first if name == names[0] else frames(name, frame_options)
                report = predict_video(estimator, source, saving.out, options, page)
            except GlpnError as error:
                if len(names) == 1:
                    raise
                failed += 1
                reports.append({"source": name, "error": str(error)})
                console.print(f"[red]✗[/] {escape(str(error))}", markup=True)
                continue
            failed += bool(report.ended) and not _stopped(report)
            reports.append(report.to_dict())
            _tell(console, report)
            if report.ended == INTERRUPTED:
                break
        conclude(estimator, saving.out, failed, {"videos": reports}, as_json=as_json)


def _stopped(report: VideoReport) -> bool:
    """Whether a camera was stopped by Ctrl-C, which is how one ends."""
    return report.live is not None and report.ended == INTERRUPTED


def _tell(console: Console, report: VideoReport) -> None:
    """A report for people."""
    parts = [f"{report.frames_per_s:.1f} frames/s"]
    if report.live is not None:
        latency = report.live["latency_ms"]
        parts.append(f"{report.live['dropped']} frames dropped")
        parts.append(f"depth {latency['median']:.0f} ms after its frame, {latency['max']:.0f} at most")
    if report.flicker["pairs"]:
        parts.append(f"the scale jumps by {report.flicker['scale_jump']:.1%} a frame")
    console.print(f"  {', '.join(parts)}", markup=False)
    for path in report.files.values():
        console.print(f"  {path}", markup=False)
    if report.ended and not _stopped(report):
        console.print(f"  ended early: {report.ended} What was done is kept.", style="red", markup=False)
