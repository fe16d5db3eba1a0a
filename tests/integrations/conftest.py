"""Scripts that launchers start are no modules of tests: importing one takes its libraries and its arguments."""

collect_ignore = ["two_processes.py", "torchtitan_processes.py"]
