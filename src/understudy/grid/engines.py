"""Which engine runs the stages of a grid: processes of this machine, or Ray tasks."""

from __future__ import annotations

from understudy.grid.jobs import Engine, JobProgress
from understudy.recipe import GridConfig


def engine_for(config: GridConfig, workers: int, on_progress: JobProgress) -> Engine:
    """The engine that a recipe asks for.

    Args:
        config: the `grid` section.
        workers: jobs at once on one machine.
        on_progress: called with (job id, done, total, note), where an engine can tell.

    Raises:
        ConfigError: Ray is asked for and not installed, or its cluster cannot be reached.
    """
    if config.engine == "ray":
        from understudy.grid.ray_engine import RayEngine

        return RayEngine(config)
    from understudy.grid.local_engine import LocalEngine

    return LocalEngine(workers, on_progress)
