"""The site: `make docs` builds it with Sphinx, and every warning is an error."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import equipoise

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for docs.extension.build
os.environ.setdefault("DDE_BACKEND", "pytorch")  # DeepXDE reads it on import

project = "equipoise"
author = "The equipoise authors"
copyright = author  # noqa: A001 (the name is Sphinx's)
version = release = equipoise.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "docs.extension.build",
]
exclude_patterns = ["extension"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4

# A single backquote in a docstring names something of the library.
default_role = "py:obj"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 72  # longer ones get a line for each argument

html_theme = "furo"
html_title = "equipoise"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["scrolled.js"]
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
