"""Names that tensors had in files of older versions of torch and transformers."""

from __future__ import annotations

import re
from collections.abc import Iterator

_STEPS = r"(?P<module>(?:.*\.)?)parametrizations\.(?P<name>[^.]+)\."
_HOOKED = r"(?P<module>(?:.*\.)?)(?P<name>[^.]+)"

_OLDER = [
    (re.compile(pattern + "$"), older)
    for pattern, older in (
        (_STEPS + r"original0", r"\g<module>\g<name>_g"),  # weight_norm: length and direction
        (_STEPS + r"original1", r"\g<module>\g<name>_v"),
        (_STEPS + r"original", r"\g<module>\g<name>_orig"),  # spectral_norm
        (_STEPS + r"0\._(?P<vector>[uv])", r"\g<module>\g<name>_\g<vector>"),
        (_HOOKED + r"_g", r"\g<module>parametrizations.\g<name>.original0"),
        (_HOOKED + r"_v", r"\g<module>parametrizations.\g<name>.original1"),
        (_HOOKED + r"_orig", r"\g<module>parametrizations.\g<name>.original"),
        (_HOOKED + r"_(?P<vector>[uv])", r"\g<module>parametrizations.\g<name>.0._\g<vector>"),
        (r"(?P<module>(?:.*\.)?)weight", r"\g<module>gamma"),  # LayerNorm, as TensorFlow's BERT named it
        (r"(?P<module>(?:.*\.)?)bias", r"\g<module>beta"),
    )
]
"""A model's name, and the name of the same tensor in a file that was written with another version. The forward hooks
and the parametrizations of weight_norm and spectral_norm hold the same tensors, so either reads the other's files."""


def other_names(name: str) -> Iterator[str]:
    """Yield the names that a tensor may have in a file if it is not there under its own.

    Args:
        name: a tensor's name in a model.

    >>> list(other_names("0.parametrizations.weight.original0")), list(other_names("norm.weight"))
    (['0.weight_g'], ['norm.gamma'])
    """
    for pattern, older in _OLDER:
        if found := pattern.match(name):
            yield found.expand(older)
