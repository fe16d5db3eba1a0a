"""``python -m tests.attacks``: does every attack, and counts; each in an empty folder, with its time and memory."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from initframe.errors import InitframeError
from tests.attacks.attacks import Attack, every
from tests.attacks.texts import MARK

SECONDS, MEBIBYTES = 1, 500


def _memory(key: str) -> int:
    """Read a size of this process in MiB: VmRSS, or VmHWM, the largest since it was reset."""
    return int(Path("/proc/self/status").read_text().partition(f"{key}:")[2].split()[0]) // 1024


def attacked(attack: Attack, folder: Path) -> tuple[str, float, int]:
    """Do one attack.

    Returns:
        What went wrong, empty if it was refused; CPU seconds; MiB above what the process had.
    """
    before, start = _memory("VmRSS"), time.process_time()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    try:
        attack.run(folder)
        fault = "it was not refused"
    except InitframeError as error:
        text = str(error)
        fault = "" if text.replace("\n", "").isprintable() and len(text) < 25_000 else f"it says {text[:100]!r}"
    except Exception as error:  # noqa: BLE001  # any other is what is looked for
        fault = f"{type(error).__name__}: {str(error)[:200]!r}"
    seconds, memory = time.process_time() - start, _memory("VmHWM") - before
    if (folder / MARK).exists():
        fault = "it ran code"
    return fault, seconds, memory


def main() -> int:
    """Do all attacks; 1 if one was not refused, or took too much."""
    warnings.simplefilter("ignore")
    import torchvision  # noqa: F401  # a second of its own, which is no attack's

    counts: Counter[str] = Counter()
    worst_time, worst_memory, failures = (0.0, ""), (0, ""), 0
    for attack in every():
        with tempfile.TemporaryDirectory() as name:
            os.chdir(name)
            fault, seconds, memory = attacked(attack, Path(name))
            os.chdir("/")
        counts[attack.name.partition(":")[0]] += 1
        worst_time, worst_memory = max(worst_time, (seconds, attack.name)), max(worst_memory, (memory, attack.name))
        if seconds > SECONDS or memory > MEBIBYTES:
            fault = fault or f"it takes {seconds:.1f} s and {memory} MiB"
        if fault:
            failures += 1
            print(f"{attack.name}: {fault}", flush=True)
    print(f"{sum(counts.values())} attacks, {failures} not refused within {SECONDS} s and {MEBIBYTES} MiB")
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    print(f"longest: {worst_time[0]:.2f} s of CPU time ({worst_time[1]})")
    print(f"most memory: {worst_memory[0]} MiB ({worst_memory[1]})")
    return int(failures > 0)


if __name__ == "__main__":
    raise SystemExit(main())
