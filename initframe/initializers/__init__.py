"""Initializers: pure functions ``(slot, **kwargs) → Fill``, by family, in one table."""

from initframe.initializers import basic, defaults, structured, variance  # noqa: F401  # they register themselves
from initframe.initializers.gains import GAINS
from initframe.initializers.table import get, initializer, list_initializers, parameters

__all__ = ["GAINS", "get", "initializer", "list_initializers", "parameters"]
