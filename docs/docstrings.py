"""Shows the sections of compact docstrings as sections: an extension of griffe, which reads them for the reference.

It asks for an empty line before each section, and for what is returned in a block of its own; ours have neither.
"""

import re
from typing import Any

import griffe

BLOCK = re.compile(r"^(Args|Raises|Examples):$", re.MULTILINE)
LINE = re.compile(r"^(Returns|Yields|References?): ", re.MULTILINE)


class Sections(griffe.Extension):
    """The extension."""

    def on_object(self, *, obj: griffe.Object, **others: Any) -> None:
        """Rewrites the docstring of an object."""
        del others
        if obj.docstring is not None:
            text = BLOCK.sub(r"\n\1:", obj.docstring.value)
            obj.docstring.value = LINE.sub(r"\n**\1:** ", text)
