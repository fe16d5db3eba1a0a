"""What a call refuses, as data: tests ask for the problems, not for a message's wording."""

import pytest

from initframe.errors import InitframeError


def refused(call, *args, kind=InitframeError, **kwargs):
    """The problems of the error that a call must raise: each has .subject, .fact, .options, .fix, and str()."""
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    return caught.value.problems
