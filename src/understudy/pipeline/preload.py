"""What the server that forks workers loads, before any worker: torch, `transformers` and all that stages need.

Loading makes a million objects, and hardly any garbage. The collector would look at them over and over: without it
loading takes a fifth less. What is there at the end is set aside, so that no worker looks at it, or copies it.
"""

import gc

gc.disable()
import understudy.pipeline.stages  # noqa: E402, F401  (loaded for whoever is forked)

gc.freeze()
gc.enable()
