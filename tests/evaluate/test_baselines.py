"""The untrained embeddings against loops over pixels."""

import numpy as np
import pytest
import torch

from skill_fast.evaluate.baselines import BASELINES, color_histogram, grey_pixels, raw_pixels


def random_images(n=3, height=32, width=48, seed=0):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


def block_means(plane, side=16):
    height, width = plane.shape
    down, right = height // side, width // side
    return np.array(
        [
            [plane[i * down : (i + 1) * down, j * right : (j + 1) * right].mean() for j in range(side)]
            for i in range(side)
        ]
    )


def test_pixels_are_centred_unit_block_means():
    images = random_images()
    for image, raw, grey in zip(images.double().numpy(), raw_pixels(images).numpy(), grey_pixels(images).numpy()):
        channels = np.stack([block_means(plane) for plane in image])
        for got, values in (
            (raw, channels),
            (grey, block_means(0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2])),
        ):
            expected = values.ravel() - values.mean()
            # Single precision sums of at most 768 values near 0.5.
            np.testing.assert_allclose(got, expected / np.linalg.norm(expected), atol=2e-5)


def is_product(image, row, column, ground):
    """Not near white, and not within .12 of a light border's median in all channels."""
    pixel = image[:, row, column]
    near_border = all(abs(p - g) < 0.12 for p, g in zip(pixel, ground)) and all(g > 0.7 for g in ground)
    return not (all(p > 0.92 for p in pixel) or near_border)


@pytest.mark.parametrize("ground", [1.0, 0.8, 0.3])
def test_histogram_counts_foreground_cells(ground):
    images = random_images(seed=1)
    images[:, :, :10], images[:, :, :, :3] = ground, ground
    for image, got in zip(images.numpy(), color_histogram(images).numpy()):
        edge = np.concatenate([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], axis=1)
        median = np.sort(edge, axis=1)[:, (edge.shape[1] - 1) // 2]
        counts = np.zeros((4, 4, 4))
        for row in range(image.shape[1]):
            for column in range(image.shape[2]):
                if is_product(image, row, column, median):
                    r, g, b = image[:, row, column]
                    counts[min(int(r * 4), 3), min(int(g * 4), 3), min(int(b * 4), 3)] += 1
        np.testing.assert_allclose(got, counts.ravel() / counts.sum(), atol=1e-6)


def test_grey_sees_no_hue_and_histogram_no_place():
    image = random_images(1)
    grey = (image * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(grey_pixels(image), grey_pixels(grey), atol=1e-5, rtol=0)
    torch.testing.assert_close(color_histogram(image), color_histogram(image.flip(3)))


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("side", [7, 16, 49])
def test_blank_and_odd_images_stay_finite(name, side):
    for value in (0.0, 0.5, 1.0):
        vectors = BASELINES[name](torch.full((2, 3, side, side), value))
        assert vectors.shape[0] == 2 and torch.isfinite(vectors).all()
