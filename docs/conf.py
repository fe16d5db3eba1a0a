"""How the pages are built: sphinx-build -W docs build/docs."""

import initframe

project = "initframe"
author = "The initframe authors"
version = release = initframe.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "initframe"
pygments_dark_style = "a11y-dark"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_copy_source = False
myst_heading_anchors = 3
nb_execution_mode = "off"  # tests/test_notebooks.py runs the notebooks and compares what is stored in them
autodoc_typehints = "none"  # signatures stay short; every argument is described in words
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_include_init_with_doc = False
exclude_patterns = ["build"]
