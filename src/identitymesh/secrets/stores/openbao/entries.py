"""Entries of a KV engine, version 2: one path for each secret, below a prefix; read, written, listed, deleted.

What is written: ``data`` holds the value, as text where it is text, else as Base64, and who wrote this version;
``custom_metadata`` holds ref and installation of the path. Paths are readable: the segments of the reference.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from hvac.api.secrets_engines import KvV2
from hvac.api.system_backend import SystemBackend

from identitymesh.errors import ProviderDenied, ProviderMisconfigured, ProviderMismatch, ReferenceInvalid, SecretBroken
from identitymesh.redaction import Secret
from identitymesh.secrets.references import SCHEME, parse
from identitymesh.secrets.stores.openbao.session import Gone, Session

KEPT_VERSIONS: Final = 50  # a pinned version, or the old one of a rotation, must outlive many sets
REF: Final = "ref"
INSTALLATION: Final = "installation"
WORKERS: Final = 16

Of = TypeVar("Of")
To = TypeVar("To")


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a path without its value. ``live``: versions that can be read, oldest first."""

    current: int
    live: tuple[int, ...]
    deleted: tuple[int, ...]
    tags: Mapping[str, str]
    max_versions: int


@dataclass(frozen=True, slots=True)
class Content:
    """One version with its value. ``outside``: it was not written by this product; ``pending``: not yet in use."""

    version: int
    value: Secret
    outside: bool
    pending: bool


class Entries:
    """All entries of one installation."""

    def __init__(self, session: Session, installation: Callable[[], str]) -> None:
        self._session = session
        self._kv = KvV2(adapter=session.adapter)
        self._system = SystemBackend(adapter=session.adapter)
        self._ask_installation = installation
        self._own_id = ""
        self._mount = session.place.mount
        self._prefix = session.place.prefix.strip("/")

    def _installation(self) -> str:
        """Its id never changes; to ask for it is a transaction, and every entry is compared with it."""
        self._own_id = self._own_id or self._ask_installation()
        return self._own_id

    def path(self, ref: str) -> str:
        """Where a ref is, below the mount."""
        rest = ref.removeprefix(SCHEME)
        return f"{self._prefix}/{rest}" if self._prefix else rest

    def find(self, ref: str) -> Entry | None:
        """What is at the path of a ref; ``None`` where nothing ever was.

        Raises:
            ProviderMismatch: it is somebody else's.
        """
        entry = self._ask(ref)
        if entry is not None:
            self._check(ref, entry.tags)
        return entry

    def read(self, ref: str, version: int | None) -> Content | None:
        """One version, or the current one; ``None`` where it is not, or is deleted.

        Raises:
            ProviderMismatch: it is somebody else's.
            SecretBroken: what is there is no value.
        """
        try:
            answer = self._kv.read_secret_version(
                path=self.path(ref), version=version, mount_point=self._mount, raise_on_deleted_version=True
            )
        except Gone as nothing:
            found = nothing.document.get("data")
            if isinstance(found, Mapping):
                self._check(ref, (found.get("metadata") or {}).get("custom_metadata") or {})
            return None
        document = answer.json()["data"]
        if "metadata" not in document:
            raise self._version_1()
        metadata = document["metadata"]
        self._check(ref, metadata.get("custom_metadata") or {})
        return self._content(ref, int(metadata["version"]), document["data"])

    def _content(self, ref: str, version: int, data: Mapping[str, Any]) -> Content:
        by = data.get(INSTALLATION)
        if by is not None and by != self._installation():
            raise self._foreign(ref, INSTALLATION)
        return Content(version, _decode(ref, self.path(ref), data), by is None, data.get("state") == "pending")

    def mark(self, ref: str, entry: Entry | None) -> None:
        """Write whose path it is, and that enough versions are kept for a rotation."""
        tags = dict(entry.tags) if entry else {}
        tags |= {REF: ref, INSTALLATION: self._installation()}
        kept = max(KEPT_VERSIONS, entry.max_versions if entry else 0)
        self._kv.update_metadata(path=self.path(ref), custom_metadata=tags, max_versions=kept, mount_point=self._mount)

    def is_marked(self, ref: str, entry: Entry) -> bool:
        return entry.tags.get(REF) == ref and entry.max_versions >= KEPT_VERSIONS

    def write(self, ref: str, value: Secret, cas: int, *, pending: bool) -> int:
        """A new version, if ``cas`` is still the current one.

        Raises:
            Mismatch: it is not.
        """
        data = _encode(value) | {INSTALLATION: self._installation()}
        if pending:
            data["state"] = "pending"
        answer = self._kv.create_or_update_secret(path=self.path(ref), secret=data, cas=cas, mount_point=self._mount)
        if answer.status_code == 204:
            raise self._version_1()
        return int(answer.json()["data"]["version"])

    def _version_1(self) -> ProviderMisconfigured:
        return ProviderMisconfigured(
            f"openbao {self._session.place.address}: the KV engine at mount {self._mount!r} is of version 1",
            hint=f"Name another one in openbao.mount, or upgrade it: bao kv enable-versioning {self._mount}",
        )

    def delete(self, ref: str, versions: Sequence[int]) -> None:
        """Softly: they can be undeleted."""
        self._kv.delete_secret_versions(path=self.path(ref), versions=list(versions), mount_point=self._mount)

    def undelete(self, ref: str, versions: Sequence[int]) -> None:
        self._kv.undelete_secret_versions(path=self.path(ref), versions=list(versions), mount_point=self._mount)

    def destroy(self, ref: str, versions: Sequence[int]) -> None:
        """For good."""
        self._kv.destroy_secret_versions(path=self.path(ref), versions=list(versions), mount_point=self._mount)

    def purge(self, ref: str) -> None:
        """The path with all its versions, for good."""
        self._kv.delete_metadata_and_all_versions(path=self.path(ref), mount_point=self._mount)

    # Many at once

    def all(self) -> Mapping[str, Entry]:
        """Every entry below the prefix whose path is a reference, whoever it belongs to, by ref."""
        found: dict[str, Entry | None] = {}
        folders: list[str] = [""]
        while folders:
            below = self.each(self._folder, folders)
            folders = [f"{start}{name}" for start, names in below.items() for name in names if name.endswith("/")]
            for start, names in below.items():
                paths = {f"{SCHEME}{start}{name}": entry for name, entry in names.items() if not name.endswith("/")}
                found.update((ref, entry) for ref, entry in paths.items() if _is_reference(ref))
        unknown = [ref for ref, entry in found.items() if entry is None]
        found.update(self.each(self._ask, unknown))
        return {ref: entry for ref, entry in found.items() if entry is not None}

    def is_ours(self, ref: str, entry: Entry) -> bool:
        """A path without our tags was made by an operator, for us."""
        tags, ours = entry.tags, self._installation()
        return tags.get(REF, ref) == ref and tags.get(INSTALLATION, ours) == ours

    def _ask(self, ref: str) -> Entry | None:
        try:
            answer = self._kv.read_secret_metadata(path=self.path(ref), mount_point=self._mount)
        except Gone:
            return None
        return _entry(answer.json()["data"])

    def _folder(self, start: str) -> Mapping[str, Entry | None]:
        """Names in a folder, with what is known of each, where the server tells that in the same answer."""
        path = f"{self._prefix}/{start}".strip("/")
        try:
            answer = self._session.adapter.list(f"/v1/{self._mount}/detailed-metadata/{path}")
        except (Gone, ProviderDenied):  # empty; or HashiCorp's, which has no such call; or the policy does not allow it
            return dict.fromkeys(self._names(path))
        data = answer.json()["data"]
        about = data.get("key_info") or {}
        return {name: _entry(about[name]) if about.get(name) else None for name in data["keys"]}

    def _names(self, path: str) -> Sequence[str]:
        try:
            answer = self._kv.list_secrets(path=path, mount_point=self._mount)
        except Gone:
            return []
        names: Sequence[str] = answer.json()["data"]["keys"]
        return names

    def each(self, call: Callable[[Of], To], items: Sequence[Of]) -> dict[Of, To]:
        """The answers for several items, some of them asked for at once."""
        if len(items) < 2:
            return {item: call(item) for item in items}
        with ThreadPoolExecutor(min(WORKERS, len(items))) as pool:
            return dict(zip(items, pool.map(call, items), strict=True))

    def check(self) -> None:
        """Whether the token may do what this program does.

        Raises:
            ProviderDenied: it may not; the message says what.
        """
        below = f"{self._prefix}/identitymesh".strip("/")
        needed = {
            "data": {"create", "read", "update"},
            "metadata": {"read", "update", "list", "delete"},
            "delete": {"update"},
            "undelete": {"update"},
            "destroy": {"update"},
        }
        paths = {call: f"{self._mount}/{call}/{below}" for call in needed}
        answer = self._system.get_capabilities(paths=list(paths.values())).json()["data"]
        for call, path in paths.items():
            given = set(answer.get(path) or ())
            missing = needed[call] - given
            if missing and "root" not in given:
                raise ProviderDenied(
                    f"openbao {self._session.place.address}: the token has no {', '.join(sorted(missing))} on {path}",
                    hint="Give its role the policy that docs/howto/openbao.md shows.",
                )

    # Whose it is

    def _check(self, ref: str, tags: Mapping[str, str]) -> None:
        for tag, ours in ((REF, ref), (INSTALLATION, self._installation())):
            if tags.get(tag, ours) != ours:
                raise self._foreign(ref, tag)

    def _foreign(self, ref: str, tag: str) -> ProviderMismatch:
        return ProviderMismatch(
            f"{ref}: {self._mount}/{self.path(ref)} in openbao belongs to another {tag}",
            hint="Two installations need two prefixes (openbao.prefix). If the entry was moved by hand, move it back.",
        )


def _entry(data: Mapping[str, Any]) -> Entry:
    live: list[int] = []
    deleted: list[int] = []
    for number, about in (data.get("versions") or {}).items():
        if not about.get("destroyed"):
            (deleted if _is_past(about.get("deletion_time")) else live).append(int(number))
    return Entry(
        current=int(data.get("current_version") or 0),
        live=tuple(sorted(live)),
        deleted=tuple(sorted(deleted)),
        tags=data.get("custom_metadata") or {},
        max_versions=int(data.get("max_versions") or 0),
    )


def _is_past(moment: str | None) -> bool:
    """A version that will be deleted some day (``delete_version_after``) has a time of deletion already."""
    if not moment:
        return False
    return datetime.fromisoformat(moment[:19]).replace(tzinfo=UTC) <= datetime.now(UTC)


def _is_reference(text: str) -> bool:
    try:
        parse(text)
    except ReferenceInvalid:
        return False
    return True


def _encode(value: Secret) -> dict[str, str]:
    try:
        return {"value": value.reveal_text()}
    except ValueError:
        return {"base64": base64.b64encode(value.reveal()).decode("ascii")}


def _decode(ref: str, path: str, data: Mapping[str, Any]) -> Secret:
    text, encoded = data.get("value"), data.get("base64")
    if isinstance(text, str) and text and encoded is None:
        return Secret(text)
    if isinstance(encoded, str) and encoded and text is None:
        try:
            return Secret(base64.b64decode(encoded, validate=True))
        except binascii.Error:
            pass
    raise SecretBroken(
        f"{ref}: {path} in openbao holds no value where one is expected: the key `value`, or `base64`",
        hint=f"Write it there: bao kv put MOUNT/{path} value=..., or run `identitymesh secrets set {ref}`.",
    )
