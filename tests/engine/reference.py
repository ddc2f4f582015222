"""The plainest model of two sources, two targets and what people decide: dictionaries, and nothing clever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, str]
Image = dict[str, Any]
Change = tuple[Image | None, Image | None]  # desired, and what is there

TEXT = """
version: 1
connectors:
  hr: {{type: memory, base: hr, objects: {{user: {{}}}}}}
  con: {{type: memory, base: con, objects: {{user: {{}}}}}}
  crm: {{type: memory, base: crm, objects: {{user: {{}}}}}}
  badge: {{type: memory, base: badge, objects: {{user: {{}}}}}}
mesh:
  user:
    anchor: employeeId
    attributes:
      - {{name: employeeId, type: string}}
      - {{name: sn, type: string}}
      - {{name: department, type: string}}
rules:
  join:
    - {{name: hr-by-id, connector: hr, object: user, source: id, target: employeeId, create: true}}
    - {{name: con-by-id, connector: con, object: user, source: id, target: employeeId, create: true}}
  flow:
    - {{name: hr-id, connector: hr, object: user, target: employeeId, value: "[id]", confidence: 90}}
    - {{name: con-id, connector: con, object: user, target: employeeId, value: "[id]", confidence: 80}}
    - {{name: hr-sn, connector: hr, object: user, target: sn, value: "[last]", confidence: 90}}
    - {{name: con-sn, connector: con, object: user, target: sn, value: "[last]", confidence: {con}}}
    - {{name: hr-dept, connector: hr, object: user, target: department, value: "[department]", confidence: 90}}
  project:
    - name: people-in-crm
      connector: crm
      object: user
      create: true
      correlate: externalId
      on_leave: disable
      disable: {{active: "False", note: '"left"'}}
      attributes: {{externalId: "[employeeId]", name: "{name}", active: "True"}}
    - name: badge-holders
      connector: badge
      object: user
      when: '{scope}'
      create: true
      correlate: externalId
      on_leave: {leave}
      on_out_of_scope: keep
      disable: {{note: '"left"'}}
      attributes: {{externalId: "[employeeId]", name: "[sn]"}}
limits:
  default:
    {{create: {{percent: null}}, update: {{percent: null}}, disable: {{count: null, percent: null}},
     delete: {{count: null, percent: null}}}}
"""


@dataclass(frozen=True, slots=True)
class Variant:
    """A definition: each of these can be changed. All of them change rules."""

    upper: bool = False  # names in capitals at the CRM
    contractors_win: bool = False
    everybody: bool = True  # badges for everybody, or for IT alone
    leave: str = "delete"  # what becomes of a badge: delete | disable | keep

    def text(self) -> str:
        return TEXT.format(
            name="ToUpper([sn])" if self.upper else "[sn]",
            con=95 if self.contractors_win else 50,
            scope="IsPresent([employeeId])" if self.everybody else '[department] == "IT"',
            leave=self.leave,
        )

    def gated_by(self, other: Variant) -> set[str]:
        """Targets whose next plan waits after a change from ``self``: flows concern all, projections one."""
        if self.contractors_win != other.contractors_win:
            return {"crm", "badge"}
        found = {"crm"} if self.upper != other.upper else set()
        return found | ({"badge"} if (self.everybody, self.leave) != (other.everybody, other.leave) else set())


@dataclass(slots=True)
class Source:
    """``rows`` as the source has them, ``seen`` as last imported; ``noted``: held absences, run and approval."""

    rows: dict[str, Row] = field(default_factory=dict)
    seen: dict[str, Row] = field(default_factory=dict)
    noted: dict[str, tuple[int, bool]] = field(default_factory=dict)

    def imported(self, run: int, *, full: bool) -> None:
        missing, stored = set(self.seen) - set(self.rows), len(self.seen)
        for key, row in self.rows.items():
            self.seen[key] = row
            self.noted.pop(key, None)
        if not full:
            return
        approved = {key for key in missing if self.noted.get(key, (0, False))[1]}
        fresh = missing - set(self.noted)
        many = len(missing - approved) > 2 and len(missing - approved) * 100 > 10 * stored
        for key in approved | (set() if many else fresh):
            del self.seen[key]
            self.noted.pop(key, None)
        if many:
            self.noted.update(dict.fromkeys(fresh, (run, False)))


@dataclass(slots=True)
class Plan:
    """``targets``: the state that each had, and the changes; ``version`` of the definition."""

    version: int
    states: dict[str, str]
    changes: dict[str, dict[str, Change]]


@dataclass(slots=True)
class Reference:
    """What everything must say."""

    hr: Source = field(default_factory=Source)
    con: Source = field(default_factory=Source)
    variant: Variant = field(default_factory=Variant)
    version: int = 1
    written: dict[str, dict[str, Image]] = field(default_factory=lambda: {"crm": {}, "badge": {}})
    covered: dict[str, dict[str, Change]] = field(default_factory=lambda: {"crm": {}, "badge": {}})
    gates: dict[str, int] = field(default_factory=dict)
    plans: dict[int, Plan] = field(default_factory=dict)
    desired: dict[str, dict[str, Image | None]] = field(default_factory=lambda: {"crm": {}, "badge": {}})

    # -- what should be ------------------------------------------------------------

    def define(self, variant: Variant, *, release: bool) -> None:
        gated = self.variant.gated_by(variant)
        self.variant = variant
        self.version += 1
        if not release:
            self.gates.update(dict.fromkeys(gated, self.version))

    def imported(self, run: int, *, full: bool) -> None:
        for source in (self.hr, self.con):
            source.imported(run, full=full)
        for target in self.desired:
            for key in {*self.hr.seen, *self.con.seen, *self.written[target], *self.desired[target]}:
                self.desired[target][key] = self._image(target, key)

    def _image(self, target: str, key: str) -> Image | None:
        there = self.written[target].get(key)
        hr, con = self.hr.seen.get(key), self.con.seen.get(key)
        if hr is None and con is None:
            choice = "disable" if target == "crm" else self.variant.leave
            if there is None or choice == "delete":
                return None
            gone = {"active": False, "note": "left"} if target == "crm" else {"note": "left"}
            return there | gone if choice == "disable" else there
        first, second = (con, hr) if self.variant.contractors_win else (hr, con)
        name = (first or second or {})["last"]
        if target == "crm":
            return {"externalId": key, "name": name.upper() if self.variant.upper else name, "active": True}
        if not self.variant.everybody and (hr is None or hr["department"] != "IT"):
            return there  # out of scope: kept
        return {"externalId": key, "name": name}

    # -- plans ---------------------------------------------------------------------

    def planned(self, run: int) -> Plan:
        """What differs now, and which targets may have it."""
        changes = {target: self._differences(target) for target in self.desired}
        states = {}
        for target, found in changes.items():
            if not found:
                states[target] = "empty"
                self.gates.pop(target, None)
            else:
                fresh = [key for key, change in found.items() if self.covered[target].get(key) != change]
                states[target] = "held" if fresh and target in self.gates else "ready"
        self.plans[run] = Plan(self.version, states, changes)
        return self.plans[run]

    def _differences(self, target: str) -> dict[str, Change]:
        return {
            key: (image, self.written[target].get(key))
            for key, image in self.desired[target].items()
            if image != self.written[target].get(key)
        }

    def released(self, plan: Plan) -> None:
        """A run lets out what is ready, and of what is held only what somebody covered before."""
        for target, found in plan.changes.items():
            for key, change in found.items():
                if plan.states[target] == "ready" or self.covered[target].get(key) == change:
                    self._write(target, key, change)
            if plan.states[target] == "ready":
                plan.states[target] = "released"

    def _write(self, target: str, key: str, change: Change) -> None:
        if change[0] is None:
            self.written[target].pop(key, None)
        else:
            self.written[target][key] = change[0]
        self.covered[target].pop(key, None)

    def approved(self, run: int) -> None:
        plan = self.plans[run]
        for target in self._decidable(plan):
            now = self._differences(target)
            self.covered[target].update({k: v for k, v in plan.changes[target].items() if now.get(k) == v})
            plan.states[target] = "ready"
            if self.gates.get(target, plan.version + 1) <= plan.version:
                del self.gates[target]
        for source in (self.hr, self.con):
            source.noted = {key: (since, ok or since <= run) for key, (since, ok) in source.noted.items()}

    def let_out(self, run: int) -> None:
        """Naming a plan is approving it; exactly its rows are written, where they are still the same."""
        plan = self.plans[run]
        for target in self._decidable(plan):
            now = self._differences(target)
            for key, change in plan.changes[target].items():
                if now.get(key) == change:
                    self._write(target, key, change)
            plan.states[target] = "released"
            if self.gates.get(target, plan.version + 1) <= plan.version:
                del self.gates[target]

    def dropped(self, run: int) -> None:
        plan = self.plans[run]
        for target in self._decidable(plan):
            now = self._differences(target)
            for key, change in plan.changes[target].items():
                if now.get(key) == change:
                    self.covered[target].pop(key, None)
            plan.states[target] = "dropped"

    @staticmethod
    def _decidable(plan: Plan) -> list[str]:
        return [target for target, state in plan.states.items() if state in ("ready", "held")]
