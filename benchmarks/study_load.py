"""Whether a study loses or doubles an answer, and how long a page takes, with many raters at once.

```sh
python benchmarks/study_load.py                                  # 100 raters, a page every 2 to 5 s, SQLite
python benchmarks/study_load.py --kills 10                       # the server killed and started again ten times
python benchmarks/study_load.py --kills 10 --database postgres   # the same on a PostgreSQL of its own
```

The raters (`tests/support/study_raters.py`) are one process, the server is another. Each rater comes with a panel's id,
fills in whatever form comes, sends a tenth of the forms twice, and writes down the ratings whose page the server said
it has stored. At the end the database is read: *lost* is a rating that was stored by that word and is not there or is
another one; *doubled* is a row or a rater too many. Seconds are those of requests that were answered, from the first
byte sent to the last received. `p95` leaves out what was sent while the server was away or in the second after it came
back, when all who waited ask at once; `p95_all` leaves out nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.studies import StudyServer, make_study, postgres
from support.study_raters import SimulatedRater


@dataclass(frozen=True)
class Load:
    """What came out.

    Attributes:
        raters: that came to the end with a code.
        answers: ratings that the server said it has stored.
        lost: of these, not there or another value.
        doubled: rows and raters too many.
        requests: that were answered.
        failed: attempts while the server was away.
        median: seconds of a request.
        p95: of a request, sent while the server was up.
        p95_all: of any request.
        kills: of the server.
    """

    raters: int
    answers: int
    lost: int
    doubled: int
    requests: int
    failed: int
    median: float
    p95: float
    p95_all: float
    kills: int


def measure(
    folder: Path, *, raters: int, pause: tuple[float, float], kills: int, per_rater: int = 12, database: str = ""
) -> Load:
    """Have so many raters take a study at once.

    Args:
        folder: where the study goes.
        raters: how many, all at once.
        pause: shortest and longest seconds that a rater looks at a page.
        kills: how often the server is killed on the way.
        per_rater: explanations a rater.
        database: as `--database`; empty: SQLite beside the study.
    """
    study = make_study(
        folder, items=max(per_rater, 20), raters=raters, per_rater=per_rater, open_recruitment=True, panel={}
    )
    server = StudyServer(study.folder, database).start()
    crowd = [SimulatedRater(server.url, f"panel{number:03d}", pause) for number in range(raters)]
    away: list[tuple[float, float]] = []
    try:
        asyncio.run(_run(server, crowd, kills, per_rater, away))
    finally:
        server.stop()
    return _compared(study.folder, crowd, away, database)


async def _run(
    server: StudyServer, crowd: list[SimulatedRater], kills: int, per_rater: int, away: list[tuple[float, float]]
) -> None:
    work = [asyncio.create_task(_arrive(rater)) for rater in crowd]
    killer = asyncio.create_task(_kill(server, crowd, kills, len(crowd) * per_rater, away))
    await asyncio.gather(*work)
    killer.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await killer


async def _arrive(rater: SimulatedRater) -> None:
    """Raters do not all click in one millisecond."""
    await asyncio.sleep(random.Random(rater.name).uniform(0, rater.pause[1]))
    await rater.run()


async def _kill(
    server: StudyServer, crowd: list[SimulatedRater], kills: int, pages: int, away: list[tuple[float, float]]
) -> None:
    """Kill the server at even shares of the pages that are answered: how fast the machine is says when that is."""
    for number in range(kills):
        while sum(len(rater.stored) for rater in crowd) < pages * (number + 1) / (kills + 2):
            await asyncio.sleep(0.005)
        begun = time.perf_counter()
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        away.append((begun, time.perf_counter() + 1.0))


def _compared(folder: Path, crowd: list[SimulatedRater], away: list[tuple[float, float]], database: str) -> Load:
    """What the raters were told against what the database has."""
    from sqlalchemy import select

    from understudy.study.database import open_database
    from understudy.study.folder import open_study
    from understudy.study.pages import pages_of
    from understudy.study.tables import RATERS, RATINGS, VISITS

    study = open_study(folder)
    base = open_database(study, database or None)
    with base.read() as connection:
        people = {row.panel_id: row for row in connection.execute(select(RATERS))}
        rows = [tuple(row) for row in connection.execute(select(*RATINGS.c))]
        visits = [tuple(row) for row in connection.execute(select(VISITS.c.rater, VISITS.c.item))]
    base.close()
    there = {(rater, item, construct): rating for rater, item, construct, rating in rows}
    told = {}
    for rater in crowd:
        row = people[rater.name]
        pages = pages_of(study.config, study.slots[row.slot], row.slot)
        for index, ratings in rater.stored.items():
            if pages[index].kind == "item":
                told |= {(row.id, pages[index].seat.item, name): value for name, value in ratings.items()}
    lost = sum(there.get(key) != value for key, value in told.items())
    doubled = len(rows) - len(told) + sum(count - 1 for count in Counter(visits).values()) + len(people) - len(crowd)
    asked = [one for rater in crowd for one in rater.seconds]
    every = sorted(second for _, second in asked)
    up = sorted(second for at, second in asked if not any(begun <= at <= end for begun, end in away))
    finished = sum(people[rater.name].status == "finished" and people[rater.name].code == rater.code for rater in crowd)
    return Load(
        *(finished, len(told), lost, doubled, len(asked), sum(rater.failures for rater in crowd)),
        *(_quantile(every, 0.5), _quantile(up, 0.95), _quantile(every, 0.95), len(away)),
    )


def _quantile(ordered: list[float], share: float) -> float:
    return round(ordered[int(share * len(ordered))], 4)


@contextlib.contextmanager
def _database(kind: str) -> Iterator[str]:
    if kind == "postgres":
        with postgres(durable=True) as url:
            yield url
    else:
        yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raters", type=int, default=100)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--pause", type=float, nargs=2, default=(2.0, 5.0))
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    arguments = parser.parse_args()
    with _database(arguments.database) as database, tempfile.TemporaryDirectory() as folder:
        load = measure(
            Path(folder),
            raters=arguments.raters,
            pause=(arguments.pause[0], arguments.pause[1]),
            kills=arguments.kills,
            database=database,
        )
    print(json.dumps({"database": arguments.database, **asdict(load)}, indent=2))


if __name__ == "__main__":
    main()
