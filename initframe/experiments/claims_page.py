"""The page of all claims: a row for each, and a section for each with its table, its verdict and its picture."""

from __future__ import annotations

from collections.abc import Mapping

from initframe.experiments.outcome import Data, cells, here

HEAD = """# Claims

What papers say about initializations, tried at small sizes on data that packages ship. Every experiment is one command
and one config in `conf/experiment`; the config's `starts` are its recipes. A number holds if it is within bounds for
every seed; `initframe/experiments/claims` has the bounds, the networks and the schedules. If a claim does not hold at
this size, its table says so. Sizes, learning rates and some bounds were chosen after first trials, so that what is said
to train does train here; if a trial at other numbers went otherwise, the experiment's first line says it. The bands in
the pictures go from the lowest seed to the highest.

`python scripts/train.py experiment=all` runs them all and writes this page. With `reduced=true`, each takes
seconds; the tests run these and check the direction of each claim.
"""


def page(outcomes: Mapping[str, Data], machine: str) -> str:
    """A page in Markdown: a row for each claim, then a section for each.

    Args:
        outcomes: by the experiment's name, which is also the name of its picture's file in ``claims/``.
        machine: where they were run, as a sentence.
    """
    rows = "".join(
        f"| {data['numbers']['paper']} | {data['numbers']['says']} | {_judgement(data)} | "
        f"`experiment={name}` | {data['seconds']:.0f} |\n"
        for name, data in outcomes.items()
    )
    total = sum(data["seconds"] for data in outcomes.values()) / 60
    about = f"{machine} All of them took {total:.0f} minutes.\n"
    head = "| paper | claim | here | command | seconds |\n|---|---|---|---|---|\n"
    return "\n".join([HEAD, about, head + rows, *(_section(name, data) for name, data in outcomes.items())])


def _judgement(data: Data) -> str:
    judged = [check["holds"] for check in data["checks"]]
    return "holds" if "no" not in judged else "**in part**" if "yes" in judged else "**does not hold**"


def _section(name: str, data: Data) -> str:
    rows = "".join(f"| {' | '.join(cells(check))} |\n" for check in data["checks"])
    return (
        f"## {data['numbers']['paper']}\n\n"
        f"`python scripts/train.py experiment={name}`: {here(data)}.\n\n"
        f"| number | the paper | here | holds |\n|---|---|---|---|\n{rows}\n"
        f"{data['verdict']}\n\n"
        f"![{data['numbers']['says']}](claims/{name}.svg)\n"
    )
