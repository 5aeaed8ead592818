"""Messages of stores and URIs, fit for a log."""

import re

SECRETS = ("password", "passwd", "pwd", "token", "secret", "key")
"""In the names of what a URI's query must not show."""
_SECRET_IN_QUERY = re.compile(rf"([?&][^=&\s]*(?:{'|'.join(SECRETS)})[^=&\s]*=)[^&\s]+", re.IGNORECASE)


def redacted(text: str, max_chars: int = 400) -> str:
    """The first line of the text, without the user and password of any URI in it, cut to ``max_chars``."""
    clean = re.sub(r"//[^/@\s]+@", "//***@", text.strip().split("\n", 1)[0])
    clean = _SECRET_IN_QUERY.sub(r"\1***", clean)
    return clean if len(clean) <= max_chars else clean[:max_chars] + " ..."
