"""Reading text and JSON that others wrote: what it really is, where it is wrong, and never a surprise later."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quipwright.core.errors import DataError

_BREAK = re.compile(r"\r\n|\n|\r")
SURROGATE = re.compile("[\ud800-\udfff]")
_PACKED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"PK\x03\x04": ("zip", "unzip"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ\x00": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
}
_MARKS = {  # the longer marks first: that of UTF-32 begins with that of UTF-16
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def read_bytes(path: Path, what: str) -> bytes:
    """The bytes of ``path``. Raises :class:`DataError` naming ``what`` when it is missing, a folder or unreadable."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{what} {path} does not exist.", "Check the path (relative paths start where you are)."
        ) from None
    except IsADirectoryError:
        raise DataError(f"{what} {path} is a folder, not a file.", "Name a file.") from None
    except PermissionError:
        raise DataError(f"{what} {path} cannot be read.", "Check its permissions.") from None
    except (OSError, ValueError) as error:  # a name too long, a name with NUL
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{what} {str(path)[:100]} cannot be read: {reason}.", "Check the path.") from None


def input_sha256(path: Path, what: str) -> str:
    """SHA-256 of the bytes of ``path``, hex. Raises as :func:`read_bytes`."""
    return hashlib.sha256(read_bytes(path, what)).hexdigest()


def read_text(path: Path, what: str) -> str:
    """The UTF-8 text of ``path`` without a byte order mark.

    Raises :class:`DataError` naming ``what`` when it is missing, a folder, empty, packed, binary or in another
    encoding; the remedy is that of what it really is.
    """
    return decode(read_bytes(path, what), f"{what} {path}")


def decode(raw: bytes, where: str) -> str:
    """``raw`` as UTF-8 text without a byte order mark. Raises :class:`DataError` naming ``where``, as above."""
    for magic, (kind, tool) in _PACKED.items():
        if raw.startswith(magic):
            raise DataError(f"{where} is packed with {kind}.", f"Unpack it first, for example with {tool}.")
    encoding = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), None)
    if encoding is not None:
        raise DataError(f"{where} is {encoding}, not UTF-8.", f"Save it as UTF-8: iconv -f {encoding} -t UTF-8.")
    if (place := raw.find(b"\0")) >= 0:
        raise DataError(
            f"{where} has a NUL byte at byte {place}: it is binary, or UTF-16 without its mark.", "Save it as UTF-8."
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where} is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}.",
            "Save it as UTF-8; if it is Latin-1: iconv -f latin1 -t utf-8.",
        ) from None
    if not text.strip():
        raise DataError(f"{where} is empty.", "Give it content or name another file.")
    return text


def split_lines(text: str) -> list[str]:
    """The lines of ``text``, blank ones included. They end in LF, CR LF or CR and in nothing else."""
    return _BREAK.split(text)


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line that is not blank.

    Lines end in LF, CR LF or CR and in nothing else: U+2028, which may stand in a JSON string, ends no line.
    """
    for number, line in enumerate(split_lines(text), 1):
        if line.strip():
            yield number, line


def parse_json(text: str, where: str) -> Any:
    """The JSON value in ``text``. Raises :class:`DataError` naming ``where`` and what is wrong.

    Refused are, beside what is no JSON: nesting too deep to read, numbers of thousands of digits, ``NaN`` and
    ``Infinity``, a key given twice in one object, and half a surrogate pair (naming the field), which no file could
    hold as text. In a list :func:`check_item` looks for that, item by item.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
        if "\\u" in text and not isinstance(value, list):
            _check_surrogates(value)
    except RecursionError:
        raise DataError(f"{where} is nested too deeply.", "Write plain objects.") from None
    except json.JSONDecodeError as error:
        start = " ".join(text.split())[:40]
        raise DataError(
            f"{where} is not JSON: {error.msg.removesuffix(' at')} at character {error.pos + 1}: {start!r}.", "Mend it."
        ) from None
    except ValueError as error:
        message = "a number has too many digits" if "integer string conversion" in str(error) else str(error)
        raise DataError(f"{where} cannot be used: {message}.", "Mend it.") from None
    return value


def parse_object(text: str, where: str) -> dict[str, Any]:
    """The JSON object in ``text``. Raises :class:`DataError` as :func:`parse_json`, and for any other value."""
    return check_object(parse_json(text, where), where)


def check_object(value: Any, where: str) -> dict[str, Any]:
    """``value`` where it is an object. Raises :class:`DataError` naming ``where`` otherwise."""
    if not isinstance(value, dict):
        raise DataError(f"{where} is {kind_of(value)}, not an object.", "Write one object a row.")
    return value


def check_item(value: Any, where: str) -> dict[str, Any]:
    """As :func:`check_object` for an item of a list, in which half a surrogate pair was not looked for."""
    try:
        _check_surrogates(check_object(value, where))
    except ValueError as error:
        raise DataError(f"{where} cannot be used: {error}.", "Mend it.") from None
    return dict(value)


def json_lines(path: Path, what: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number (from 1) and object of each line of JSONL file ``path``. Raises :class:`DataError` naming the line."""
    for number, line in lines(read_text(path, what)):
        yield number, parse_object(line, f"{path} line {number}")


def kind_of(value: Any) -> str:
    """What ``value`` is, in the words of a message: ``null``, ``a number``, ``a list`` …"""
    if value is None:
        return "null"
    names = ((bool, "true or false"), (str, "text"), (int | float, "a number"), (list, "a list"), (dict, "an object"))
    return next((name for kind, name in names if isinstance(value, kind)), f"a {type(value).__name__}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"field {next(n for n in names if names.count(n) > 1)[:40]!r} stands in it twice")
    return result


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number (write null)")


def _check_surrogates(value: Any) -> None:
    fields = value.items() if isinstance(value, Mapping) else [("", value)]
    for name, held in fields:
        if SURROGATE.search(name) or SURROGATE.search(json.dumps(held, ensure_ascii=False)):
            shown = name.encode("ascii", "backslashreplace").decode()[:40]
            raise ValueError(
                f"field {shown!r} holds half a surrogate pair" if name else "it holds half a surrogate pair"
            )
