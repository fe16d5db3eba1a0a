"""Reports and comparisons as HTML: one file each, readable without a network."""

from initframe.pages.comparison import comparison_page as comparison_page
from initframe.pages.comparison import picture as picture
from initframe.pages.render import need_libraries as need_libraries
from initframe.pages.render import save as save
from initframe.pages.run import run_page as run_page
