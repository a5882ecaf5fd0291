"""Upper bounds of the numbers in a recipe, so that a slip of the finger is named before anything is loaded.

Beyond them no machine does in a lifetime what they ask for, or a library under this one breaks. They are wide on
purpose: what is sensible for a model and its data is no matter of a recipe.
"""

SEED = 2**32 - 1
"""Numpy's generators take no larger one."""
ROWS = 10**9
"""Rows, steps and words."""
EPOCHS = 10**6
BATCH = 2**20
"""Rows of one optimiser step."""
AT_ONCE = 2**16
"""What is under way at the same time: rows generated, requests."""
TOKENS = 2**24
"""Tokens of one row or one answer."""
RANK = 2**14
"""Rank of an adapter; the widest layers of today's models have no more columns."""
RATE = 100.0
"""Learning rates."""
FACTOR = 10**6
"""Factors without a unit: weight decay, the scale of an adapter."""
NORM = 1e12
"""Norm of a gradient: whoever wants no clipping writes a large one."""
TEMPERATURE = 1000.0
TOP_K = 2**16
"""Likeliest tokens of a position, and tokens drawn for one."""
RESAMPLES = 10**7
REPEATS = 10**4
"""Samples of one question, verdicts on one item, demonstrations in one prompt."""
RETRIES = 100
"""The pause before a retry doubles each time."""
SECONDS = 7 * 86_400
CALLS = 10**12
BUDGET_TOKENS = 10**15
MONEY = 1e12
PROCESSES = 10**5
WORKERS = 1024
ARCHITECTURE = 10**9
"""Numbers among the fields of an architecture."""
LABELS = 10**5
"""Labels of a data set."""
