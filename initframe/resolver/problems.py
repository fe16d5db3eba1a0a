"""All that is wrong, collected while resolving and raised together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from initframe.errors import Problem, RecipeError, ResolveError
from initframe.model.slot import Slot
from initframe.recipe.evaluate import UnknownName
from initframe.recipe.recipe import Rule


@dataclass(frozen=True)
class NumberProblem(Problem):
    """What is wrong with a number that other numbers name: it keeps its own subject, whoever names it.

    Attributes:
        of_recipe: whether the number belongs to the recipe (``vars``, ``base``), and not to one rule.
        cause: the problem as it was first raised.
    """

    of_recipe: bool = False
    cause: Problem | None = field(default=None, repr=False, compare=False)

    def on(self, subject: str) -> Problem:
        """Return the problem as it is: who names the number is not where the fault is."""
        del subject
        return self


@dataclass
class Shared:
    """A problem, the rules that have it and the tensors on which they do, in order.

    Attributes:
        problem: as the first tensor has it.
        rules: the rules, described.
        slots: the tensors by name.
        known: if a name is unknown, the names that any of the tensors knows.
    """

    problem: Problem
    rules: dict[str, None] = field(default_factory=dict)
    slots: dict[str, Slot] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)

    def add(self, rule: str, slot: Slot, problem: Problem) -> None:
        """Note one more tensor that has the problem."""
        self.rules[rule] = None
        self.slots[slot.name] = slot
        cause = _cause(problem)
        if isinstance(cause, UnknownName):
            self.known |= cause.known

    def located(self) -> Problem:
        """Put rules and tensors into the subject."""
        problem, cause, slots = self.problem, _cause(self.problem), named(list(self.slots.values()))
        said = UnknownName.among(cause.name, frozenset(self.known)) if isinstance(cause, UnknownName) else problem
        plain = Problem(problem.subject, problem.fact, said.options, said.fix)
        first, *others = self.rules
        if not isinstance(problem, NumberProblem) or not problem.of_recipe:
            return plain.on(f"{first} on {slots}")
        rules = first + (f" and {len(others)} more" if others else "")
        return replace(plain, subject=f"{problem.subject} for {rules} on {slots}")


def _cause(problem: Problem) -> Problem:
    return problem.cause or problem if isinstance(problem, NumberProblem) else problem


@dataclass
class Problems:
    """What is wrong, in three heaps.

    Attributes:
        recipe: wrong for every model.
        model: wrong between recipe and model.
        shared: wrong with tensors under a rule; what many tensors share is reported once.
        failed: the rules of which something is in ``shared``, or depends on what was reported already.
    """

    recipe: list[Problem] = field(default_factory=list)
    model: list[Problem] = field(default_factory=list)
    shared: dict[tuple[str, ...], Shared] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def on(self, rule: Rule, slot: Slot, problems: Iterable[Problem]) -> None:
        """Note what is wrong with one tensor under one rule; nothing, if its cause was reported already."""
        said = rule.describe()
        self.failed.add(said)
        for problem in problems:
            owner = "" if isinstance(problem, NumberProblem) and problem.of_recipe else said
            key = (owner, problem.subject, problem.fact)
            self.shared.setdefault(key, Shared(problem)).add(said, slot, problem)

    def throw(self) -> None:
        """Raise them, if there are any.

        Raises:
            RecipeError: all of them are the recipe's own.
            ResolveError: otherwise.
        """
        if not (self.recipe or self.model or self.shared):
            return
        between = [*self.model, *(shared.located() for shared in self.shared.values())]
        raise (ResolveError if between else RecipeError)(*self.recipe, *between)


def named(slots: Sequence[Slot]) -> str:
    """Name some slots with their shapes: two, then a count.

    >>> named([Slot("a", (2,)), Slot("b", (3,)), Slot("c", ())])
    'a [2], b [3] and 1 more'
    """
    some = ", ".join(s.name if s.lazy else f"{s.name} {list(s.shape)}" for s in slots[:2])
    return some + (f" and {len(slots) - 2} more" if len(slots) > 2 else "")
