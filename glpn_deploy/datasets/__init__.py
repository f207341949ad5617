"""The data sets GLPN is trained and judged on, in their published layouts."""

from __future__ import annotations

from glpn_deploy.datasets.base import DepthDataset as DepthDataset
from glpn_deploy.datasets.base import DepthSample as DepthSample
from glpn_deploy.datasets.registry import open_dataset as open_dataset
