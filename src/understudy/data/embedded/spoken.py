"""Short commands to a radio station, spoken by espeak-ng when the rows are read; no sound file is in the package.

A sentence comes of a small grammar (`PATTERNS`), its voice, speed and pitch of a draw. Each sentence stands in one row
alone, so nothing of a test row was heard in training. The recordings lie in the cache of the package: they are spoken
once on a machine.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
from pathlib import Path

from understudy.data.recordings import of_file
from understudy.errors import ConfigError
from understudy.files import atomic, cache_folder, fingerprint
from understudy.types import Example, Splits

PROGRAM = "espeak-ng"
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PATTERNS = (
    "set the gain of cell {number} to {sign} {number} decibels",
    "turn sector {number} {number} degrees {side}",
    "move carrier {number} to channel {number} {number}",
    "{change} the power of cell {number} by {number} watts",
    "report the {quantity} of link {number}",
    "switch {state} carrier {number} of sector {number}",
    "{change} the {quantity} of sector {number} by {number} percent",
)
"""The sentences that there are; each blank is filled from `WORDS`."""
WORDS = {
    "number": NUMBERS,
    "sign": ("plus", "minus"),
    "side": ("up", "down", "left", "right"),
    "change": ("raise", "lower"),
    "quantity": ("noise", "delay", "load", "loss"),
    "state": ("on", "off"),
}
VOICES = ("en-us", "en-gb", "en-us+m3", "en-us+f2", "en-gb-x-rp+f1", "en-gb-scotland")
SPEEDS = (140, 190)
"""Words a minute, the slowest and the fastest."""
PITCHES = (35, 65)
"""Of espeak-ng's scale from 0 to 99."""
TRAIN, DEV, TEST = 1800, 100, 300
"""Rows of each split."""


def generate(gold_share: float = 1.0, seed: int = 0, *, limit: int | None = None) -> Splits:
    """Recordings of sentences with their words; the same arguments give the same rows in the same order.

    `meta` of a row: `kind` (the first word), `voice`, `speed`, `pitch`.

    Args:
        gold_share: share of the training rows that keep their words.
        seed: of sentences and voices.
        limit: most rows of a role that are spoken.

    Raises:
        ConfigError: espeak-ng is not installed or cannot speak, or `gold_share` is not between 0 and 1.
    """
    if not 0 < gold_share <= 1:
        raise ConfigError(f"gold_share is {gold_share}; it is a share between 0 and 1")
    texts = sentences(TRAIN + DEV + TEST, seed)
    folder = cache_folder("spoken")
    num_gold = max(1, round(gold_share * TRAIN))
    ends = (TEST, TEST + DEV, TEST + DEV + num_gold, len(texts))
    roles = [range(start, end)[:limit] for start, end in zip((0, *ends[:-1]), ends, strict=True)]
    test, dev, train, rest = (tuple(_row(number, texts[number], folder, seed) for number in role) for role in roles)
    unlabelled = tuple(Example(row.id, "", (), meta=row.meta, audio=row.audio) for row in rest)
    spoken = sum(map(len, roles))
    return Splits(train, unlabelled, dev, test, {"rows": spoken, "spoken_by": version()})


def sentences(number: int, seed: int) -> list[str]:
    """So many different sentences of the grammar."""
    draw = random.Random(f"spoken:{seed}")
    texts: dict[str, None] = {}
    while len(texts) < number:
        words = [
            draw.choice(WORDS[word[1:-1]]) if word.startswith("{") else word for word in draw.choice(PATTERNS).split()
        ]
        texts[" ".join(words)] = None
    return list(texts)


def vocabulary() -> list[str]:
    """Every word of the grammar, in order."""
    fixed = (word for pattern in PATTERNS for word in pattern.split() if not word.startswith("{"))
    return sorted({*fixed, *(word for words in WORDS.values() for word in words)})


def version() -> str:
    """What espeak-ng says of itself.

    Raises:
        ConfigError: it is not installed.
    """
    return _called("--version").split(" Data at", 1)[0].strip()


def speak(text: str, path: Path, *, voice: str = VOICES[0], speed: int = 165, pitch: int = 50) -> None:
    """Write a WAV file of a text, whole or not at all.

    Args:
        text: what is said.
        path: the file.
        voice: of espeak-ng, with its variant behind a plus.
        speed: words a minute.
        pitch: 0 to 99.

    Raises:
        ConfigError: espeak-ng is not installed or cannot speak.
    """
    # Into a file, not a pipe: the header says how long it is, which is known at the end.
    with tempfile.TemporaryDirectory() as folder:
        spoken = Path(folder) / "spoken.wav"
        _called("-v", voice, "-s", str(speed), "-p", str(pitch), "-w", str(spoken), "--", text)
        content = spoken.read_bytes()
    with atomic(path, "wb") as file:
        file.write(content)


def _row(number: int, text: str, folder: Path, seed: int) -> Example:
    draw = random.Random(f"voice:{seed}:{number}")
    how = {"voice": draw.choice(VOICES), "speed": draw.randint(*SPEEDS), "pitch": draw.randint(*PITCHES)}
    path = folder / f"{fingerprint([text, how])}.wav"
    if not path.is_file():
        speak(text, path, **how)
    return Example(f"spoken-{number}", "", (text,), meta={"kind": text.split()[0], **how}, audio=of_file(path))


def _called(*arguments: str) -> str:
    program = shutil.which(PROGRAM)
    if program is None:
        raise ConfigError(
            f"embedded:spoken is spoken by {PROGRAM}, which is not installed",
            hint=f"install it (Debian: apt install {PROGRAM}), or bring recordings of your own: understudy docs speech",
        )
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        line = (done.stderr.strip() or f"status {done.returncode}").splitlines()[0]
        raise ConfigError(f"{PROGRAM} cannot speak: {line}")
    return done.stdout
