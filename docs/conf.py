"""The documentation site: `scripts/docs` builds it with Sphinx, MyST for Markdown, and the theme Furo."""

from __future__ import annotations

import asgi_rp_logout

project = "asgi-rp-logout"
author = "the asgi-rp-logout contributors"
version = release = asgi_rp_logout.__version__

# The source is the checkout, so that a link from docs/ to SECURITY.md leads somewhere on a code host and in the site.
include_patterns = ["docs/**", *(f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY"))]
include_patterns += ["benchmarks/README.md", "examples/README.md"]
exclude_patterns = ["docs/_*"]
root_doc = "docs/index"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
autodoc_type_aliases = {name: name for name in ("ASGIApp", "LogoutChannel", "Providers", "Receive", "Scope", "Send")}
maximum_signature_line_length = 88  # a longer one has each parameter on a line of its own

html_theme = "furo"
html_title = "asgi-rp-logout"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_site"]  # sends the browser from the root of the site to its first page
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"top_of_page_buttons": []}
pygments_style = "default"
pygments_dark_style = "github-dark"
