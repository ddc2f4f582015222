"""The commands on encrypted columns, each one call. They open the database of the plan themselves.

Every one may be killed anywhere and run again; every one stops before it changes anything if
the key is missing or wrong, or if something of the plan cannot be done.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from identitymesh.columns import encrypting, rewriting
from identitymesh.columns.encrypting import DROPPED, ENCRYPTED, ROTATING, UPGRADING
from identitymesh.columns.formats import Cipher, Format, pooled_random
from identitymesh.columns.hints import after_decrypt, after_drop, after_encrypt, after_rotation, after_upgrade
from identitymesh.columns.keys import ColumnKey, load_key
from identitymesh.columns.opening import Work, compare, open_plan, settle_key
from identitymesh.columns.places import ColumnPlace, State
from identitymesh.columns.plan import Plan
from identitymesh.columns.report import Outcome, PlaceReport, PlaceStatus, Report, unwatched
from identitymesh.columns.session import Structure, Target, save_state
from identitymesh.columns.verifying import verify as verify_place
from identitymesh.errors import ColumnKeyMissing, ColumnKeyWrong, ColumnsUnfinished, ColumnsUnfit


@contextmanager
def _working(plan: Plan, *, checking_drop: bool = False) -> Iterator[tuple[Work, dict[str, Structure]]]:
    """The opened plan, alone in its database, with every place looked at before anything is changed."""
    with open_plan(plan) as work, work.session.alone():
        structures = {}
        for target in work.targets:
            structures[target.place.name] = target.inspect(writing=True)
            if checking_drop:
                target.check_drop()
        yield work, structures


def _cipher(plan: Plan, key: ColumnKey, target: Target) -> Cipher:
    return Cipher(key, *target.place.bound_to, plan.format, random=pooled_random())


def _watch(report: Report, phase: str, target: Target) -> Callable[[int], None]:
    total = target.size()
    return lambda done: report(phase, target.place.name, done, max(total, done))


def encrypt(
    plan: Plan, *, drop_plaintext: bool = False, replace_broken: bool = False, report: Report = unwatched
) -> Outcome:
    """Add columns, encrypt, verify every row; with ``drop_plaintext`` remove the plain values at the end."""
    begun = time.monotonic()
    with _working(plan, checking_drop=drop_plaintext) as (work, structures):
        key = settle_key(work)
        states = work.states()
        for target in work.targets:
            _check_ready(plan, states.get(target.place.name))
        reports, ended = [], []
        for target in work.targets:
            structure, state = structures[target.place.name], states.get(target.place.name)
            found, now = _encrypt_place(plan, target, structure, state, key, replacing=replace_broken, report=report)
            reports.append(found)
            ended.append(_keep(work, now, "encrypt", found))
        if drop_plaintext:
            _drop_all(plan, work, key, ended, reports)
        session = work.session
        hints = after_drop(session.dialect, plan) if drop_plaintext else after_encrypt(reports)
        return Outcome(
            "encrypt", session.describe(), session.dialect, key.id, time.monotonic() - begun, tuple(reports), hints
        )


def _check_ready(plan: Plan, state: State | None) -> None:
    if state is None:
        return
    if state.step in {ROTATING, UPGRADING}:
        command = "rotate-key" if state.step == ROTATING else "upgrade"
        raise ColumnsUnfinished(
            f"{state.place}: `columns {command}` has not ended",
            hint=f"Run `identitymesh columns {command}` again, as it was called before; it goes on where it stopped.",
        )
    if state.form != plan.format.value:
        upgrading = plan.format is Format.SEALED
        raise ColumnsUnfit(
            f"{state.place} is kept in the format {state.form}, and the plan says {plan.format.value}",
            hint="Run `identitymesh columns upgrade`." if upgrading else "Write `format: sealed` into the plan.",
        )


def _encrypt_place(
    plan: Plan,
    target: Target,
    structure: Structure,
    state: State | None,
    key: ColumnKey,
    *,
    replacing: bool,
    report: Report,
) -> tuple[PlaceReport, State]:
    cipher = _cipher(plan, key, target)
    found = PlaceReport(target.place.name, format=plan.format.value, key_id=key.id)
    found.triggers_bypassed = structure.unfired
    if structure.has_plain or state is None:
        ready = state is not None and structure.has_cells and structure.guarded and state.step == encrypting.ENCRYPTING
        now = (
            state
            if ready and state is not None
            else encrypting.prepare(target, structure, state, key, plan.format.value)
        )
        now = encrypting.encrypt(plan, target, cipher, now, report=found, progress=_watch(report, "encrypting", target))
        step = ENCRYPTED if structure.has_plain else DROPPED
    else:
        now, step = state, DROPPED
    verify_place(plan, target, cipher, found, replacing=replacing, progress=_watch(report, "verifying", target))
    done = found.clean
    found.dropped = step == DROPPED
    return found, replace(now, step=step, cursor="") if done else now


def _keep(work: Work, state: State, command: str, found: PlaceReport) -> State:
    """The last report of a place stays with it: who, when, what; that is the only record that is written."""
    last = {
        "command": command,
        "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "by": getpass.getuser(),
        **{name: getattr(found, name) for name in ("written", "verified", "newer", "pending", "broken", "refused")},
    }
    state = replace(state, detail={**state.detail, "last": last})
    found.state = state.step
    with work.session.transaction():
        save_state(work.session, state)
    return state


def _drop_all(plan: Plan, work: Work, key: ColumnKey, states: list[State], reports: list[PlaceReport]) -> None:
    unclean = [found for found in reports if not found.clean]
    if unclean:
        first = unclean[0]
        what = f"{first.broken} values do not open" if first.broken else f"{first.refused} values cannot be encrypted"
        rows = "\n".join(f"  row {finding.row}: {finding.problem}" for finding in first.findings)
        raise ColumnsUnfinished(
            f"{first.place}: {what}; nothing was dropped\n{rows}",
            hint="Mend these rows, or run `encrypt --replace-broken` while their plain values are there.",
        )
    for target, state, found in zip(work.targets, states, reports, strict=True):
        if found.dropped:
            continue
        found.also_dropped = target.check_drop()
        encrypting.drop(work.session, target, _cipher(plan, key, target), state, found)
        found.state = DROPPED


def verify(plan: Plan, *, report: Report = unwatched) -> Outcome:
    """Open every encrypted value, and compare it with its plain one. Changes nothing."""
    begun = time.monotonic()
    with open_plan(plan) as work:
        key = settle_key(work)
        states = work.states()
        reports = []
        for target in work.targets:
            target.inspect(writing=False)
            state = states.get(target.place.name)
            _check_not_rotating(state)
            found = PlaceReport(target.place.name, state.step if state else "", plan.format.value, key.id)
            verify_place(plan, target, _cipher(plan, key, target), found, progress=_watch(report, "verifying", target))
            reports.append(found)
        session = work.session
        seconds = time.monotonic() - begun
        return Outcome("verify", session.describe(), session.dialect, key.id, seconds, tuple(reports))


def _check_not_rotating(state: State | None) -> None:
    if state is not None and state.step == ROTATING:
        raise ColumnsUnfinished(
            f"{state.place}: a rotation from key {state.key_id} to key {state.next_key_id} has not ended",
            hint="Run `identitymesh columns rotate-key` again, as it was called before.",
        )


def status(plan: Plan) -> tuple[str, str, tuple[PlaceStatus, ...]]:
    """Id of the key (empty: none yet), what is wrong with it, and how each place stands. Opens no value."""
    with open_plan(plan) as work:
        states = work.states()
        places = []
        for target in work.targets:
            target.inspect(writing=False)
            state = states.get(target.place.name)
            counts = target.count()
            step = state.step if state else "not begun"
            form = state.form if state else plan.format.value
            last = dict(state.detail.get("last", {})) if state else {}
            places.append(
                PlaceStatus(
                    target.place.name,
                    step,
                    form,
                    state.key_id if state else "",
                    counts.rows,
                    counts.plain,
                    counts.encrypted,
                    counts.sealed,
                    counts.pending,
                    last,
                )
            )
        try:
            return settle_key(work).id, "", tuple(places)
        except ColumnKeyMissing as missing:
            if any(place.encrypted for place in places):
                raise
            return "", missing.message, tuple(places)


def decrypt(plan: Plan, *, drop_encrypted: bool = False, report: Report = unwatched) -> Outcome:
    """Write plain values back, into columns that are made again if need be."""
    begun = time.monotonic()
    with _working(plan) as (work, structures):
        key = settle_key(work)
        states = work.states()
        reports, done = [], []
        for target in work.targets:
            name = target.place.name
            state = _known(states.get(name), target)
            _check_ready(plan.model_copy(update={"format": Format(state.form)}), state)
            found = PlaceReport(name, format=state.form, key_id=key.id)
            if not structures[name].has_plain and isinstance(target.place, ColumnPlace):
                if not state.detail.get("column"):
                    raise ColumnsUnfit(f"{name} was never here", hint="Make the column yourself, then run this again.")
                target.restore_plain(state)
            cipher = _cipher(plan, key, target)
            now = rewriting.decrypt(target, cipher, state, found, _watch(report, "decrypting", target))
            if found.broken:
                now = replace(now, step=state.step)
            done.append((target, cipher, _keep(work, now, "decrypt", found)))
            reports.append(found)
        if drop_encrypted:
            if not all(found.clean for found in reports):
                raise ColumnsUnfinished("values that do not open would be lost; nothing was dropped")
            rewriting.drop(work.session, done)
        session = work.session
        seconds = time.monotonic() - begun
        hints = after_decrypt(drop_encrypted)
        return Outcome("decrypt", session.describe(), session.dialect, key.id, seconds, tuple(reports), hints)


def _known(state: State | None, target: Target) -> State:
    if state is None:
        raise ColumnsUnfit(
            f"{target.place.name} was never encrypted by this program",
            hint="Run `identitymesh columns encrypt` first; it takes over what another program encrypted.",
        )
    return state


def rotate_key(plan: Plan, new_key: Path, *, report: Report = unwatched) -> Outcome:
    """Encrypt everything anew under the key of another file, while applications work."""
    begun = time.monotonic()
    with _working(plan) as (work, _structures):
        new = load_key(new_key)
        old = load_key(plan.key)
        if old.check == new.check:
            raise ColumnKeyWrong(f"{new_key} holds the key that the plan names", hint="Make a new one: init-key.")
        states = {target.place.name: _known(work.states().get(target.place.name), target) for target in work.targets}
        for target in work.targets:
            state = states[target.place.name]
            if state.step != ROTATING and state.key_check != new.check:
                _check_ready(plan.model_copy(update={"format": Format(state.form)}), state)
                compare(old, target, state)
            elif state.step == ROTATING and {state.key_check, state.next_key_check} != {old.check, new.check}:
                raise ColumnKeyWrong(
                    f"{state.place} is on its way from key {state.key_id} to key {state.next_key_id}; these are "
                    f"{old.id} and {new.id}",
                    hint="Name those two key files.",
                )
        reports = []
        for target in work.targets:
            state = states[target.place.name]
            found = PlaceReport(target.place.name, format=state.form, key_id=new.id)
            form = Format(state.form)
            ciphers = (
                Cipher(old, *target.place.bound_to, form),
                Cipher(new, *target.place.bound_to, form, random=pooled_random()),
            )
            if state.step == ROTATING or state.key_check != new.check:
                state = rewriting.rotate(
                    work.session, target, ciphers, state, report=found, progress=_watch(report, "rotating", target)
                )
            _keep(work, state, "rotate-key", found)
            reports.append(found)
        session, seconds = work.session, time.monotonic() - begun
        hints = after_rotation(plan.key, str(new_key), reports)
        return Outcome("rotate-key", session.describe(), session.dialect, new.id, seconds, tuple(reports), hints)


def upgrade(plan: Plan, *, report: Report = unwatched) -> Outcome:
    """Make sealed values of compatible ones, while applications work."""
    begun = time.monotonic()
    plan = plan.model_copy(update={"format": Format.SEALED})
    with _working(plan) as (work, _structures):
        key = settle_key(work)
        states = work.states()
        reports = []
        for target in work.targets:
            state = _known(states.get(target.place.name), target)
            _check_not_rotating(state)
            found = PlaceReport(target.place.name, format=Format.SEALED.value, key_id=key.id)
            cipher = _cipher(plan, key, target)
            state = rewriting.upgrade(
                work.session, target, cipher, state, report=found, progress=_watch(report, "upgrading", target)
            )
            verify_place(plan, target, cipher, found, progress=_watch(report, "verifying", target))
            _keep(work, state, "upgrade", found)
            reports.append(found)
        session, seconds = work.session, time.monotonic() - begun
        return Outcome("upgrade", session.describe(), session.dialect, key.id, seconds, tuple(reports), after_upgrade())
