"""What `secrets list` prints; and how `identitymesh secrets list` answers before Typer would be imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from identitymesh.cli.main import INTERRUPTED
from identitymesh.cli.output import Output
from identitymesh.cli.streams import print_everything_printable, reader_is_gone
from identitymesh.cli.text import local_time

if TYPE_CHECKING:
    from identitymesh.secrets.properties import SecretProperties


def show(out: Output, found: Sequence[SecretProperties]) -> None:
    """A line for each secret, or one JSON document."""
    if out.json:
        out.document({"secrets": found})
        return
    if not found:
        out.line("no secrets yet; store one: identitymesh secrets set secret://hr/reader")
        return
    titles = ["reference", "keyring", "may be sent to", "changed", "expires", "last used", "owner"]
    out.table(titles, [_listed(one) for one in found])
    for one in found:
        if one.problem:
            out.line(f"problem: {one.problem}", style="red")


def _listed(one: SecretProperties) -> list[str]:
    audience = ", ".join(str(place) for place in one.audience) or "nobody yet"
    used = f"{local_time(one.last_used)} by {one.last_used_by}" if one.last_used else "never"
    expires = local_time(one.expires) if one.expires else "-"
    return [one.ref, one.keyring, audience, local_time(one.changed), expires, used, one.owner or "-"]


def answer_with(look: Callable[[], Sequence[SecretProperties] | None], *, as_json: bool) -> int | None:
    """Carry the command out, and answer its exit code. ``None``: nothing was done, the ordinary way has to do it."""
    print_everything_printable()
    out = Output(as_json=as_json)
    try:
        found = look()
        if found is None:
            return None
        show(out, found)
        out.finish()
    except BrokenPipeError:
        return reader_is_gone()
    except KeyboardInterrupt:
        out.stopped("stopped", INTERRUPTED)
        return INTERRUPTED
    return 0
