"""The recipes alone, as a config folder for other Hydra apps: ``pkg://initframe.presets`` has the group ``init``.

``init`` is a link to ``conf/init`` in the repository; a wheel and an sdist hold the files.
"""
