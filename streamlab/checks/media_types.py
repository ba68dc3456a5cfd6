"""The right content types for a file, by the ending of its name (IANA, media types)."""

from __future__ import annotations

JAVASCRIPT = {"text/javascript", "application/javascript"}
"""The first of these is the current one, the other is still common (RFC 9239, section 6)."""
OTHER = {"application/octet-stream"}
"""The type of a file whose ending is not known."""

TYPES = {
    ".html": {"text/html"},
    ".css": {"text/css"},
    ".js": JAVASCRIPT,
    ".json": {"application/json"},
    ".txt": {"text/plain"},
    ".png": {"image/png"},
    ".jpg": {"image/jpeg"},
    ".pdf": {"application/pdf"},
    ".mp3": {"audio/mpeg"},
    ".mp4": {"video/mp4"},
    ".zip": {"application/zip"},
}
"""The right content types for an ending in lower case."""
