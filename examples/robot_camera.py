"""A robot's eyes, without ROS: the newest frame, its depth in metres, and the points in the robot's way.

    python examples/robot_camera.py glpn-nyu camera:0 --fov 60
    python examples/robot_camera.py glpn-nyu rtsp://10.0.0.7/stream --intrinsics 525,525,319.5,239.5

It prints, for every frame, how old the depth is and how far the nearest thing in the robot's way is. Replace
`act` by what your robot does; docs/video.md shows the same loop as a ROS 2 node.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from glpn_deploy import DepthEstimator, DepthMap
from glpn_deploy.depth.point_cloud import Intrinsics
from glpn_deploy.video import Frame, FrameOptions, frames

WIDTH_M, HEIGHT_M = 0.6, 0.8  # the robot's, about the camera's axis


def points_in_the_way(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of points (N, 3) [m], x right, y down, z forward, those in the corridor that the robot takes."""
    inside = (np.abs(points[:, 0]) < WIDTH_M / 2) & (np.abs(points[:, 1]) < HEIGHT_M / 2)
    return points[inside]


def act(frame: Frame, depth_map: DepthMap, camera: Intrinsics) -> None:
    """What the robot does with a frame; this one tells the distance of the nearest thing in its way."""
    points, _ = depth_map.point_cloud(camera, stride=4)
    blocked = points_in_the_way(points)
    nearest = f"{np.percentile(blocked[:, 2], 2):.2f} m" if len(blocked) else "nothing"
    age = f", {1e3 * (time.monotonic() - frame.arrived):.0f} ms old" if frame.arrived else ""
    print(f"{frame.time:8.2f} s  in the way: {nearest}{age}")


def main() -> None:
    """Runs until the source ends or Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", help="bundle folder, checkpoint, or demo")
    parser.add_argument("source", help="camera:0, rtsp://..., gstreamer:PIPELINE, or a clip")
    parser.add_argument("--fov", type=float, default=60, help="horizontal field of view [degrees]")
    parser.add_argument("--intrinsics", help="FX,FY,CX,CY [px] of frames as they come, instead of --fov")
    parser.add_argument("--seconds", type=float, help="stop after so long")
    given = parser.parse_args()
    options = FrameOptions(end=given.seconds)
    with DepthEstimator.load(given.bundle) as estimator, frames(given.source, options) as source:
        camera: Intrinsics | None = None
        # A live frame is taken when the network is free for it, so that its depth is as fresh as can be.
        for result in estimator.stream(source, read_ahead=not source.live):
            if camera is None:
                height, width = result.image.shape[:2]
                camera = Intrinsics.from_fov(given.fov, width, height)
                if given.intrinsics:
                    fx, fy, cx, cy = map(float, given.intrinsics.split(","))
                    camera = Intrinsics(fx=fx, fy=fy, cx=cx, cy=cy)
            act(result.item, result.depth_map, camera)


if __name__ == "__main__":
    main()
