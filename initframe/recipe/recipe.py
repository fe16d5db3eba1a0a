"""Recipes: ordered, named rules as frozen data, read from a preset, a file or a mapping."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from initframe.errors import Problem, RecipeError, closest, harmless, nearest, shown
from initframe.recipe.expressions import UNREADABLE, Expression, is_taken
from initframe.recipe.patterns import is_plain_name
from initframe.recipe.plain import check_size, is_list, laid_over, plain_copy, strangers, unresolved
from initframe.recipe.presets import presets
from initframe.recipe.read_rule import attempt, is_numeric, read_expression, read_option, read_rule
from initframe.recipe.rule import ReadOnly, Rule

__all__ = ["Recipe", "Rule", "load_recipe", "parse_recipe"]

Unused = Literal["error", "warn"]
Unmatched = Literal["keep", "error", "default", "constructor"]
Fans = Literal["torch", "effective"]
Companions = Literal["warn", "heeded"]

OPTIONS: dict[str, tuple[str, ...]] = {
    "unused": get_args(Unused),
    "unmatched": get_args(Unmatched),
    "fans": get_args(Fans),
    "companions": get_args(Companions),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the user wrote: rules, of which the last that matches a tensor wins.

    Attributes:
        rules: in the order of the recipe.
        vars: numbers that the expressions of all rules may name.
        unused: whether a rule that matches no tensor is an error or a warning.
        unmatched: whether a tensor that no rule matches keeps its values, is an error, gets its layer's own
            distribution, or the one that the model's constructor gave it.
        fans: how grouped and transposed convolutions count their fans.
        base: the shapes of a smaller model of the same names, which expressions may compare with (``base_fan_in``): by
            name, or the path of a checkpoint that holds it.
        requires: what the method asks of the model or its training, in words.
        companions: whether applying the recipe warns of what it asks for besides values, or the user has seen to it.
        name: the preset's name, the file's path, or ``"recipe"``; says nothing about what the recipe does, so two
            recipes that differ only here are equal.
    """

    rules: tuple[Rule, ...] = ()
    vars: Mapping[str, Expression] = field(default_factory=ReadOnly)
    unused: Unused = "error"
    unmatched: Unmatched = "keep"
    fans: Fans = "torch"
    base: Mapping[str, tuple[int, ...]] | str = field(default_factory=ReadOnly)
    requires: tuple[str, ...] = ()
    companions: Companions = "warn"
    name: str = field(default="recipe", compare=False)

    def __repr__(self) -> str:
        count = "1 rule" if len(self.rules) == 1 else f"{len(self.rules)} rules"
        return f"<Recipe {harmless(self.name)}: {count}>"

    def __str__(self) -> str:
        return self.to_yaml()

    def to_dict(self) -> dict[str, Any]:
        """Give the recipe as plain data that :func:`load_recipe` reads back to an equal recipe.

        The last matching rule wins, so the order of ``rules`` counts. What sorts keys makes another recipe of them:
        ``yaml.dump`` does by default, and so do transformers' configs. :meth:`to_yaml` gives a text, which stays.

        >>> load_recipe({"rules": {"*.bias": "zeros"}}).to_dict()["rules"]
        {'*.bias': {'match': '*.bias', 'init': 'zeros'}}
        """
        seldom = {"base": plain_copy(self.base), "requires": list(self.requires)}
        return {
            "rules": {rule.name: rule.to_dict() for rule in self.rules},
            "vars": {name: expression.source for name, expression in self.vars.items()},
            "unused": self.unused,
            "unmatched": self.unmatched,
            "fans": self.fans,
            **{key: value for key, value in seldom.items() if value},
            **({"companions": self.companions} if self.companions != "warn" else {}),
        }

    def to_yaml(self) -> str:
        """Write the recipe as the text of a YAML file that :func:`load_recipe` reads back to an equal recipe.

        Settings that are as usual are left out.

        >>> print(load_recipe({"rules": {"biases": {"match": "*.bias", "init": "zeros"}}}).to_yaml(), end="")
        # recipe
        rules:
          biases:
            match: '*.bias'
            init: zeros
        """
        from initframe.recipe.writing import to_yaml  # noqa: PLC0415  (yaml is slow to import)

        usual, data = Recipe().to_dict(), self.to_dict()
        rules = data.pop("rules")
        settings = {key: value for key, value in data.items() if value != usual.get(key)}
        return to_yaml(self.name, settings, rules, {rule.name: rule.comment for rule in self.rules})


Source = Recipe | Mapping[str, Any] | str | os.PathLike[str]


def load_recipe(source: Source | Sequence[Source]) -> Recipe:
    """Read a recipe.

    Args:
        source: a preset's name, the path of a YAML file, a mapping of the same form (or OmegaConf's), or a recipe; or a
            list of them, of which each is laid over those before it, as ``init=[…]`` does on the command line.

    Returns:
        The recipe.

    Raises:
        RecipeError: with every problem that can be found without a model.

    >>> recipe = load_recipe({"rules": {"weights": {"match": "*.weight", "init": "normal", "std": 0.02}}})
    >>> recipe.rules[0].init, recipe.rules[0].arguments["std"]
    ('normal', 0.02)
    >>> load_recipe({"rules": {"*.weight": {"init": "zeros", "where": "ndim >"}}})
    Traceback (most recent call last):
    initframe.errors.RecipeError: rule '*.weight': where 'ndim >': it is not an expression: its syntax is wrong. ...
    """
    recipe, problems = parse_recipe(source)
    if problems:
        raise RecipeError(*problems)
    return recipe


def parse_recipe(source: Source | Sequence[Source]) -> tuple[Recipe, tuple[Problem, ...]]:
    """Read what can be read of a recipe, and say what cannot, so that ``resolve`` can add its own problems.

    Args:
        source: as for :func:`load_recipe`.

    Returns:
        The recipe of all rules whose patterns and initializers can be read, and the problems.

    >>> recipe, problems = parse_recipe({"rules": {"*.bias": "zeros", "*.weight": 3}})
    >>> len(recipe.rules), len(problems)
    (1, 1)
    """
    if isinstance(source, Recipe):
        return source, ()
    try:
        if is_list(source):
            data, name, deleted = _layered(_without_omegaconf(source))
        else:
            data, name = _plain(source)
            deleted = new_deletions(data, {}) if isinstance(source, str | os.PathLike) else []
    except RecipeError as error:
        return Recipe(), error.problems
    recipe, problems = _parse(data, name)
    return recipe, (*deleted, *problems)


def _layered(sources: Sequence[object]) -> tuple[object, str, list[Problem]]:
    """Lay recipes over each other; also say which deletions delete nothing."""
    if not sources:
        raise RecipeError(Problem("recipe", "the list is empty.", fix="Name a preset or a file in it."))
    data: Any = {}
    names: list[str] = []
    problems: list[Problem] = []
    for source in sources:
        above, name = _plain(source)
        if not isinstance(above, Mapping):
            fact = "is empty." if above is None else f"is a {type(above).__name__}, not a mapping."
            raise RecipeError(Problem("", f"recipe {shown(name)} {fact}", fix="Write rules: and a rule under it."))
        problems += new_deletions(above, data)
        data = laid_over(data, above)
        names.append(name)
    return data, "+".join(names), problems


def _plain(source: object) -> tuple[object, str]:
    """Fetch a recipe's data within bounds, numbers as Python's."""
    data, name = (source.to_dict(), source.name) if isinstance(source, Recipe) else _read(source)
    check_size(data)
    return plain_copy(data), name


def new_deletions(above: object, below: object) -> list[Problem]:
    """Find rules that are ``null``, which deletes a rule, although there is no rule of that name.

    Args:
        above: a recipe as plain data.
        below: what it is laid over.

    >>> [problem.subject for problem in new_deletions({"rules": {"baises": None}}, {"rules": {"biases": "zeros"}})]
    ["rule 'baises'"]
    """
    rules, known = (data.get("rules") if isinstance(data, Mapping) else None for data in (above, below))
    if not isinstance(rules, Mapping):
        return []
    names = known.keys() if isinstance(known, Mapping) else ()
    fix = "Fix the name, or write what it is to do."
    return [
        Problem(
            f"rule {shown(name)}", "null deletes a rule, and there is none of that name.", closest(name, names), fix
        )
        for name, value in rules.items()
        if value is None and isinstance(name, str) and name not in names
    ]


def _read(source: object) -> tuple[object, str]:
    """Fetch a recipe's data, and the recipe's name."""
    if isinstance(source, Mapping):
        return _without_omegaconf(source), "recipe"
    if isinstance(source, str | os.PathLike):
        from initframe.recipe.files import read_yaml  # noqa: PLC0415  (yaml is slow to import)

        text = str(os.fspath(source))
        return read_yaml(_locate(text) if isinstance(source, str) else Path(text)), text
    options = "A recipe is a preset's name, the path of a YAML file, a mapping, or a list of these."
    raise RecipeError(Problem("recipe", f"got {type(source).__name__}.", options, _meant_instead(source)))


def _without_omegaconf(source: Any) -> Any:
    """Give a config of OmegaConf as plain data, within bounds and without interpolations; all else stays what it is."""
    if not type(source).__module__.startswith("omegaconf."):
        return source
    from omegaconf import OmegaConf  # noqa: PLC0415  (whoever has such an object has imported it)

    data = OmegaConf.to_container(source, resolve=False)
    check_size(data)
    if found := list(unresolved(data)):
        raise RecipeError(*found)
    return data


def _meant_instead(source: object) -> str:
    """Say what to do with something that is no recipe, but has to do with one."""
    if isinstance(getattr(source, "recipe", None), Recipe):
        return "This has one, .recipe; a plan is applied as it is: apply(plan, seed)."
    if hasattr(source, "state_dict"):
        return "The order is resolve(recipe, model), reinit(model, recipe)."
    return "Of a file, give the path." if hasattr(source, "read") else ""


def _locate(text: str) -> Path:
    """Find the file of a preset or a path."""
    known = presets()
    if text in known:
        return known[text]
    is_path = "\n" not in text and (text.endswith((".yaml", ".yml")) or os.sep in text or "/" in text)
    if is_path or os.path.exists(text):  # noqa: PTH110  (never raises)
        return Path(text)
    fact, fix = f"recipe {shown(text)} is neither a preset nor a file.", "Name a preset, or give a path."
    if "\n" in text or ":" in text:
        fix = "If it is YAML, read it first: yaml.safe_load(text) gives a mapping."
    elif text.isidentifier() and not nearest(text, known, cutoff=0.9):
        fix = f"If it is an initializer, it goes into a rule: {{'rules': {{'*.weight': {text!r}}}}}."
    raise RecipeError(Problem("", fact, closest(text, known), fix))


def _parse(data: object, name: str) -> tuple[Recipe, tuple[Problem, ...]]:
    """Read a recipe from plain data."""
    label = "recipe" if name == "recipe" else f"recipe {shown(name)}"
    if not isinstance(data, Mapping):
        fact = "is empty." if data is None else f"is a {type(data).__name__}, not a mapping."  # perhaps any text
        return Recipe(name=name), (Problem("", f"{label} {fact}", fix="Write rules: and a rule under it."),)
    entries, of_entries = _read_entries(data.get("rules"))
    variables, of_variables = _read_vars(data.get("vars"))
    choices, of_choices = _read_choices(data)
    readings = [read_rule(key, value) for key, value in entries.items()]
    rules = tuple(rule for rule, _ in readings if rule)
    recipe = Recipe(rules=rules, vars=ReadOnly(variables), name=name, **choices)
    own = (*_unknown_keys(data), *of_entries, *of_variables, *of_choices)
    return recipe, (*(problem.on(label) for problem in own), *(p for _, problems in readings for p in problems))


def _unknown_keys(data: Mapping[Any, Any]) -> list[Problem]:
    """Say which keys a recipe does not have."""
    known = ("rules", "vars", *_CHOICES)
    found = list(strangers(dict.fromkeys(data, "")))
    for key in data:
        if key == "defaults":
            fix = "Write the rules out, or use init=[…] there."
            found.append(Problem("", "'defaults' is read by the command line only.", fix=fix))
        elif isinstance(key, str) and key not in known:
            is_rule = isinstance(data[key], str) or (isinstance(data[key], Mapping) and "init" in data[key])
            fix = "If it is a rule, write it under the key rules." if is_rule else "Rename or remove it."
            found.append(Problem("", f"unknown key {shown(key)}.", closest(key, known), fix))
    return found


def _read_entries(data: object) -> tuple[dict[str, Any], list[Problem]]:
    """Read what stands under ``rules``, which may be empty; ``null`` deletes a rule."""
    if data is not None and not isinstance(data, Mapping):
        fix = "Give each rule a name: rules: {biases: …}."
        return {}, [Problem("", f"rules is {shown(data)}, not a mapping.", fix=fix)]
    given = data or {}
    found = list(strangers(dict.fromkeys(given, ""), "rules"))
    entries = {key: value for key, value in given.items() if isinstance(key, str) and value is not None}
    if data is None and not found:
        found.append(Problem("", "it has no rules.", fix="Write rules: and a rule under it, or rules: {}."))
    return entries, found


def _read_vars(data: object) -> tuple[dict[str, Expression], list[Problem]]:
    """Read the recipe's own numbers."""
    if data is not None and not isinstance(data, Mapping):
        return {}, [Problem("", f"vars is {shown(data)}, not a mapping.", fix="Write vars: {base: 256}.")]
    variables: dict[str, Expression] = {}
    found: list[Problem] = []
    for name, value in (data or {}).items():
        expression, problems = attempt(_read_var, name, value)
        found.extend(problems)
        if isinstance(name, str):
            variables[name] = UNREADABLE if problems else expression
    return variables, found


def _read_var(name: str, value: object) -> Expression:
    if found := tuple(strangers({name: value}, "vars")):
        raise RecipeError(*found)
    subject = f"vars.{name}"
    if not is_plain_name(name):
        raise RecipeError(Problem(subject, f"{shown(name)} is not a name.", fix="Use letters, digits and underscores."))
    if is_taken(name):
        fact = f"'{name}' has a meaning of its own in expressions."
        raise RecipeError(Problem(subject, fact, fix="Rename the variable."))
    if not is_numeric(value):
        fact = f"{shown(value)} is neither a number nor an expression."
        raise RecipeError(Problem(subject, fact, fix="Write one of them."))
    return read_expression(subject, value)


def _read_choices(data: Mapping[Any, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Read what holds for the whole recipe besides rules and vars."""
    given = {key: attempt(read, key, data[key]) for key, read in _CHOICES.items() if data.get(key) is not None}
    chosen = {key: value for key, (value, problems) in given.items() if not problems}
    return chosen, [problem for _, problems in given.values() for problem in problems]


def _read_base(key: str, value: object) -> Mapping[str, tuple[int, ...]] | str:
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, Mapping):
        fix = "Give shapes by name, or the path of a checkpoint."
        raise RecipeError(Problem("", f"{key} is {shown(value)}.", fix=fix))
    for name, sizes in value.items():
        if not isinstance(sizes, list | tuple) or not all(type(size) is int and size >= 0 for size in sizes):
            fact = f"{key} gives {shown(name)} the shape {shown(sizes)}."
            raise RecipeError(Problem("", fact, fix="List its sizes, as in [256, 64]."))
    return ReadOnly({name: tuple(sizes) for name, sizes in value.items()})


def _read_requires(key: str, value: object) -> tuple[str, ...]:
    texts = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(text, str) and text for text in texts):
        raise RecipeError(Problem("", f"{key} is {shown(value)}.", fix="Write a sentence, or a list of them."))
    return tuple(texts)


_CHOICES: dict[str, Callable[[str, Any], Any]] = {
    **{key: partial(read_option, options=options) for key, options in OPTIONS.items()},
    "base": _read_base,
    "requires": _read_requires,
}
