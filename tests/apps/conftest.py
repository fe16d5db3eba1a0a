"""The app in ``template/`` is run by tests, and holds none."""

collect_ignore = ["template"]
