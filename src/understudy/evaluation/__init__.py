"""Evaluation: answers of each arm, their scores, and what sets the arms apart."""
