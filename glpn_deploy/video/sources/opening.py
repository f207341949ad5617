"""What a person names (a clip, an address, a camera, a folder) as a source of frames."""

from __future__ import annotations

import os
import re
from pathlib import Path

from glpn_deploy.images.moving import ADDRESS, CLIP_SUFFIXES, FRAMES_FOLDER, LIVE
from glpn_deploy.video.frame import FrameSource
from glpn_deploy.video.options import FrameOptions

_ALL = FrameOptions()


def is_video(name: str | os.PathLike[str]) -> bool:
    """Whether a name means frames: an address, a camera, ``frames:FOLDER``, or a clip by its suffix."""
    text = os.fspath(name)
    return bool(
        ADDRESS.match(text)
        or LIVE.match(text)
        or text.startswith(FRAMES_FOLDER)
        or Path(text).suffix.lower() in CLIP_SUFFIXES
    )


def frames(source: str | os.PathLike[str], options: FrameOptions = _ALL) -> FrameSource:
    """Opens a source of frames.

    ::

        with frames("clip.mp4") as clip:
            for frame in clip:
                print(frame.time, frame.image.shape)

    Args:
        source: A clip's path; ``frames:FOLDER``, whose images in the order of their names are the frames;
            ``rtsp://…`` or another address; ``camera:0``; ``gstreamer:PIPELINE``, which ends in ``appsink``
            (OpenCV with GStreamer, as JetPack has it). The last three are live: the newest frame is
            given, and those that came in between are dropped.
        options: Which frames, and how long a camera is waited for.

    Raises:
        VideoError: It cannot be opened, holds no video, or does not answer.
        ImageError: The folder has no images.
        InputError: An option does not fit the source.
        MissingDependencyError: What reads it is not installed.
    """
    text = os.fspath(source)
    if text.startswith(FRAMES_FOLDER):
        from glpn_deploy.video.sources.folder_frames import FolderFrames

        return FolderFrames(text.removeprefix(FRAMES_FOLDER), options)
    if ADDRESS.match(text) or LIVE.match(text):
        from glpn_deploy.video.sources.live_frames import LiveFrames
        from glpn_deploy.video.sources.live_readers import reader_of

        shown = re.sub(r"//[^/@]*@", "//", text)  # without a password
        return LiveFrames(shown, reader_of(text, shown, options), options)
    from glpn_deploy.video.sources.clip_frames import ClipFrames

    return ClipFrames(Path(text), options)
