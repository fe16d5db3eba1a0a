"""The JSON schema of recipes, for editors and linters: made from the table of initializers, with plugins."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

from initframe.initializers import get, list_initializers, parameters
from initframe.initializers.arguments import Parameter, signature
from initframe.initializers.table import Initializer
from initframe.recipe.recipe import OPTIONS
from initframe.recipe.rule import AXES, KINDS, PADDINGS
from initframe.resolver.prepare import FACTOR

Schema = dict[str, Any]

NAME = "recipe.schema.json"
"""The file next to the presets that holds the schema of the initializers that ship."""
MODELINE = f"# yaml-language-server: $schema={NAME}"
"""The line that tells editors of it."""


def recipe_schema(*, plugins: bool = True) -> Schema:
    """Describe what a recipe may hold, as JSON Schema (draft 7, which editors read).

    It knows keys, names of initializers, their arguments and types. What an expression means, and whether a rule fits a
    model, :func:`initframe.load_recipe` and :func:`initframe.resolve` say. An overlay is a recipe, too: a rule without
    ``init`` may have the arguments of any initializer.

    Args:
        plugins: whether to include initializers that do not ship with initframe: those that are registered, and those
            of installed packages.

    >>> "xavier_uniform" in recipe_schema()["definitions"]["rule"]["properties"]["init"]["enum"]
    True
    """
    table = {name: get(name) for name in list_initializers()}
    if not plugins:
        table = {name: function for name, function in table.items() if _ships(function)}
    options = {key: {"enum": [*words, None]} for key, words in OPTIONS.items()}
    base = {"type": ["string", "object", "null"], "additionalProperties": _list({"type": "integer", "minimum": 0})}
    properties: Schema = {
        "rules": {"type": "object", "additionalProperties": _entry(table)},
        "vars": {"type": ["object", "null"], "additionalProperties": _NUMBER},
        **options,
        "base": base,
        "requires": _TEXTS,
        "defaults": _list({"type": "string"}),
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A recipe of initframe",
        "type": "object",
        "additionalProperties": False,
        "properties": {key: {**schema, "description": _ABOUT[key]} for key, schema in properties.items()},
        "definitions": {"rule": _rule(table)},
    }


def schema_text(*, plugins: bool = True) -> str:
    """Write the schema as a file holds it.

    Args:
        plugins: as for :func:`recipe_schema`.

    >>> schema_text().startswith("{")
    True
    """
    return json.dumps(recipe_schema(plugins=plugins), indent=1, ensure_ascii=False)


_ABOUT = {
    "rules": "Rules by name, or by pattern; the last that matches a tensor wins. null deletes a rule.",
    "vars": "Numbers that the expressions of all rules may name.",
    "unused": "Whether a rule that matches no tensor is an error or a warning.",
    "unmatched": "What happens to a tensor that no rule matches.",
    "fans": "How grouped and transposed convolutions count their fans.",
    "companions": "Whether applying the recipe warns of what it asks for besides values.",
    "base": "The shapes of a smaller model, by name, or a checkpoint that holds it.",
    "requires": "What the method asks of the model or its training, in words.",
    "defaults": "Recipes below this one; read by the command line only.",
}


_NUMBER: Schema = {"type": ["number", "string"]}
_TEXTS: Schema = {"type": ["string", "array", "null"], "minLength": 1, "items": {"type": "string", "minLength": 1}}

RULE: dict[str, Schema] = {
    "match": {**_TEXTS, "description": "Globs over tensor names; {layer} stands for a whole integer."},
    "exclude": {**_TEXTS, "description": "Globs over names that the rule does not mean."},
    "module": {**_TEXTS, "description": "The class of the module that owns the tensor, or a base of it."},
    "inside": {**_TEXTS, "description": "The class of a module around it, however deep, or a base of it."},
    "where": {"type": ["string", "boolean", "null"], "description": "A condition on the tensor's facts."},
    "kind": {"enum": [*KINDS, None], "description": "Parameters, buffers or any."},
    "axes": {"type": ["array", "null"], "items": {"enum": list(AXES)}, "description": "What each dimension means."},
    "split": {
        "type": ["integer", "array", "null"],
        "minimum": 1,
        "items": _NUMBER,
        "description": "The number of equal blocks along the outputs, or their sizes.",
    },
    "units": {
        "type": ["string", "array", "null"],
        "items": {"type": "integer", "minimum": 0},
        "description": "The only indices along the outputs that are written, or a condition on unit.",
    },
    "padding": {"enum": [*PADDINGS, None], "description": "What an embedding's row of padding holds."},
    "init": {"type": "string", "description": "The initializer's name."},
    "optional": {"enum": [True, False, "patterns", None], "description": "Whether the rule may match nothing."},
    "companions": {
        "type": ["object", "null"],
        "additionalProperties": _NUMBER,
        "description": "Multipliers of lr, weight_decay and eps, and factors of the forward pass.",
    },
    FACTOR: {"type": ["number", "string", "null"], "description": "Multiplies all values; calibration writes it."},
}
"""The keys that every rule may have, with what they may hold; ``null`` is the same as none."""


def _ships(function: Initializer) -> bool:
    return function.__module__.startswith("initframe.initializers.")


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _entry(table: dict[str, Initializer]) -> Schema:
    """What stands under a rule's name."""
    return {
        "type": ["object", "string", "null"],
        "if": {"type": "object"},
        "then": {"$ref": "#/definitions/rule"},
        "else": {"enum": [*table, None]},
    }


def _rule(table: dict[str, Initializer]) -> Schema:
    """A rule: its own keys, and what its initializer takes; without one, what any takes."""
    arguments = sorted({name for function in table.values() for name in signature(function)})
    return {
        "type": "object",
        "properties": {**RULE, "init": {**RULE["init"], "enum": list(table)}},
        "if": {"required": ["init"]},
        "then": {"allOf": [_if_it_names(name, function) for name, function in table.items()]},
        "else": {"properties": dict.fromkeys([*RULE, *arguments], True), "additionalProperties": False},
    }


def _if_it_names(initializer: str, function: Initializer) -> Schema:
    """What a rule may hold if it names an initializer."""
    known, texts, raw = signature(function), _argument_texts(function), parameters(function)
    arguments = {}
    for name, parameter in known.items():
        about = {"description": texts[name]} if name in texts else {}
        default = raw[name].default
        plain = {"default": default} if isinstance(default, bool | int | float | str) else {}
        arguments[name] = {**_argument(parameter), **about, **plain}
    about_it = _plain((inspect.getdoc(function) or "").partition("\n\n")[0])
    then = {
        "properties": {**dict.fromkeys(RULE, True), "init": {"description": about_it}, **arguments},
        "required": [name for name, parameter in known.items() if parameter.required],
        "additionalProperties": False,
    }
    return {"if": {"properties": {"init": {"const": initializer}}}, "then": then}


def _argument(parameter: Parameter) -> Schema:
    """What a recipe may write for one keyword of an initializer."""
    null = ["null"] if parameter.optional else []
    if parameter.type == "any":
        return {}
    if parameter.type == "choice":
        one: Schema = {"enum": [*parameter.options, *([None] if null else [])]}
    else:
        one = {"type": [*_TYPES[parameter.type], *null]}
    if parameter.many:
        return {"type": ["array", *null], "items": one}
    # For a split tensor, a list has one number for each block.
    return {"type": [*one["type"], "array"], "items": one} if parameter.numeric else one


_TYPES = {"number": ["number", "string"], "integer": ["integer", "string"], "text": ["string"], "flag": ["boolean"]}


def _argument_texts(function: Initializer) -> dict[str, str]:
    """What the docstring says about each argument."""
    found = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.getdoc(function) or "", re.MULTILINE | re.DOTALL)
    entries = re.findall(r"^    (\w+): (.*?)(?=^    \w|\Z)", found[1], re.MULTILINE | re.DOTALL) if found else []
    return {name: _plain(text) for name, text in entries}


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split())
