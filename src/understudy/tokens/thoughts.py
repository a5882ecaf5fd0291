"""Tags between which models think, in the forms that the field uses."""

from __future__ import annotations

import re

_TAG = "(?:think|thinking|thought|reasoning)>"
OPENS = re.compile(f"<{_TAG}")
"""Begins a thought."""
CLOSES = re.compile(f"</{_TAG}")
"""Ends one."""
TAG = re.compile(f"</?{_TAG}")
"""Either of the two."""
ENDS_OPEN = re.compile(f"<{_TAG}\\s*$")
"""A text that ends just inside a thought."""
