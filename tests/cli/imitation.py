"""An installation that answers with records made by hand: the command line is tested, not what is behind it."""
# ruff: noqa: ARG002 - an imitation takes what the real one takes

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from identitymesh.connectors.contract import TestReport
from identitymesh.definition.reading import ConnectorDefinition
from identitymesh.errors import NotFound, SecretMissing
from identitymesh.model.accounts import Difference
from identitymesh.redaction import Secret
from identitymesh.runs.reports import (
    ApplyReport,
    Decision,
    ExplainedAccount,
    ExplainedObject,
    ExplainedValue,
    Explanation,
    ImportReport,
    LooseObject,
    Offer,
    Progress,
    RowView,
    RunReport,
    Step,
    TargetReport,
    Unmatched,
    UnmatchedAccount,
    Walk,
)
from identitymesh.runs.review_desk import Candidate, Choice, Review
from identitymesh.secrets.inventory import VerifyResult
from identitymesh.secrets.ledger import Destination
from identitymesh.secrets.properties import SecretProperties
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.setup import InitResult
from tests.cli.custody_imitation import FakeBackups, FakeBundles, FakeMigrations, FakeRotation
from tests.cli.key_imitation import FakeKeys
from tests.cli.running_imitation import FakeRunning

START = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
RECOVERY_KEY = "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ"


def run_report(
    run_id: int = 7, *, command: str = "plan", state: str = "done", targets: Sequence[TargetReport] | None = None
) -> RunReport:
    """A first plan: a thousand people from HR, a thousand accounts to make."""
    return RunReport(
        run_id=run_id,
        command=command,
        mode="full",
        state=state,  # type: ignore[arg-type]  # tests give one of the states
        actor="ada@host",
        definition_version=2,
        started_at=START,
        ended_at=START + timedelta(seconds=1.25),
        imports=(
            ImportReport("hr", "user", "full", read=1000, added=1000, complete=True),
            ImportReport("crm", "user", "full", complete=True),
        ),
        people={"created": 1000, "changed": 0, "left": 0},
        targets=(TargetReport("crm", "ready", {"create": 1000}),) if targets is None else targets,
    )


def held_report(run_id: int = 8) -> RunReport:
    target = TargetReport("crm", "held", {"delete": 25}, reasons=["25 deletes are more than 20"])
    return run_report(run_id, state="held", targets=[target])


def rows(number: int = 3) -> list[RowView]:
    return [
        RowView(
            "crm",
            "user",
            index,
            f"{100_000 + index}",
            "create",
            [Difference("userName", None, f"ada{index}@example.org"), Difference("active", None, after=True)],
        )
        for index in range(1, number + 1)
    ]


def review(number: int = 3) -> Review:
    people = [Candidate(5, "100005", present=True, values={"mail": "ada@example.org"})]
    return Review(number, "crm", "user", "id-7", "crm-by-mail", START, {"mail": "ada@example.org"}, people)


@dataclass
class FakeEngine:
    """What the command line asked for is in ``calls``; what it answers can be set."""

    report: RunReport = field(default_factory=run_report)
    plan_rows: Sequence[RowView] = field(default_factory=rows)
    apply_report: ApplyReport = field(
        default_factory=lambda: ApplyReport(
            version=1, unchanged=False, changes=(), waiting={}, audience=(), missing_secrets=(), warnings=()
        )
    )
    history: Sequence[RunReport] = ()
    in_force: tuple[int, str] | None = None
    decision: Decision | None = None
    nobodys: Unmatched = field(
        default_factory=lambda: Unmatched(30, [UnmatchedAccount("crm", "user", "id-9", "x9", "no rule finds anybody")])
    )
    waiting: Sequence[Review] = field(default_factory=lambda: [review()])
    failure: BaseException | None = None
    calls: list[tuple[str, object]] = field(default_factory=list)
    before_plan: Callable[[], None] = lambda: None

    def _called(self, name: str, arguments: object) -> None:
        self.calls.append((name, arguments))
        if self.failure is not None:
            raise self.failure

    def apply(
        self,
        text: str,
        *,
        source: str,
        base: int | None,
        replace: bool,
        release: bool,
        allow_audience: Collection[str],
    ) -> ApplyReport:
        given = {"text": text, "source": source, "base": base, "replace": replace}
        self._called("apply", given | {"release": release, "allow_audience": list(allow_audience)})
        return self.apply_report

    def preview(self, text: str, *, source: str, progress: Progress) -> tuple[RunReport, Sequence[RowView]]:
        self._called("preview", {"text": text, "source": source})
        return self.report, self.plan_rows

    def plan(
        self, *, delta: bool, connectors: Sequence[str], progress: Progress, accept_clock: bool = False
    ) -> RunReport:
        progress("read", "hr", 500, 1000)
        self.before_plan()
        asked = {"delta": delta, "connectors": list(connectors)}
        self._called("plan", asked | ({"accept_clock": True} if accept_clock else {}))
        return self.report

    def run(
        self, *, delta: bool, connectors: Sequence[str], progress: Progress, accept_clock: bool = False
    ) -> RunReport:
        asked = {"delta": delta, "connectors": list(connectors)}
        self._called("run", asked | ({"accept_clock": True} if accept_clock else {}))
        return self.report

    def release(self, plan: int, *, progress: Progress) -> RunReport:
        self._called("release", plan)
        return self.report

    def rows(self, run_id: int, *, limit: int, person: str | None) -> Sequence[RowView]:
        self._called("rows", {"run_id": run_id, "limit": limit, "person": person})
        return [row for row in self.plan_rows if person is None or row.anchor == person][:limit]

    def runs(self, limit: int, *, state: str | None = None, connector: str | None = None) -> Sequence[RunReport]:
        self._called("runs", {"limit": limit, "state": state, "connector": connector})
        return self.history[:limit]

    def show(self, run_id: int) -> RunReport:
        self._called("show", run_id)
        if run_id != self.report.run_id:
            raise NotFound(f"there is no run {run_id}", hint="See them: identitymesh runs list")
        return self.report

    def approve(self, run_id: int, *, connectors: Sequence[str]) -> Decision:
        self._called("approve", {"run_id": run_id, "connectors": list(connectors)})
        return self.decision or Decision(run_id, connectors or ["crm"], rows=25, superseded=2)

    def drop(self, run_id: int, *, connectors: Sequence[str]) -> Decision:
        self._called("drop", {"run_id": run_id, "connectors": list(connectors)})
        return Decision(run_id, connectors or ["crm"], rows=25, superseded=0)

    def explain(self, subject: str) -> Explanation:
        self._called("explain", subject)
        return explanation(subject)

    def walk(self, run_id: int, person: str) -> Walk:
        self._called("walk", (run_id, person))
        step = Step("crm", "user", "hold", "25 deletes are more than 20")
        return Walk(person, explanation(person), [LooseObject("hr", "user", "x", "unjoined", None)], [step])

    def unmatched(self, *, connectors: Sequence[str], limit: int) -> Unmatched:
        self._called("unmatched", {"connectors": list(connectors), "limit": limit})
        return self.nobodys

    def reviews(self, *, decided: bool) -> Sequence[Review]:
        self._called("reviews", {"decided": decided})
        return self.waiting

    def review(self, number: int) -> Review:
        self._called("review", number)
        return review(number)

    def decide(self, number: int, choice: Choice, *, person: str | None = None) -> Review:
        self._called("decide", (number, choice, person))
        return replace(review(number), choice=choice, person=person, decided_by="ada", decided_at=START)

    def undo_review(self, number: int) -> Review:
        self._called("undo_review", number)
        return review(number)

    def definition(self) -> tuple[int, str] | None:
        return self.in_force

    def connectors(self) -> Sequence[ConnectorDefinition]:
        return ()

    def test_connector(self, name: str) -> TestReport:
        self._called("test_connector", name)
        return TestReport(f"reached {name}", {"objects": "1,000"})


def explanation(anchor: str) -> Explanation:
    name = ExplainedValue(
        "mail",
        "ada@example.org",
        "2026-02-01T00:00:00Z",
        [
            Offer("ada@example.org", "dir-mail", "directory", "u1", 80, won=True),
            Offer("ada.old@example.org", "hr-mail", "hr", "100001", 60, won=False),
        ],
    )
    band = ExplainedValue(
        "salaryBand", "C4", None, [Offer("C4", "hr-band", "hr", "100001", 90, won=True)], restricted=True
    )
    return Explanation(
        identity_id=1,
        type="user",
        anchor=anchor,
        present=True,
        left_at=None,
        frozen=False,
        objects=[ExplainedObject("hr", "user", "100001", "hr-by-id")],
        values=[name, band],
        accounts=[ExplainedAccount("crm", "user", "people-in-crm", "2819c223", "as it should be", ())],
    )


@dataclass
class FakeSecrets:
    stored: dict[str, bytes] = field(default_factory=dict)
    about: dict[str, object] = field(default_factory=dict)
    broken: str = ""

    def put(
        self,
        ref: SecretReference,
        value: Secret,
        *,
        actor: str,
        keyring: str | None = None,
        owner: str | None = None,
        description: str | None = None,
        cadence_days: int | None = None,
    ) -> str:
        self.stored[ref.text] = value.reveal()
        self.about = {"keyring": keyring, "owner": owner, "description": description, "cadence_days": cadence_days}
        return "4f2a"

    def reveal(self, ref: SecretReference, *, actor: str) -> Secret:
        if ref.text not in self.stored:
            raise SecretMissing(f"{ref.text} is not stored", hint="Store it.")
        return Secret(self.stored[ref.text])

    def exists(self, ref: SecretReference) -> bool:
        return ref.text in self.stored

    def list(self) -> Sequence[SecretProperties]:
        place = Destination("hr", "db.example.org:5432")
        return [
            SecretProperties(
                ref=ref,
                keyring="connectors",
                owner=None,
                description=None,
                cadence_days=None,
                audience=(place,),
                current_version="4f2a",
                pending_version=None,
                created=START,
                changed=START,
                last_used=None,
                last_used_version=None,
                last_used_by=None,
            )
            for ref in self.stored
        ]

    def delete(self, ref: SecretReference, *, actor: str, purge: bool = False) -> None:
        del self.stored[ref.text]

    def follow(self, ref: SecretReference, *, pinned: bool, actor: str) -> None:
        self.about["follow"] = "pinned" if pinned else "current"

    def verify(self, *, actor: str) -> Sequence[VerifyResult]:
        results = [VerifyResult(ref, "connectors", 1) for ref in self.stored]
        return [*results, VerifyResult(self.broken, "connectors", 0, ("does not open",))] if self.broken else results


@dataclass
class FakeInstallation:
    secrets: FakeSecrets = field(default_factory=FakeSecrets)
    engine: FakeEngine = field(default_factory=FakeEngine)
    keys: FakeKeys = field(default_factory=FakeKeys)
    rotation: FakeRotation = field(default_factory=FakeRotation)
    bundles: FakeBundles = field(default_factory=FakeBundles)
    backups: FakeBackups = field(default_factory=FakeBackups)
    running: FakeRunning = field(default_factory=FakeRunning)
    migrations: FakeMigrations = field(default_factory=FakeMigrations)
    actor: str = "ada@host"
    findings: Sequence[str] = ()
    allow_value_argument: bool = True
    opened: list[Path | None] = field(default_factory=list)

    @contextmanager
    def open(self, home: Path | None, /) -> Iterator["FakeInstallation"]:
        self.opened.append(home)
        yield self

    def initialise(
        self, home: Path | None, database_url: str | None, announce: Callable[[InitResult], None], /
    ) -> InitResult:
        folder = home or Path("/installation")
        result = InitResult(
            installation="6f0c4d8e",
            recovery_key=Secret(RECOVERY_KEY),
            recovery_recipient="age1qqq",
            fingerprint="abcd-efgh-jkmn-pqrs-tvwx",
            keyrings=("connectors", "application"),
            host=folder / "host",
        )
        announce(result)
        return result
