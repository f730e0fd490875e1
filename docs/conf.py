"""How the documentation is built; `make docs` builds it, and docs/project/documentation.md says how to write for it."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from scripts.documentation.hosts import without_a_home  # noqa: E402 - the path comes first

without_a_home()

from runops import __version__  # noqa: E402 - a host reads its settings when it is imported

project = "runops"
author = "The runops maintainers"
copyright = author  # without a year, so that a build of tomorrow has the bytes of today's
version = release = __version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "scripts.documentation.links",
]
source_suffix = {".md": "markdown"}
exclude_patterns: list[str] = []
nitpicky = True

# Names of others, which no page of ours describes: no build may need a network, so their indexes are not fetched.
nitpick_ignore_regex = [(r"py:.*", r"(?!runops\b).*")]

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
autodoc_class_signature = "separated"
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"runops {__version__}"
html_static_path: list[str] = []
html_copy_source = False
html_show_sphinx = False
html_last_updated_fmt = None
copybutton_prompt_text = "$ "
