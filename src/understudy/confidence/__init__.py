"""How sure a student is of an answer, and how far that can be believed.

`Confidence` holds the measures of one answer, `Calibration` turns them into the probability that it is right, and
`reliability` says how well that probability holds. Nothing here loads a model: whoever serves a student imports it
from here.
"""

from understudy.confidence.calibration import CALIBRATION, Calibration, ProbabilityMap, fitted, read_calibration
from understudy.confidence.measures import EARLY_MEASURES, MEASURES, NUM_EARLY, Confidence

__all__ = [
    "CALIBRATION",
    "EARLY_MEASURES",
    "MEASURES",
    "NUM_EARLY",
    "Calibration",
    "Confidence",
    "ProbabilityMap",
    "fitted",
    "read_calibration",
]
