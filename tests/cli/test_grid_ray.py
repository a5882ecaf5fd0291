"""A grid on a Ray cluster of two nodes: the same table as on one machine, also where a node is lost on the way."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from test_run_killed import close, until

from support.grids import at_work, done, folder_of, tables
from support.house import House

pytest.importorskip("ray", reason="Ray is not installed (extra understudy-distil[ray])")
pytestmark = [
    pytest.mark.slow,
    # Ray leaves sockets and log files of its own processes to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head that runs nothing, and two nodes of one processor each, as processes of this machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        memory = {"object_store_memory": 80 * 2**20}
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
        for _ in range(2):
            nodes.add_node(num_cpus=1, **memory)
        nodes.wait_for_nodes()
        yield nodes
        nodes.shutdown()


def arguments(cluster: Any, output: Any, *more: str) -> tuple[str, ...]:
    return ("run", "grid.yaml", f"output={output}", "grid.engine=ray", f"grid.address={cluster.address}", *more)


def test_two_nodes_give_the_same_table(finished_grid: House, cluster: Any, tmp_path) -> None:
    process = finished_grid.call(*arguments(cluster, tmp_path / "runs"), timeout=900)
    assert process.returncode == 0, process.stderr
    assert tables(tmp_path / "runs" / "grid") == tables(folder_of(finished_grid))


def test_losing_a_node_loses_no_cell(finished_grid: House, cluster: Any, tmp_path) -> None:
    folder = tmp_path / "runs" / "grid"
    process = finished_grid.start(*arguments(cluster, tmp_path / "runs"))

    def both_train() -> bool:
        return len({how.process for cell in at_work(folder) for how in training(cell).values()}) == 2

    assert until(both_train, process, 600)
    working = {how.process: cell.stages for cell in at_work(folder) for how in training(cell).values()}
    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    assert until(lambda: any(not os.path.exists(f"/proc/{id}") for id in working), process)
    finished_before = done(folder)
    err = close(process)
    assert process.returncode == 0, err
    assert len(done(folder)) > len(finished_before)
    assert tables(folder) == tables(folder_of(finished_grid))


def training(cell: Any) -> dict[str, Any]:
    return {stage: how for stage, how in cell.stages.items() if stage.startswith("train") and how.process}


def test_an_address_at_which_nobody_answers_is_one_line(finished_grid: House, tmp_path) -> None:
    process = finished_grid.call(
        "run", "grid.yaml", f"output={tmp_path}", "grid.engine=ray", "grid.address=127.0.0.1:1"
    )
    assert process.returncode == 1
    assert "error: no Ray cluster answers at grid.address 127.0.0.1:1" in process.stderr
