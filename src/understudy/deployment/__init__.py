"""Before a student goes live: how far its confidence can be believed, what a cascade to its teacher would cost and
give, and exports that are checked against the student that was measured.
"""
