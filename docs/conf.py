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
    "scripts.documentation.api",
    "scripts.documentation.links",
]
source_suffix = {".md": "markdown"}
exclude_patterns: list[str] = []
nitpicky = True

# Names of others are not looked up: no build may need a network, so their indexes are not fetched. Names of ours that
# are not public have no entry to lead to. All that is public must be found.
nitpick_ignore_regex = [
    (r"py:.*", r"(airflow|annotated_types|collections|dagster|datetime|enum|httpx|inspect|os|pydantic)\..*"),
    (r"py:.*", r"(pathlib|pytest|starlette|types|typing)\..*"),
    (r"py:.*", r"(timedelta|datetime|ValidationError)"),
    (r"py:class", r"\w+=.*"),  # how pydantic writes an annotated type
    (r"py:exc", r"(AnotherRun|MalformedAnswer)"),  # kinds of AnswerError
    (r"py:class", r"[A-Z]\w*"),  # what a signature calls a type of ours that is not public
    (
        r"py:.*",
        r"runops\.(core|airflow|dagster|emulator|testing|conformance)\.(?!(declaration|exceptions)\.\w+$)\w+(\.\w+)+",
    ),
]

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"runops {__version__}"
html_static_path = ["_static"]
html_css_files = ["runops.css"]
html_extra_path = ["llms.txt"]
html_copy_source = False
html_show_sphinx = False
html_last_updated_fmt = None
copybutton_prompt_text = "$ "
