"""How Sphinx builds these pages: `make docs` writes them to site/, and treats every warning as an error."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

from convscope.version import VERSION

project = "convscope"
author = "the convscope contributors"
version = release = VERSION
html_title = f"convscope {VERSION}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "plain_docstrings"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["images"]
default_role = "code"  # what stands in single backticks in a docstring
nitpicky = False  # types of PyTorch and NumPy are named, and their documentation is not downloaded

html_theme = "furo"
html_copy_source = False
html_show_sourcelink = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False  # what comes before a colon in "Returns" is prose
