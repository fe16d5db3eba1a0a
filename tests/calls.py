"""Work counted in calls, which no other program on the machine disturbs."""

import sys


def calls(function, *args, **kwargs):
    """How many functions are called, Python's and others', when one is."""
    count = 0

    def tell(_frame, event, _argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(tell)
    try:
        function(*args, **kwargs)
    finally:
        sys.setprofile(None)
    return count
