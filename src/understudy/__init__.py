"""understudy: train a small model to stand in for a large one, and prove how well it does.

```python
import understudy

run = understudy.distil("telecom_qa")
```

The names below are loaded when they are first used: importing the package costs nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # As type checkers read it; the module `typing` would have to be loaded.
if TYPE_CHECKING:
    from typing import Any

    from understudy.api import compare, distil, evaluate
    from understudy.recipe import Recipe, load_recipe
    from understudy.run import Run

__version__ = "0.1.0"

__all__ = ["Recipe", "Run", "__version__", "compare", "distil", "evaluate", "load_recipe"]

_HOMES = {
    "distil": "understudy.api",
    "evaluate": "understudy.api",
    "compare": "understudy.api",
    "Recipe": "understudy.recipe",
    "load_recipe": "understudy.recipe",
    "Run": "understudy.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'understudy' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
