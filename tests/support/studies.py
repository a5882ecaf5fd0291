"""Studies of made-up explanations, the real server that shows them, and a PostgreSQL of one's own."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from understudy.study.folder import Study, create_study
from understudy.study.sources import read_methods
from understudy.study.store import Store

METHODS = ("CF", "MT", "MT+CF", "MT+CF revised")
HOSTILE = "<script>document.title='owned'</script><b>& \"quoted\"</b>"


def write_texts(path: Path, items: int = 40, *, hostile: bool = False, methods: tuple[str, ...] = METHODS) -> Path:
    """Explanations of several methods, as another tool would hand them over."""
    rng = random.Random(5)
    choices = ["pond", "sea", "river"]
    with path.open("w", encoding="utf-8") as handle:
        for number in range(items):
            for method in methods:
                answer = rng.choice(choices)
                text = f"It is the {answer}: " + "still, fresh water suits the fish. " * rng.randint(1, 4)
                row = {"id": f"q{number:03d}", "method": method, "question": f"Where does fish number {number} live?"}
                row |= {"choices": choices, "gold": ["pond"], "answer": answer}
                row["text"] = HOSTILE + text if hostile else text
                handle.write(json.dumps(row) + "\n")
    return path


def make_study(folder: Path, *, texts: int = 40, hostile: bool = False, **settings: Any) -> Study:
    """A study in `folder/study`; settings as in `StudyConfig`."""
    source = write_texts(folder / "texts.jsonl", texts, hostile=hostile)
    chosen = {"items": min(texts, 20), "raters": 6, "per_rater": 4, **settings}
    return create_study(folder / "study", read_methods([str(source)]), chosen)


@dataclass
class Answer:
    """What the server said to one request."""

    status: int
    headers: dict[str, str]
    text: str

    def seal(self) -> str:
        """The token of the form on the page."""
        return self.text.split('name="seal" value="')[1].split('"')[0]


@dataclass
class Client:
    """A browser without eyes: one request at a time, cookies kept, redirects told and not followed."""

    url: str
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **headers: str) -> Answer:
        """Read a page."""
        return self._ask("GET", path, None, headers)

    def post(self, path: str, form: dict[str, str] | bytes, **headers: str) -> Answer:
        """Send a form."""
        body = form if isinstance(form, bytes) else urlencode(form).encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.url}
        return self._ask("POST", path, body, {**kind, **{name.replace("_", "-"): v for name, v in headers.items()}})

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        sent = {name: value for name, value in {**cookie, **headers}.items() if value}
        connection.request(method, path.removeprefix(self.url), body, sent)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        for value in answer.headers.get_all("set-cookie") or ():
            name, _, rest = value.partition("=")
            self.cookies[name] = rest.split(";")[0]
        return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, text)


ADMIN_TOKEN = "a-token-of-the-admin-page"


@contextmanager
def in_thread(store: Store) -> Iterator[str]:
    """The same application on a real port, in a thread of this process; gives its address."""
    import uvicorn

    from understudy.study.web.app import study_app
    from understudy.web.listening import hosts_of, listen, settings

    app = study_app(store, ADMIN_TOKEN, hosts=hosts_of("127.0.0.1", ""))
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(settings(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


class StudyServer:
    """`understudy study serve` in a process of its own, which may be killed and started again on the same port.

    Args:
        folder: of the study.
        database: as `--database`.
    """

    def __init__(self, folder: Path, database: str = "") -> None:
        self.folder, self._database = folder, database
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None

    @property
    def admin_token(self) -> str:
        """Of the admin page."""
        return (self.folder / "admin-token").read_text(encoding="utf-8").strip()

    def start(self, *options: str) -> StudyServer:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "understudy", "study", "serve", str(self.folder), "--port", str(self.port)]
        log = open(self.folder / "serve.log", "a")  # noqa: SIM115
        environment = {**os.environ} | ({"UNDERSTUDY_STUDY_DATABASE": self._database} if self._database else {})
        with log:
            self.process = subprocess.Popen([*command, *options], stdout=log, stderr=log, env=environment)
        end = time.monotonic() + 60
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "serve.log").read_text()
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.05)
        return self

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            with urllib.request.urlopen(f"{self.url}/favicon.ico", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """As a machine that loses its power does to it."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


@contextmanager
def serving(folder: Path, *options: str, database: str = "") -> Iterator[StudyServer]:
    """A server that ends with the block."""
    server = StudyServer(folder, database)
    try:
        yield server.start(*options)
    finally:
        server.stop()


def postgres_programs() -> Path | None:
    """Where `initdb` and `postgres` are; None where they are not installed."""
    found = shutil.which("initdb") or next(iter(sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")))), "")
    return Path(found).resolve().parent if found else None


@contextmanager
def postgres(*, durable: bool = False) -> Iterator[str]:
    """A PostgreSQL server of an unprivileged user, reached by a socket alone; gives the URL of an empty database.

    Args:
        durable: whether a commit waits for the disk, as it does outside of tests.
    """
    programs = postgres_programs()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="understudy-postgres-"))
    user = "nobody" if os.getuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)
    own: dict[str, Any] = {"user": user, "cwd": "/"}
    subprocess.run(
        [programs / "initdb", "-D", folder / "data", "-U", "study", "-A", "trust", "--no-sync", "-E", "UTF8"],
        check=True,
        capture_output=True,
        **own,
    )
    command = [programs / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses="]
    command += [] if durable else ["-c", "fsync=off"]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, **own)
    try:
        ready = [programs / "pg_isready", "-h", folder, "-U", "study", "-d", "postgres", "-q"]
        end = time.monotonic() + 30
        while subprocess.run(ready, check=False).returncode:
            assert time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.1)
        yield f"postgresql://study@/postgres?host={folder}"
    finally:
        process.send_signal(signal.SIGQUIT)  # at once: nobody wants the data
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
