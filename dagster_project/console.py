"""Where the command line prints: what a shop and its users wrote is shown, and never obeyed.

A title or an id may hold any character. Sent to a terminal as they are, some clear the screen,
write the clipboard or turn the line around.
"""

from typing import Any

from rich import console
from rich.text import Text

_OBEYED = {
    n: "\ufffd"
    for n in (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if chr(n) not in "\n\t"
}


class Console(console.Console):
    """Rich's console without markup and emoji; control and direction characters become a sign."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """As Rich does it, which asks here for every text and every cell."""
        return super().render_str(text.translate(_OBEYED), **options)
