"""Sessions of two invented shops, generated from a seed, in which every regularity is planted and known.

```text
regularities.py   what is sold, and which kinds of things are bought together for what: shared by both shops, or of one
sessions.py       a seed -> catalogue, sessions with their bundles, splits
```

Nothing here is real: no item, no brand, no shopper. It shows whether a method finds what is there to be found.
"""

from understudy.data.embedded.bundles.regularities import DOMAINS, REGULARITIES, Regularity, regularities_of
from understudy.data.embedded.bundles.sessions import catalogue, generate, matched_items, planted_sessions

__all__ = [
    "DOMAINS",
    "REGULARITIES",
    "Regularity",
    "catalogue",
    "generate",
    "matched_items",
    "planted_sessions",
    "regularities_of",
]
