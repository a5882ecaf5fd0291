"""Statistics that may be looked at after every observation: intervals, a comparison, detectors of change."""
