"""Objectives: weighted sums of losses, one class a method."""
