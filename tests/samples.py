"""Whether a sample can come from a population."""

import math

import torch

STANDARD_ERRORS = 5


def assert_moments(sample, mean, std):
    """Mean and std of independent values, each within 5 standard errors of the population's.

    The error of the variance is estimated from the sample's own fourth moment; rounding to the sample's dtype is
    allowed for.
    """
    x = sample.detach().double().flatten()
    n, eps = x.numel(), float(torch.finfo(sample.dtype).eps)
    found, variance = x.mean().item(), ((x - mean) ** 2).mean().item()
    spread = ((x - mean) ** 4).mean().item() - variance**2
    rounding = (1e-6 + eps) * (abs(mean) + std)
    assert abs(found - mean) <= STANDARD_ERRORS * std / math.sqrt(n) + rounding
    assert abs(variance - std**2) <= STANDARD_ERRORS * math.sqrt(max(spread, 0) / n) + 2 * std * rounding + rounding**2
