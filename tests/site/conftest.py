"""The site's tests import its modules as its programs do: from their folder."""

from __future__ import annotations

import sys
from pathlib import Path

WEBSITE = Path(__file__).parents[2] / "tools" / "website"

sys.path.insert(0, str(WEBSITE))
