"""Messages of stores and URIs, fit for a log."""

import re


def redacted(text: str, max_chars: int = 400) -> str:
    """The first line of the text, without the user and password of any URI in it, cut to ``max_chars``."""
    clean = re.sub(r"//[^/@\s]+@", "//***@", text.strip().split("\n", 1)[0])
    return clean if len(clean) <= max_chars else clean[:max_chars] + " ..."
