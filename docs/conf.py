"""How Sphinx builds these pages: see https://www.sphinx-doc.org/en/master/usage/configuration.html."""

import builtins
import re
from importlib.metadata import version as installed_version

project = "htdag"
author = "The htdag developers"
copyright = "the htdag developers"
release = installed_version("htdag")
version = release

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"member-order": "bysource"}
autodoc_typehints_format = "short"
autosummary_generate = False
python_maximum_signature_line_length = 80
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# Names outside htdag. Building needs no network, so other projects' inventories are not asked;
# a reference to a name of htdag that does not exist still fails.
_outside = ["classad2", "cloudpickle", "collections", "datetime", "graphviz", "htcondor2"]
_outside += ["networkx", "nx", "os", "pathlib", "types", "typing"]
_short = ["Any", "Callable", "DiGraph", "Digraph", "Hashable", "Iterable", "Iterator", "Literal"]
_short += ["Mapping", "Path", "PathLike", "Self", "Sequence", "TypeVar", "timedelta"]
_builtin = [name for name in dir(builtins) if not name.startswith("_")]
nitpick_ignore_regex = [
    (r"py:.*", rf"({'|'.join(map(re.escape, _outside))})(\..*)?"),
    (r"py:.*", rf"({'|'.join(map(re.escape, [*_short, *_builtin]))})"),
    # Type variables.
    (r"py:.*", r"(.*\.)?(_?[A-Z]|_Self|Function)"),
]

html_theme = "furo"
html_title = f"htdag {release}"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#a3312a",
        "color-brand-content": "#a3312a",
    },
    "dark_css_variables": {
        "color-brand-primary": "#f0857d",
        "color-brand-content": "#f0857d",
    },
}
