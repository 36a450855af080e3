"""The metrics give the numbers of independent implementations, on the same features and images."""

import hashlib
import math
import os
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch import Tensor
from torch.nn.functional import interpolate

from genzoo.errors import UsageError
from genzoo.metrics.diversity import WEIGHTS, describe, diversity, ms_ssim
from genzoo.metrics.frechet import Statistics, frechet_distance, statistics
from genzoo.metrics.kernel import kernel_distance
from genzoo.metrics.lpips import lpips, lpips_network
from genzoo.metrics.prdc import prdc
from genzoo.metrics.reconstruction import psnr, ssim

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning"),  # clean-fid's way to call scipy
]


def two_sets(n: int, m: int, dims: int) -> tuple[Tensor, Tensor]:
    """Correlated features of two sets that overlap in part, in float64, so that only the formulas can differ."""
    mix = torch.randn(dims, dims, dtype=torch.float64) / math.sqrt(dims)
    return torch.randn(n, dims, dtype=torch.float64) @ mix, torch.randn(m, dims, dtype=torch.float64) @ mix * 1.1 + 0.1


def pictures(n: int, channels: int, height: int, width: int) -> Tensor:
    """Smooth shapes with some noise, [n, channels, height, width] float64 in [0, 1]."""
    coarse = torch.rand(n, channels, max(2, height // 8), max(2, width // 8), dtype=torch.float64)
    smooth = interpolate(coarse, size=(height, width), mode="bilinear")
    return (smooth + 0.1 * torch.randn(n, channels, height, width, dtype=torch.float64)).clamp(0, 1)


def image_pairs(channels: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Three pairs: alike, less alike, and one with negative contrast terms."""
    a, other = pictures(3, channels, height, width), pictures(2, channels, height, width)
    return a, torch.stack([0.8 * a[0] + 0.2 * other[0], 0.4 * a[1] + 0.6 * other[1], 1 - a[2]])


# Fréchet distance


@pytest.mark.parametrize(("dims", "n", "m"), [(64, 1000, 800), (128, 200, 230)])
def test_frechet_distance_is_that_of_clean_fid_and_torch_fidelity(dims: int, n: int, m: int):
    """Relative 1e-9 (measured: 1e-12) at full rank, also below 2 D items."""
    from cleanfid.fid import fid_from_feats
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    x, y = two_sets(n, m, dims)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if n < 2 * dims else "error")
        ours = frechet_distance(statistics(x), statistics(y))
    theirs = fid_statistics_to_metric(fid_features_to_statistics(x), fid_features_to_statistics(y), verbose=False)[
        KEY_METRIC_FID
    ]
    assert ours == pytest.approx(fid_from_feats(x.numpy(), y.numpy()), rel=1e-9)
    assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.filterwarnings("ignore:Fréchet distance of")
def test_frechet_distance_below_full_rank_is_exact():
    """With fewer items than dimensions, tr sqrt(cov_a cov_b) is the nuclear norm of X Y^T / (n - 1), both centered."""
    from cleanfid.fid import fid_from_feats

    x, y = two_sets(50, 60, 128)
    a, b = statistics(x), statistics(y)
    nuclear = torch.linalg.svdvals((x - a.mean) @ (y - b.mean).T).sum() / math.sqrt(49 * 59)
    exact = ((a.mean - b.mean).square().sum() + a.cov.trace() + b.cov.trace() - 2 * nuclear).item()
    assert frechet_distance(a, b) == pytest.approx(exact, rel=1e-12)
    assert frechet_distance(b, a) == frechet_distance(a, b)
    assert frechet_distance(a, b) == pytest.approx(
        fid_from_feats(x.numpy(), y.numpy()), rel=1e-6
    )  # a general square root rounds more


def test_frechet_distance_of_equal_sets_is_zero_and_that_of_known_gaussians_is_known():
    x, _ = two_sets(500, 2, 16)
    assert frechet_distance(statistics(x), statistics(x)) == pytest.approx(0, abs=1e-10)
    eye = torch.eye(3, dtype=torch.float64)
    a, b = Statistics(eye[0], 4 * eye, 100, ""), Statistics(eye[1], 9 * eye, 100, "")
    assert frechet_distance(a, b) == pytest.approx(2 + 3 * (2 - 3) ** 2, abs=1e-12)
    still = Statistics(eye[0], 0 * eye, 100, "")  # a collapsed generator has no covariance
    assert frechet_distance(still, a) == pytest.approx(12, abs=1e-12)


def test_statistics_are_those_of_numpy_however_the_features_arrive():
    x = torch.randn(9000, 5) + 1000  # more than a chunk, and far from zero: float32 sums would lose the covariance
    ours, streamed = statistics(x, "e"), statistics(iter(x.split(700)), "e")
    for found in (ours, streamed):
        assert (found.n, found.extractor, found.mean.dtype, found.cov.dtype) == (
            9000,
            "e",
            torch.float64,
            torch.float64,
        )
        np.testing.assert_allclose(found.mean.numpy(), x.double().numpy().mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found.cov.numpy(), np.cov(x.double().numpy(), rowvar=False), rtol=1e-9, atol=1e-9)


def test_frechet_distance_warns_of_too_few_items_once():
    x, y = two_sets(99, 300, 50)
    with pytest.warns(
        UserWarning, match=r"of 99 items in 50 dimensions: .*the covariance estimate is poor; use at least 100 images"
    ) as caught:
        frechet_distance(statistics(x), statistics(y))
    assert len(caught) == 1


def test_statistics_of_two_extractors_never_mix():
    x, y = two_sets(40, 40, 8)
    with pytest.raises(UsageError, match=r"'inception-1f' and 'timm-2e': extract both"):
        frechet_distance(statistics(x, "inception-1f"), statistics(y, "timm-2e"))
    with pytest.raises(UsageError, match=r"8 and 5 dimensions"):
        frechet_distance(statistics(x), statistics(y[:, :5]))
    with pytest.raises(UsageError, match=r"5 dimensions after batches of 8"):
        statistics([x, y[:, :5]])


# Kernel distance


def test_kernel_distance_of_whole_sets_is_that_of_clean_fid_and_torch_fidelity():
    """Relative 1e-10: with subsets as large as the sets, every implementation sees the same items."""
    import cleanfid.fid
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    x, y = two_sets(120, 120, 16)
    mean, spread = kernel_distance(x, y, subset_size=120)
    assert mean == pytest.approx(
        cleanfid.fid.kernel_distance(x.numpy(), y.numpy(), num_subsets=2, max_subset_size=120), rel=1e-10
    )
    theirs = kid_features_to_metric(x, y, kid_subsets=2, kid_subset_size=120, verbose=False)
    assert mean == pytest.approx(theirs[KEY_METRIC_KID_MEAN], rel=1e-10)
    assert spread == 0
    assert kernel_distance(x, y) == (mean, spread)  # capped at the sets' size


def test_kernel_distance_of_subsets_agrees_with_clean_fid_and_torch_fidelity_within_their_spread():
    """Their random subsets are not ours: means agree within 5 standard errors, deviations within a third."""
    import cleanfid.fid
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    x, y = two_sets(400, 300, 16)
    mean, spread = kernel_distance(x, y, subsets=200, subset_size=50)
    theirs = kid_features_to_metric(x, y, kid_subsets=200, kid_subset_size=50, rng_seed=1, verbose=False)
    np.random.seed(2)  # clean-fid draws from numpy's global generator
    error = 5 * spread * math.sqrt(2 / 200)
    assert mean == pytest.approx(theirs[KEY_METRIC_KID_MEAN], abs=error)
    assert mean == pytest.approx(
        cleanfid.fid.kernel_distance(x.numpy(), y.numpy(), num_subsets=200, max_subset_size=50), abs=error
    )
    assert spread == pytest.approx(theirs[KEY_METRIC_KID_STD], rel=1 / 3)
    assert kernel_distance(x, y, subsets=5, subset_size=50, seed=1) == kernel_distance(
        x, y, subsets=5, subset_size=50, seed=1
    )
    assert kernel_distance(x, y, subsets=5, subset_size=50, seed=1) != kernel_distance(
        x, y, subsets=5, subset_size=50, seed=2
    )


def test_kernel_distance_is_unbiased():
    """Two samples of one distribution: zero within 5 standard errors, although the biased estimate is far above."""
    values = torch.tensor([kernel_distance(*torch.randn(2, 40, 8, dtype=torch.float64))[0] for _ in range(200)])
    assert values.mean().abs() < 5 * values.std() / math.sqrt(200)
    assert values.min() < 0


# Precision, recall, density, coverage


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_prdc_is_that_of_its_authors(k: int, dtype: torch.dtype):
    """Exact: shares of items; density up to the last bit."""
    from prdc import compute_prdc

    x, y = (z.to(dtype) for z in two_sets(300, 250, 8))
    ours, theirs = prdc(x, y, k=k), compute_prdc(x.numpy(), y.numpy(), nearest_k=k)
    assert 0.2 < ours["coverage"] < 1  # otherwise nothing is compared
    assert {name: ours[name] for name in ("precision", "recall", "coverage")} == {
        n: theirs[n] for n in ("precision", "recall", "coverage")
    }
    assert ours["density"] == pytest.approx(theirs["density"], rel=1e-14)


@pytest.mark.filterwarnings("ignore:Precision, recall, density and coverage of sets with copies")
def test_prdc_of_a_collapsed_generator_is_that_of_its_authors():
    from prdc import compute_prdc

    x, _ = two_sets(100, 2, 8)
    y = x[:1].expand(60, -1).contiguous()  # every sample is one training image: precise, without recall
    ours = prdc(x, y, chunk=7)
    assert ours == pytest.approx(compute_prdc(x.numpy(), y.numpy(), nearest_k=5))
    assert (ours["precision"], ours["recall"]) == (1, 0)


def test_prdc_does_not_depend_on_its_chunks():
    x, y = two_sets(100, 90, 8)
    whole = prdc(x, y, chunk=1000)
    assert all(prdc(x, y, chunk=chunk) == whole for chunk in (1, 33, 100))


# SSIM and MS-SSIM


def wide_window(channels: int) -> Tensor:
    """pytorch-msssim's own window is float32; in float64, [channels, 1, 1, 11], it adds no rounding."""
    window = torch.exp(-0.5 * ((torch.arange(11, dtype=torch.float64) - 5) / 1.5) ** 2)
    return (window / window.sum()).expand(channels, 1, 1, 11)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_that_of_pytorch_msssim_and_torchmetrics(channels: int):
    """Absolute 1e-12. torchmetrics mirrors the borders and Wang et al. do not: its map is cropped by 5 pixels."""
    from pytorch_msssim import ssim as their_ssim
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = image_pairs(channels, 48, 40)
    torch.testing.assert_close(
        ssim(a, b), their_ssim(a, b, data_range=1, size_average=False, win=wide_window(channels)), rtol=0, atol=1e-12
    )
    _, maps = structural_similarity_index_measure(a, b, data_range=1.0, return_full_image=True)
    torch.testing.assert_close(ssim(a, b), maps[..., 5:-5, 5:-5].mean(dim=(1, 2, 3)), rtol=0, atol=1e-12)


def test_ms_ssim_of_one_channel_is_that_of_pytorch_msssim():
    """Absolute 1e-12, at sides whose halvings are even."""
    from pytorch_msssim import ms_ssim as their_ms_ssim

    a, b = image_pairs(1, 176, 192)
    theirs = their_ms_ssim(a, b, data_range=1, size_average=False, win=wide_window(1))
    torch.testing.assert_close(ms_ssim(a, b), theirs, rtol=0, atol=1e-12)
    assert theirs[2] == 0 < theirs[1] < theirs[0] < 1  # a negative contrast counts as none


def test_ms_ssim_is_put_together_from_the_terms_of_torchmetrics():
    """Absolute 1e-12, with torchmetrics' per-image terms (channels averaged) at each scale, cropped at the coarsest."""
    from torch.nn.functional import avg_pool2d
    from torchmetrics.functional.image import (
        multiscale_structural_similarity_index_measure,
        structural_similarity_index_measure,
    )

    a, b = image_pairs(3, 176, 176)
    x, y, value = a, b, torch.ones(3, dtype=torch.float64)
    for weight in WEIGHTS[:-1]:
        _, contrast = structural_similarity_index_measure(
            x, y, data_range=1.0, reduction=None, return_contrast_sensitivity=True
        )
        value = value * contrast.relu() ** weight
        x, y = avg_pool2d(x, 2), avg_pool2d(y, 2)
    _, maps = structural_similarity_index_measure(x, y, data_range=1.0, return_full_image=True)
    value = value * maps[..., 5:-5, 5:-5].mean(dim=(1, 2, 3)).relu() ** WEIGHTS[-1]
    torch.testing.assert_close(ms_ssim(a, b), value, rtol=0, atol=1e-12)
    theirs = multiscale_structural_similarity_index_measure(a, b, data_range=1.0, reduction=None)
    torch.testing.assert_close(
        ms_ssim(a, b), theirs, rtol=0, atol=0.03, check_dtype=False
    )  # it mirrors the coarsest borders


def plain_ms_ssim(a: np.ndarray, b: np.ndarray, weights: tuple[float, ...]) -> float:
    """MS-SSIM of two [C, H, W] written down straight, with a two-dimensional window and scipy's convolution."""
    value = 1.0
    for scale, weight in enumerate(weights):
        size = min(11, *a.shape[1:])
        at = np.arange(size) - (size - 1) / 2
        window = np.exp(-(at[:, None] ** 2 + at**2) / (2 * (1.5 * size / 11) ** 2))
        window /= window.sum()

        def mean(x: np.ndarray, window: np.ndarray = window) -> np.ndarray:
            return np.stack([convolve2d(plane, window, mode="valid") for plane in x])

        ma, mb = mean(a), mean(b)
        va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
        contrast = (2 * cov + 0.03**2) / (va + vb + 0.03**2)
        luminance = (2 * ma * mb + 0.01**2) / (ma**2 + mb**2 + 0.01**2)
        term = contrast * luminance if scale == len(weights) - 1 else contrast
        value *= max(term.mean(), 0) ** weight
        h, w = (side // 2 * 2 for side in a.shape[1:])
        a, b = ((x[:, 0:h:2, 0:w:2] + x[:, 1:h:2, 0:w:2] + x[:, 0:h:2, 1:w:2] + x[:, 1:h:2, 1:w:2]) / 4 for x in (a, b))
    return value


@pytest.mark.parametrize("size", [(128, 128), (64, 96), (28, 28), (8, 8)])
def test_ms_ssim_below_176_pixels_shrinks_its_window(size: tuple[int, int]):
    """Absolute 1e-12, against the formula written straight."""
    a, b = image_pairs(3, *size)
    weights = WEIGHTS if min(size) >= 16 else tuple(w / sum(WEIGHTS[:4]) for w in WEIGHTS[:4])
    expected = [plain_ms_ssim(x.numpy(), y.numpy(), weights) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(ms_ssim(a, b).numpy(), expected, rtol=0, atol=1e-12)


def test_ms_ssim_describes_what_it_does():
    assert describe((256, 256)) == "ms-ssim 5 scales, windows 11-11-11-11-11, sigma 1.5*w/11, valid"
    assert describe((128, 160)) == "ms-ssim 5 scales, windows 11-11-11-11-8, sigma 1.5*w/11, valid"
    assert describe((8, 9)) == "ms-ssim 4 scales, windows 8-4-2-1, sigma 1.5*w/11, valid, weights renormalized"


@pytest.mark.parametrize("size", [(176, 176), (128, 128), (28, 28), (8, 8), (1, 1)])
def test_equal_images_are_entirely_similar(size: tuple[int, int]):
    a = pictures(2, 1, *size).float()
    ones = torch.ones(2, dtype=torch.float64)
    for metric in (ms_ssim, ssim):
        torch.testing.assert_close(metric(a, a), ones, rtol=0, atol=1e-12)


def test_diversity_of_one_image_repeated_of_noise_and_between():
    one = pictures(1, 3, 32, 32).expand(6, -1, -1, -1)
    assert diversity(one, pairs=20) == pytest.approx((1, 0), abs=1e-9)
    assert diversity(torch.rand(40, 3, 64, 64), pairs=100)[0] < 0.1
    images = pictures(5, 1, 16, 16)
    first, second = np.triu_indices(5, 1)
    every = ms_ssim(images[first], images[second])
    mean, spread = diversity(images, pairs=4000, seed=3)
    assert mean == pytest.approx(
        every.mean().item(), abs=5 * every.std().item() / math.sqrt(4000)
    )  # every pair equally likely
    assert spread == pytest.approx(every.std(correction=0).item(), rel=0.1)
    assert (
        diversity(images, pairs=7, seed=3) == diversity(images, pairs=7, seed=3) != diversity(images, pairs=7, seed=4)
    )


def test_diversity_never_pairs_an_image_with_itself():
    black_and_white = torch.stack([torch.zeros(1, 16, 16), torch.ones(1, 16, 16)])
    mean, spread = diversity(black_and_white, pairs=50)
    assert mean < 0.5 and spread == 0


# PSNR and LPIPS


def test_psnr_is_that_of_torchmetrics():
    """Relative 1e-6 (measured: 5e-8), as torchmetrics takes the logarithm in float32; 1e-12 against numpy."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    a, b = image_pairs(3, 20, 12)
    theirs = peak_signal_noise_ratio(a, b, data_range=1.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(psnr(a, b), theirs, rtol=1e-6, atol=0, check_dtype=False)
    np.testing.assert_allclose(
        psnr(a, b).numpy(),
        [-10 * np.log10(((x - y) ** 2).mean()) for x, y in zip(a.numpy(), b.numpy(), strict=True)],
        rtol=1e-12,
    )
    assert psnr(a, a).isinf().all()


@pytest.fixture
def hub(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """An empty folder of torchvision weights, and no way to fill it from outside."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    lpips_network.cache_clear()
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    yield folder
    lpips_network.cache_clear()


def test_lpips_names_the_missing_weights_and_refuses_wrong_ones(hub):
    a = torch.rand(2, 1, 32, 32)
    file = hub / "alexnet-owt-7be5be79.pth"
    with pytest.raises(UsageError, match=rf"download https://.*/{file.name} and put it at {file}"):
        lpips(a, a)
    file.write_bytes(b"not these")
    with pytest.raises(UsageError, match=r"is not torchvision's alexnet weights"):
        lpips(a, a)
    with pytest.raises(UsageError, match=r"Unknown LPIPS network 'alexnet'\. Did you mean alex\?"):
        lpips(a, a, net="alexnet")
    with pytest.raises(UsageError, match=r"31 pixels or more"):
        lpips(a[..., :28, :28], a[..., :28, :28])


@pytest.mark.filterwarnings("ignore::UserWarning:torchvision")
def test_lpips_is_that_of_its_package(hub, monkeypatch: pytest.MonkeyPatch):
    """Through the whole way of loading, with a random backbone whose hash is declared to be right."""
    import lpips as package
    from torchvision.models import AlexNet_Weights, alexnet

    torch.save(alexnet().state_dict(), hub / "saved")
    digest = hashlib.sha256((hub / "saved").read_bytes()).hexdigest()[:8]
    os.rename(hub / "saved", hub / f"alexnet-{digest}.pth")
    monkeypatch.setattr(AlexNet_Weights.IMAGENET1K_V1.value, "url", f"https://nowhere.invalid/alexnet-{digest}.pth")
    a, b = (x.float() for x in image_pairs(1, 64, 64))
    ours = lpips(a, b)
    theirs = package.LPIPS(net="alex", verbose=False)(*(2 * x.repeat(1, 3, 1, 1) - 1 for x in (a, b))).flatten()
    (hub / f"alexnet-{digest}.pth").unlink()  # 233 MB
    torch.testing.assert_close(ours, theirs.detach())
    assert (ours > 0).all() and not ours.requires_grad
    torch.testing.assert_close(lpips(a, a), torch.zeros(3))


# Bad input


@pytest.mark.parametrize("metric", [kernel_distance, prdc, lambda x, y: statistics(y)])
def test_what_is_not_features_is_refused(metric: Callable[[Tensor, Tensor], object]):
    x = torch.randn(20, 4)
    for bad, message in (
        (x[:1], "1 item|at least 2 items, got 1"),
        (x[:0], "0 item|at least 2 items, got 0"),
        (x[:, :, None], r"\[N, D\]"),
        (x.to(torch.uint8), r"\[N, D\]"),
        (x / 0, "NaN or infinite"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            metric(x, bad)
        assert "\n" not in str(caught.value)


def test_feature_pairs_and_settings_that_do_not_fit_are_refused():
    x = torch.randn(20, 4)
    for metric in (kernel_distance, prdc):
        with pytest.raises(UsageError, match=r"have 4 dimensions and fake ones 3"):
            metric(x, x[:, :3])
    for k, least in ((0, 3), (9, 11)):
        with pytest.raises(UsageError, match=rf"k = {k} items need .* {least} items or more .* 20 real and 10 fake"):
            prdc(x, x[:10], k=k)
    with pytest.raises(UsageError, match=r"got 0 of 1000"):
        kernel_distance(x, x, subsets=0)
    with pytest.raises(UsageError, match=r"got 100 of 1"):
        kernel_distance(x, x, subset_size=1)


@pytest.mark.parametrize("metric", [ms_ssim, psnr, ssim, lpips, lambda a, b: diversity(b)])
def test_what_is_not_images_is_refused(metric: Callable[[Tensor, Tensor], object]):
    good = torch.rand(2, 3, 32, 32)
    for bad, message in (
        (good[0], r"\[N, C, H, W\]"),
        (good[:0], r"\[N, C, H, W\]"),
        (good.permute(0, 2, 3, 1), r"permute to \[N, C, H, W\]"),
        (good.mul(255).byte(), r"x.float\(\) / 255"),
        (good * 255, r"\[0, 1\], got .*x / 255 for \[0, 255\]"),
        (good * 2 - 1, r"\(x \+ 1\) / 2 for \[-1, 1\]"),
        (good * float("nan"), r"got \[nan, nan\]"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            metric(good, bad)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("metric", [ms_ssim, psnr, ssim, lpips])
def test_image_pairs_of_two_shapes_are_refused(metric: Callable[[Tensor, Tensor], Tensor]):
    a = torch.rand(2, 3, 32, 32)
    for b in (a[:1], a[:, :1], a[..., :16]):
        with pytest.raises(UsageError, match="differ in shape"):
            metric(a, b)


def test_diversity_of_one_image_is_refused():
    with pytest.raises(UsageError, match=r"at least 2 images and 1 pair, got 1 and 10000"):
        diversity(torch.rand(1, 3, 16, 16))
    with pytest.raises(UsageError, match=r"got 4 and 0"):
        diversity(torch.rand(4, 3, 16, 16), pairs=0)
