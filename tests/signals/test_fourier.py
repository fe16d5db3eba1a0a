"""Predictions of Fourier transforms: Parseval's sums, real and imaginary parts, and what is marked."""

import math

import pytest
import torch
from torch import fft, nn

import initframe
from initframe.signal.predict import predict
from tests.signals.test_kinship import ALIKE, INPUTS, features
from tests.signals.test_predict import both
from tests.signals.test_written_by_hand import RECIPE, Net, drawn, line

WHITE = drawn(4, 12, 64)


def of_features(join, batch):
    return lambda net, x: join(features(net, x)), batch


def of_layer(join, batch):
    return lambda net, x: join(net.first(x)), batch


EXACT = {
    "positions, ortho": of_layer(lambda h: fft.fft(h, dim=1, norm="ortho").real, WHITE),
    "positions, backward": of_layer(lambda h: fft.fft(h, dim=1).imag, WHITE),
    "positions, forward": of_layer(lambda h: fft.fft(h, dim=1, norm="forward").real, WHITE),
    "channels": of_layer(lambda h: torch.view_as_real(fft.fft(h, dim=-1)), INPUTS),
    "both": of_layer(lambda h: fft.fft2(h).real, WHITE),
    "half of the frequencies": of_layer(lambda h: fft.rfft(h, dim=1).real, WHITE),
    "half of an odd number": of_layer(lambda h: fft.rfft(h[:, :11], dim=1).imag, WHITE),
    "there and back": of_layer(lambda h: fft.irfft(fft.rfft(h, dim=1), n=12, dim=1), WHITE),
}
MARKED = {
    "positions that agree": of_features(lambda h: fft.fft(h, dim=1).real, ALIKE),
    "their imaginary parts": of_features(lambda h: fft.fft(h, dim=1).imag, ALIKE),
    "half of their frequencies": of_features(lambda h: fft.rfft(h, dim=1, norm="ortho").real, ALIKE),
    "channels with a mean": of_features(lambda h: fft.fft(h, dim=-1).real, INPUTS),
    "mixing as in FNet": of_features(lambda h: h + fft.fft2(h).real, WHITE),
}


@pytest.mark.parametrize("name", {**EXACT, **MARKED})
def test_transforms(name):
    forward, batch = (EXACT | MARKED)[name]
    model = Net(forward, first=line(64, 256), second=line(256, 256))
    predicted, squares = both(model, batch, {**RECIPE, "unused": "warn"}, seeds=8)
    assert not [note for note in predicted.notes if "rule" in note]
    assert predicted[""].rms ** 2 == pytest.approx(math.fsum(squares["", 0]) / 8, rel=0.08)
    assert bool(predicted[""].approximate) == (name in MARKED)


def test_parsevals_sum():
    """A normalized transform keeps the mean square, whatever positions have in common."""
    model = Net(
        lambda net, x: torch.view_as_real(fft.fft(net.first(x).relu(), dim=1, norm="ortho")), first=line(64, 64)
    )
    plan = initframe.resolve({**RECIPE, "unused": "warn"}, model)
    for batch in (WHITE, ALIKE):
        row = predict(plan, batch)[""]
        assert 2 * row.rms**2 == pytest.approx(predict(plan, batch)["/relu"].rms ** 2, rel=1e-6)


def test_a_global_filter():
    """Frequencies times complex weights, as in GFNet."""

    def filtered(net, x):
        spectrum = fft.rfft(net.first(x), dim=1, norm="ortho") * torch.view_as_complex(net.filter)
        return fft.irfft(spectrum, n=12, dim=1, norm="ortho")

    model = Net(filtered, first=line(64, 256))
    model.filter = nn.Parameter(torch.zeros(7, 256, 2))
    recipe = {"rules": {**RECIPE["rules"], "filter": {"init": "normal", "std": 0.5}}}
    predicted, squares = both(model, WHITE, recipe, seeds=8)
    assert predicted[""].rms ** 2 == pytest.approx(math.fsum(squares["", 0]) / 8, rel=0.08)


def test_a_real_tensor_as_a_complex_one_has_no_imaginary_part():
    model = Net(lambda net, x: torch.view_as_real(net.first(x).to(torch.complex64)), first=line(64, 64))
    predicted, squares = both(model, INPUTS, RECIPE, seeds=8)
    assert predicted[""].rms ** 2 == pytest.approx(math.fsum(squares["", 0]) / 8, rel=0.08)
    other = Net(lambda net, x: net.first(x).to(torch.complex64).imag, first=line(64, 64))
    assert predict(initframe.resolve(RECIPE, other), INPUTS)[""].rms == 0


def test_a_complex_number_times_itself_is_not_guessed():
    model = Net(lambda net, x: fft.fft(net.first(x), dim=1).square().real, first=line(64, 64))
    assert predict(initframe.resolve(RECIPE, model), WHITE)[""].rms is None
