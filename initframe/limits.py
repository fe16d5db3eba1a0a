"""Bounds on input from strangers, and on memory; docs/trust.md lists them with what is said when one is passed."""

from __future__ import annotations

import os

# --- messages --------------------------------------------------------------------------------------------------------

SHOWN_CHARACTERS = 1_000
"""Of one part of a problem: its subject, fact, options or fix."""
SHOWN_PROBLEMS = 100
"""Of one error, in its text; ``error.problems`` has all of them."""
MESSAGE_CHARACTERS = 20_000
"""Of the text of one error."""
COMPARED_NAMES = 20
"""Problems of one error for which the closest names are looked up."""
COMPARED_OPTIONS = 160
"""Names that one name is compared with; of more, those that begin or end alike."""
COMPARED_CHARACTERS = 300
"""Of a name that is compared with others."""

# --- recipes ---------------------------------------------------------------------------------------------------------

RECIPE_BYTES = 1 << 20
"""Of one YAML file."""
RECIPE_VALUES = 20_000
"""Of one recipe: every scalar, list, mapping and key; an alias counts as all that it stands for."""
RECIPE_DEPTH = 20
"""Levels of lists and mappings in each other."""
NUMBER_CHARACTERS = 400
"""Of one number in YAML; float64 ends at 309 digits, and long integers take quadratic time to read."""
EXPRESSION_CHARACTERS = 1_000
"""Of one expression."""
EXPRESSION_PARTS = 250
"""Operators, names, numbers and calls of one expression."""
EXPRESSION_DEPTH = 50
"""Levels of one expression."""
CHAINED_NUMBERS = 100
"""Vars and arguments that name one another in a row."""
PATTERN_CHARACTERS = 1_000
"""Of one pattern over names."""
INTEGER = 2**63
"""The first integer that torch has no type for."""

# --- files of tensors ------------------------------------------------------------------------------------------------

TENSORS = 100_000
"""Of one file."""
ENTRIES = 200_000
"""Of all mappings in a training state; optimizers have several for each tensor."""
INDEX_BYTES = 1 << 25
"""Of the names and shapes of one file (safetensors' header, the pickle of a ``.pt``), or of an index of shards."""
PICKLE_STEPS = 200_000
"""Reads of a ``.pt`` file's pickle, a microsecond each; more for each tensor that the file has memory for:"""
PICKLE_STEPS_PER_TENSOR = 500
EXPANDED_BYTES = 1 << 26
"""Of a tensor in a ``.pt`` that repeats its elements by a stride of zero, if it is larger than the file."""
OPEN_CHECKPOINTS = 16
"""Kept mapped at a time, so that a plan need not read their names again."""
ELEMENTS = 1 << 32
"""Of one tensor that a recipe reads from a file."""
RESAMPLED = 1 << 26
"""Elements of a table of positions that is resampled: the file's, whatever the model's."""

# --- manifests -------------------------------------------------------------------------------------------------------

MANIFEST_BYTES = 1 << 28
"""Of one manifest; 100,000 tensors take a quarter of it."""
MANIFEST_FILES = 10_000
"""Files that one manifest names."""
NAME_CHARACTERS = 10_000
"""Of the name of one tensor."""
DIMENSIONS = 64
"""Of one tensor in a manifest."""
TENSOR_BYTES = 1 << 60
"""Of one tensor in a manifest."""

# --- the machine -----------------------------------------------------------------------------------------------------


def machine_memory() -> int:
    """Return the bytes of memory that this machine has; 2**62 if it does not say, as Windows."""
    if not hasattr(os, "sysconf"):
        return 1 << 62
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
