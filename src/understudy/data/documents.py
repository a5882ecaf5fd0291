"""Raw text for continued pretraining: a file or a folder of documents; no questions, no answers."""

from __future__ import annotations

from pathlib import Path

from understudy.errors import DataError
from understudy.files import fingerprint, fingerprint_file, read_jsonl, read_text

SUFFIXES = (".txt", ".md", ".jsonl")


def read_documents(source: str, text_field: str = "text") -> list[str]:
    """The documents of a file or of all files under a folder, in the order of their paths; empty ones are left out.

    Args:
        source: a .txt or .md file (one document), a .jsonl file (one document a line), or a folder of such files.
        text_field: the field that holds the text of a line; a line may also be a text itself.

    Raises:
        DataError: nothing is there, a line has no such field, or its value is no text.
    """
    documents: list[str] = []
    for path in document_files(source):
        if path.suffix.lower() == ".jsonl":
            documents += [_text(row, f"{path}: document {number}", text_field) for number, row in _rows(path)]
        else:
            documents.append(read_text(path))
    documents = [text for text in documents if text.strip()]
    if not documents:
        raise DataError(f"{source} holds no documents", hint=f"it takes files of the kinds {', '.join(SUFFIXES)}")
    return documents


def document_files(source: str) -> list[Path]:
    """The files of a source.

    Raises:
        DataError: neither a file nor a folder stands there.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return [file for file in sorted(path.rglob("*")) if file.is_file() and file.suffix.lower() in SUFFIXES]
    if not path.is_file():
        raise DataError(f"no such file or folder: {source}", hint="check pretrain.source")
    return [path]


def fingerprint_documents(source: str) -> str:
    """Path and content of every file of a source as one fingerprint."""
    root = Path(source).expanduser()
    return fingerprint([[str(path.relative_to(root)), fingerprint_file(path)] for path in document_files(source)])


def _rows(path: Path) -> list[tuple[int, object]]:
    return list(enumerate(read_jsonl(path), start=1))


def _text(row: object, where: str, text_field: str) -> str:
    value = row.get(text_field) if isinstance(row, dict) else row
    if not isinstance(value, str):
        raise DataError(f"{where} has no text in {text_field!r}", hint="name the field with pretrain.text_field")
    return value
