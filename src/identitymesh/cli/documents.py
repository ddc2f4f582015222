"""Records as JSON documents: what ``--json`` prints."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from identitymesh.cli.text import rfc3339
from identitymesh.errors import DefinitionRefused, MeshError
from identitymesh.redaction import MASKED, Secret


def document(value: Any) -> Any:
    """A record as what :mod:`json` takes: names as in the code, times as RFC 3339, bytes as ``{"$bytes": base64}``."""
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Mapping):
        return {str(name): document(child) for name, child in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [document(child) for child in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: document(getattr(value, field.name)) for field in fields(value)}
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if isinstance(value, Secret):
        return MASKED
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a JSON document")


def error_document(error: MeshError) -> dict[str, Any]:
    """The document of a refused or failed command."""
    body: dict[str, Any] = {
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "retryable": error.retryable,
        "exit_code": int(error.exit_code),
    }
    if isinstance(error, DefinitionRefused):
        body |= {"source": error.source, "problems": document(error.problems)}
    return {"error": body}
