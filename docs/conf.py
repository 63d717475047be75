"""Sphinx: the guides, the tutorials and the API reference as one site. `make docs` builds it; a warning is an error."""

import os
import re
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
from sphinx.util import inspect, logging

import tf_metalearn

project = "tf_metalearn"
author = "The tf_metalearn authors"
copyright = "the tf_metalearn authors"
version = release = tf_metalearn.__version__

# The source is the whole checkout, so that pages link to each other as they do in the repository.
root_doc = "docs/index"
include_patterns = [
    "*.md",
    "docs/**",
    "tf_metalearn/pretrained/*.md",
    "saved_models/*/README.md",
]
exclude_patterns = ["build", "**/.*"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_heading_anchors = 4
myst_links_external_new_tab = True
# Outputs are stored in the notebooks; a test runs these.
nb_execution_mode = "off"
nb_merge_streams = True

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "groupwise"
# What is only Keras's is described there.
autodoc_inherit_docstrings = False
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_numpy_docstring = False
# Docstrings have names between single backticks.
default_role = "code"
add_module_names = False

html_theme = "furo"
html_title = "tf_metalearn"
html_copy_source = False
html_show_sphinx = False


def check_that_all_is_documented(app, environment):
    """Warns of public names that are on no page of the reference."""
    found = {entry[0].rpartition(".")[2] for entry in environment.get_domain("py").get_objects()}
    parts = [getattr(tf_metalearn, name) for name in tf_metalearn.__all__]
    for module in [tf_metalearn, *filter(inspect.ismodule, parts)]:
        for name in getattr(module, "__all__", ()):
            if name not in found and not inspect.ismodule(getattr(module, name)):
                logging.getLogger(__name__).warning("%s.%s is public, and not in docs/api", module.__name__, name)


def show_arguments(app, what, name, thing, options, signature, returns):
    """Those of `__init__`; Keras's classes all have a `__new__` that takes anything."""
    if what == "class" and issubclass(thing, keras.layers.Layer | keras.optimizers.Optimizer):
        arguments = inspect.signature(thing.__init__, bound_method=True)
        return inspect.stringify_signature(arguments, show_annotation=False), returns
    return None


def keep_absolute_values(app, what, name, thing, options, lines):
    """|g| in a docstring is no reference to a substitution."""
    lines[:] = [re.sub(r"\|(\w+)\|", r"\\|\1\\|", line) for line in lines]


def lead_folders_to_their_page(app, page, source):
    """A folder has no page of its own on the site."""
    source[0] = source[0].replace("](../saved_models)", "](cards.md)")


def begin_at_the_contents(app, exception):
    """The site's first page, since the source's is in docs/."""
    page = '<meta http-equiv="refresh" content="0; url=docs/index.html">\n'
    (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")


def setup(app):
    app.connect("autodoc-process-signature", show_arguments)
    app.connect("autodoc-process-docstring", keep_absolute_values)
    app.connect("source-read", lead_folders_to_their_page)
    app.connect("build-finished", begin_at_the_contents)
    app.connect("env-check-consistency", check_that_all_is_documented)
