"""What is collected here."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torchtitan") else ["torchtitan_processes.py"]
