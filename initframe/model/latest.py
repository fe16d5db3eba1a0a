"""A model's latest survey, as long as it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor, nn

from initframe.collector import collector_paused
from initframe.model.place import Place
from initframe.model.snapshot import snapshot
from initframe.model.survey import Survey, survey


class Kept(NamedTuple):
    """A survey, and how to tell whether it still holds.

    Attributes:
        seen: the survey, without its tensors.
        facts: the model's at that moment (:class:`initframe.model.snapshot.Snapshot`).
    """

    seen: Survey
    facts: list[object]

    def tensors(self, model: nn.Module | Mapping[str, Tensor]) -> Sequence[Tensor] | None:
        """Give the model's tensors, always in the same order, if the survey holds; ``None`` if not."""
        with collector_paused():
            taken = snapshot(model)
        return taken.tensors if taken and taken.facts == self.facts else None


class LatestSurvey:
    """A model's latest survey, made anew only if the model has changed since; it keeps no tensor alive.

    >>> model = nn.Linear(2, 3)
    >>> latest = LatestSurvey()
    >>> latest.take(survey(model), model)
    >>> latest.of(model).places["bias"].direct is model.bias
    True
    >>> latest.holds(model), latest.holds(model.half())
    (True, False)
    """

    def __init__(self) -> None:
        self.kept: Kept | None = None
        """One record, to be read once by whoever uses more than one part of it: another thread may replace it."""

    def take(self, seen: Survey, model: nn.Module | Mapping[str, Tensor]) -> None:
        """Keep a survey that was just made of a model, if it can be told later whether it still holds."""
        with collector_paused():
            computed = any(place.computed for place in seen.places.values())
            taken = None if computed else snapshot(model)
            self.kept = Kept(_without_tensors(seen), taken.facts) if taken else None

    def holds(self, model: nn.Module | Mapping[str, Tensor]) -> bool:
        """Whether a new survey of the model would give the same slots and places; ``False`` if that is not known."""
        kept = self.kept
        return kept is not None and kept.tensors(model) is not None

    def of(self, model: nn.Module | Mapping[str, Tensor]) -> Survey:
        """Give the survey of the model as it is now."""
        kept = self.kept
        if kept is not None and kept.tensors(model) is not None:
            with collector_paused():
                return replace(kept.seen, places={name: place.again() for name, place in kept.seen.places.items()})
        seen = survey(model)
        self.take(seen, model)
        return seen

    def __reduce__(self) -> tuple[type[LatestSurvey], tuple[()]]:
        """Copies and pickles begin without one: it is of the very model."""
        return LatestSurvey, ()


def _without_tensors(seen: Survey) -> Survey:
    """Release the tensors of a survey."""
    places = {name: Place((), place.computed, place.owners) for name, place in seen.places.items()}
    return replace(seen, places=places)
