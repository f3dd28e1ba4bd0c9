"""How the documentation is built: MyST pages whose code runs, one API page, one bibliography."""

import logging
import os
import sys
from pathlib import Path

import zmq
from jupyter_client.manager import KernelManager
from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style
from pybtex.style.labels import BaseLabelStyle

from conjoin import __version__

project = "conjoin"
author = copyright = "The conjoin authors"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"conjoin {version}"
html_show_sourcelink = False

# Every page runs when the documentation is built, in an empty folder of its own; an error fails it.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
# The pages call the command as a reader would.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
# A page imports the example that the tests import.
os.environ["PYTHONPATH"] = str(Path(__file__).parents[1] / "tests" / "integration")
# A page shows a photograph that lies here.
os.environ["CONJOIN_DOCS"] = str(Path(__file__).parent)
# Pages are small; several threads on a busy machine would mostly wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
logging.getLogger("traitlets").setLevel(logging.WARNING)
# A kernel that is able to encrypt what it exchanges does, instead of warning that it does not.
encryption = getattr(KernelManager, "transport_encryption", None)
if encryption is not None and zmq.has("curve"):
    encryption.default_value = "auto"

myst_enable_extensions = ["deflist"]

autodoc_member_order = "bysource"
autodoc_default_options = {"special-members": "__call__"}
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False


class KeyLabels(BaseLabelStyle):
    """Label an entry with its key, as docstrings and reports name it."""

    def format_labels(self, sorted_entries):
        return [entry.key for entry in sorted_entries]


class KeyStyle(Style):
    default_label_style = KeyLabels


register_plugin("pybtex.style.formatting", "keys", KeyStyle)
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "keys"
