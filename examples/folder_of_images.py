"""Depth of every image in a folder, and a table of how near and far each one reaches.

    python examples/folder_of_images.py glpn-nyu photos out

Writes OUT/NAME.npy (float32 metres, at the image's own size) and OUT/depth.csv. Reading, the network and
writing overlap; an image that cannot be read is told and skipped.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from glpn_deploy import DepthEstimator
from glpn_deploy.images.files import find_images, unique_stems


def main() -> None:
    """Goes through the folder once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", help="bundle folder, checkpoint, or demo")
    parser.add_argument("images", help="folder of images")
    parser.add_argument("out", type=Path, help="folder for the results")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    paths = find_images([given.images])
    stems = dict(zip(paths, unique_stems(paths), strict=True))
    with DepthEstimator.load(given.bundle) as estimator, (given.out / "depth.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(("image", "nearest_m", "median_m", "farthest_m"))
        for found in estimator.stream(paths):
            if found.error is not None:
                print(f"skipped: {found.error}")
                continue
            depth = found.depth_map.depth
            found.depth_map.save(given.out / f"{stems[found.item]}.npy")
            low, middle, high = np.percentile(depth, (0, 50, 100))
            table.writerow((found.item.name, f"{low:.3f}", f"{middle:.3f}", f"{high:.3f}"))
            print(f"{found.item.name}: {low:.2f} to {high:.2f} m")


if __name__ == "__main__":
    main()
