"""What tests share: tiny real models, servers that misbehave, a scripted judge, whole folders to run in."""

from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
"""Real data that nobody here wrote; tests skip where it is absent."""
