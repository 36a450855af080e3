"""Clusters of items that have no class, such as the unlabeled split of labeled data."""

import numpy as np

from genzoo.cli.encode import _report


def test_clusters_are_not_compared_with_labels_that_no_item_has(capsys):
    clusters, means = np.array([0, 1, 1]), np.zeros((3, 2), dtype=np.float32)
    _report(clusters, means, {"index": np.arange(3), "label": np.full(3, -1)}, seed=0)
    assert capsys.readouterr().out == "clusters: 2 components have items\n"
