"""Values from files: which tensors take them, and what of a file is left over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping

from initframe.errors import InitframeError, Problem
from initframe.files.archive import Archive
from initframe.fills.fill import needs_no_trial
from initframe.fills.pretrained import Stored
from initframe.initializers import Declined
from initframe.initializers.lookup import idle_keys
from initframe.initializers.table import restores
from initframe.model.slot import Slot
from initframe.plan import Assignment
from initframe.resolver.build import build
from initframe.resolver.match import Declines, Match, Matcher
from initframe.resolver.scope import Scope

Matches = dict[str, list[Match]]


def match_originals(matches: Matches, scope: Scope) -> Matches:
    """Let a file's rule set what a parametrized tensor is computed from, if the file has that and not the tensor.

    The values are then the source's, bit for bit: neither weight_norm, spectral_norm, orthogonal nor a pruning mask
    could be inverted so exactly, or at all.

    Args:
        matches: by slot name, as found; changed in place.
        scope: recipe and model.

    Returns:
        What the parametrized tensors themselves were matched by.
    """
    if not scope.seen.raw:
        return {}
    parts: dict[str, list[Slot]] = defaultdict(list)
    for slot in scope.seen.raw:
        if slot.part_of in matches:
            parts[slot.part_of].append(slot)
    whole = {slot.name: slot for slot in scope.seen.slots if slot.name in parts}
    replaced: Matches = {}
    for name, raw in parts.items():
        if found := _restoring(whole[name], raw, matches[name], scope):
            for slot in raw:
                if slot.persistent:
                    matches.setdefault(slot.name, []).append(found)
            replaced[name] = matches.pop(name)
    return replaced


def _restoring(whole: Slot, raw: Iterable[Slot], several: list[Match], scope: Scope) -> Match | None:
    """Return the winning match if it takes a tensor's originals from a file."""
    how = scope.seen.places[whole.name].computed
    originals = {id(tensor) for tensor in how.originals.values()} if how else set()
    needed = [slot for slot in raw if id(scope.seen.places[slot.name].held[0]) in originals]
    for match in several[::-1]:
        if match.call is None or not restores(match.rule.init):
            return None
        if needed and all(_is_stored(match, slot, scope) for slot in needed):
            return match
        if _is_stored(match, whole, scope):
            return None
    return None


def _is_stored(match: Match, slot: Slot, scope: Scope) -> bool:
    """Whether a rule takes a tensor from a file as it is."""
    try:
        return type(build(match, slot, scope).fill) is Stored
    except (Declined, InitframeError):
        return False


def stored(assignments: Iterable[Assignment]) -> list[Stored]:
    """Collect what a plan reads from files.

    Args:
        assignments: the plan's.
    """
    found: list[Stored] = []
    for assignment in assignments:
        kind: type = type(assignment.fill)
        if not needs_no_trial(kind):  # most read no file
            found += [part for part in assignment.fill.parts() if isinstance(part, Stored)]
    return found


def unread(parts: Iterable[Stored]) -> dict[str, tuple[str, ...]]:
    """List what files have and the model does not take.

    Args:
        parts: what a plan reads from them.

    Returns:
        By the path of each file that a rule takes values from (and the entry, if one was chosen), the names of those
        of its tensors that no rule takes.
    """
    taken: dict[Archive, set[str]] = defaultdict(set)
    for part in parts:
        taken[part.archive] |= {part.key, *part.others}
    left: dict[str, tuple[str, ...]] = {}
    for archive, names in taken.items():  # a tensor without elements has nothing to take
        where = archive.path if archive.entry is None else f"{archive.path}: {archive.entry}"
        left[where] = tuple(n for n, i in archive.entries.items() if n not in names and i.size)
    return {path: names for path, names in left.items() if names}


def unchosen(parts: Iterable[Stored]) -> Iterator[str]:
    """Say which part of a training state was read where several could have been meant."""
    for archive in dict.fromkeys(part.archive for part in parts):
        contents = archive.contents
        if archive.entry is None and contents.others:
            read = contents.entry or "the file itself"
            yield f"{archive.path}: {read} is read; the file also has {', '.join(contents.others)}. Choose by entry."


def idle_renamings(
    matchers: Iterable[Matcher],
    matches: Mapping[str, list[Match]],
    declines: Declines,
    slots: Mapping[str, Slot],
    failed: Container[str],
) -> Iterator[Problem]:
    """Say which renamings of a file's names do nothing.

    Args:
        matchers: of all rules.
        matches: by slot name, without those that were declined.
        declines: what rules have matched and declined.
        slots: every slot, by each of its names.
        failed: the rules that have other problems, described.

    Yields:
        One problem per key of ``keys`` that renames nothing that the file has.
    """
    for matcher in matchers:
        rule, call = matcher.rule, matcher.call
        keys = call.arguments.get("keys") if call else None
        if keys is None or call is None or not restores(rule.init):
            continue
        if not isinstance(keys, Mapping) or rule.describe() in failed:
            continue
        matched = [slots[name] for name, several in matches.items() if any(m.rule is rule for m in several)]
        matched += [slot for slot, _ in declines.get(rule.name, [])]
        names = dict.fromkeys(name for slot in matched for name in (slot.name, *slot.aliases))
        path, entry, prefix = (call.arguments.get(key) for key in ("path", "entry", "prefix"))
        if names and isinstance(path, str):
            found = idle_keys(names, path, entry, prefix or "", {str(key): str(new) for key, new in keys.items()})
            yield from (problem.on(rule.describe()) for problem in found)
