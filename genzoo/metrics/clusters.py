"""How well clusters agree with classes that they were found without."""

import numpy as np


def agreement(clusters: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """Compares clusters with classes, two [N] of whole numbers from 0 on.

    Returns:
        The accuracy under the best matching of clusters to classes, one to one (Yang et al. 2010), and the normalized
        mutual information, both in [0, 1], higher is better. Clusters without a class count as wrong.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import normalized_mutual_info_score

    counts = np.zeros((int(clusters.max()) + 1, int(classes.max()) + 1), dtype=np.int64)
    np.add.at(counts, (clusters, classes), 1)
    matched = counts[linear_sum_assignment(counts, maximize=True)].sum()
    return float(matched / len(clusters)), float(normalized_mutual_info_score(classes, clusters))


def kmeans(codes: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    """Clusters codes [N, D] by k-means (scikit-learn's, the best of 10 starts): [N] from 0 on."""
    from sklearn.cluster import KMeans

    means = KMeans(k, n_init=10, random_state=seed)  # pyright: ignore[reportArgumentType]
    return means.fit_predict(codes)
