"""The ROS 2 node of docs/video.md, run against stand-ins for rclpy and sensor_msgs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from glpn_deploy import DepthEstimator

PAGE = Path(__file__).parents[2] / "docs" / "video.md"


class Message(SimpleNamespace):
    """A message with the fields it was given."""


class Node:
    """rclpy's Node as far as the page uses it; what is published is kept."""

    parameters: ClassVar[dict] = {}

    def __init__(self, name):
        self.published = {}

    def declare_parameter(self, name, value):
        return SimpleNamespace(value=self.parameters.get(name, value))

    def create_publisher(self, kind, topic, profile):
        return SimpleNamespace(publish=lambda message: self.published.setdefault(topic, []).append(message))

    def create_subscription(self, kind, topic, callback, profile):
        setattr(self, f"on_{topic}", callback)


@pytest.fixture
def page(monkeypatch):
    """What the page's node defines."""
    (code,) = re.findall(r"```python\n(import numpy.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names = SimpleNamespace(KEEP_LAST=1, BEST_EFFORT=2)
    modules: dict[str, dict[str, Any]] = {
        "rclpy": {},
        "rclpy.node": {"Node": Node},
        "rclpy.qos": {"HistoryPolicy": names, "ReliabilityPolicy": names, "QoSProfile": SimpleNamespace},
        "sensor_msgs": {},
        "sensor_msgs.msg": {"Image": Message, "CameraInfo": Message},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    defined = {"__name__": "page"}
    exec(code, defined)
    return SimpleNamespace(**defined)


@pytest.fixture
def picture():
    """A camera's BGR image whose rows have padding, and the RGB it means."""
    bgr = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    rows = np.zeros((64, 96 * 3 + 8), np.uint8)
    rows[:, :-8] = bgr.reshape(64, -1)
    message = Message(header="stamp", height=64, width=96, step=rows.shape[1], encoding="bgr8")
    message.data = rows.tobytes()
    return message, bgr[..., ::-1]


def info():
    k = [100.0, 0, 47.5, 0, 110.0, 31.5, 0, 0, 1]
    p = [100.0, 0, 47.5, 0, 0, 110.0, 31.5, 0, 0, 0, 1, 0]
    return Message(width=96, height=64, k=k, p=p, r=[1.0], d=[0.0], distortion_model="plumb_bob")


@pytest.mark.parametrize("millimetres", [False, True])
def test_depth_as_rep_118_says(page, picture, millimetres, tiny_bundle, monkeypatch):
    monkeypatch.setattr(Node, "parameters", {"bundle": str(tiny_bundle), "millimetres": millimetres})
    node, (message, rgb) = page.DepthNode(), picture
    node.on_camera_info(info())
    node.on_image(message)
    node.estimator.close()
    (depth,) = node.published["depth/image_raw" if millimetres else "depth/image"]
    assert (depth.header, depth.height, depth.width) == ("stamp", 64, 96)
    assert (depth.encoding, depth.step) == (("16UC1", 192) if millimetres else ("32FC1", 384))
    found = np.frombuffer(depth.data, np.uint16 if millimetres else np.float32).reshape(64, 96)
    with DepthEstimator.load(tiny_bundle) as estimator:
        expected = estimator(np.ascontiguousarray(rgb))
    wanted = np.rint(expected.depth * np.float32(1000)) if millimetres else expected.depth
    np.testing.assert_allclose(found, wanted, atol=1 if millimetres else 1e-5)
    (camera,) = node.published["depth/camera_info"]
    assert (camera.k, camera.p) == (info().k, info().p)


def test_camera_info_shrinks_with_the_image(page, picture, tiny_bundle, monkeypatch):
    monkeypatch.setattr(Node, "parameters", {"bundle": str(tiny_bundle), "width": 48})
    node = page.DepthNode()
    node.on_camera_info(info())
    node.on_image(picture[0])
    node.estimator.close()
    (depth,), (camera,) = node.published["depth/image"], node.published["depth/camera_info"]
    assert (depth.height, depth.width, camera.height, camera.width) == (32, 48, 32, 48)
    # the middle of the image stays its middle
    assert camera.k == [50.0, 0, 23.5, 0, 55.0, 15.5, 0, 0, 1]
    assert camera.p == [50.0, 0, 23.5, 0, 0, 55.0, 15.5, 0, 0, 0, 1, 0]
