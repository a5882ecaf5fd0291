"""Embedded data sets: written by the project, generated deterministically, usable offline."""
