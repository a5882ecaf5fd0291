"""The one data file inside a zip, encrypted or not."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from understudy.distribution import install_command
from understudy.errors import DataError, listed

MAX_BYTES = 1_000_000_000
"""Most that a data file in a zip may unpack to; it goes into memory at once."""

_ENCRYPTED = 0x1
_AES = 99


def read_zip(path: Path, suffixes: frozenset[str], password_env: str = "") -> tuple[str, bytes]:
    """Name and bytes of the data file in a zip.

    Args:
        path: the archive.
        suffixes: what a data file's name ends in; other members are passed over.
        password_env: the environment variable that holds the password.

    Raises:
        DataError: no archive, not exactly one data file in it, one that unpacks to more than `MAX_BYTES`, no or a
            wrong password, or AES encryption without the extra `understudy-distil[zip]`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            member = _data_member(path, archive, suffixes)
            if not member.flag_bits & _ENCRYPTED:
                return member.filename, archive.read(member)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(f"{path} is not a readable zip: {error}") from error
    return member.filename, _decrypt(path, member, _password(path, password_env))


def _data_member(path: Path, archive: zipfile.ZipFile, suffixes: frozenset[str]) -> zipfile.ZipInfo:
    members = [
        member
        for member in archive.infolist()
        if PurePosixPath(member.filename).suffix.lower() in suffixes
        and not PurePosixPath(member.filename).name.startswith((".", "README", "readme", "LICENSE"))
        and "__MACOSX" not in member.filename
    ]
    if len(members) != 1:
        names = listed((member.filename for member in members), most=10)
        raise DataError(
            f"{path} must hold exactly one data file; it holds {names}",
            hint="unpack it and name one file as data.source",
        )
    if members[0].file_size > MAX_BYTES:
        raise DataError(
            f"{path}: {members[0].filename} unpacks to {members[0].file_size:,} bytes; {MAX_BYTES:,} are the most",
            hint="unpack it, take the rows you need, and name that file as data.source",
        )
    return members[0]


def _password(path: Path, password_env: str) -> bytes:
    if not password_env:
        raise DataError(
            f"{path} is encrypted and needs a password",
            hint="put the password into an environment variable and name that variable in data.password_env",
        )
    password = os.environ.get(password_env, "")
    if not password:
        raise DataError(
            f"{path} is encrypted, and the environment variable {password_env} is empty or not set",
            hint=f"run `export {password_env}=…` with the password first",
        )
    return password.encode()


def _decrypt(path: Path, member: zipfile.ZipInfo, password: bytes) -> bytes:
    opener: Any = zipfile.ZipFile
    if member.compress_type == _AES:
        try:
            import pyzipper
        except ImportError as error:
            raise DataError(
                f"{path} is AES-encrypted, which needs one more package",
                hint=install_command("zip"),
            ) from error
        opener = pyzipper.AESZipFile
    try:
        with opener(path) as archive:
            return archive.read(member.filename, pwd=password)
    except RuntimeError as error:
        raise DataError(
            f"the password does not open {path}", hint="check the variable named in data.password_env"
        ) from error
    except (zipfile.BadZipFile, zlib.error, ValueError) as error:
        # The classic zip cipher checks one byte of the password: one wrong password in 256 shows itself only here.
        raise DataError(
            f"{path} cannot be decrypted: {error}", hint="the password is wrong or the archive is damaged"
        ) from error
