"""The shape of a definition file, as pydantic models. Unknown names are errors; inputs are never echoed.

Connectors are checked against the settings model of their kind, which the caller
hands in (see :func:`identitymesh.definition.reading.read`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from identitymesh.definition.schedules import check_zone

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
AttributeName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Expression = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=10_000)]
Leaving = Literal["keep", "disable", "delete"]


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class MeshAttributeShape(Shape):
    name: AttributeName
    type: Literal["string", "integer", "decimal", "boolean", "datetime", "binary"]
    many: bool = Field(False, description="Several values; the default is one.")
    sensitivity: Literal["public", "internal", "confidential", "restricted"] = "internal"


class MeshTypeShape(Shape):
    anchor: AttributeName = Field(description="The attribute that names a person for ever, such as employeeId.")
    attributes: list[MeshAttributeShape] = Field(min_length=1)


class RuleShape(Shape):
    name: Name
    renamed_from: Name | None = Field(None, description="Former name of this rule; links and history follow.")
    connector: Name
    object: Name


class JoinShape(RuleShape):
    source: AttributeName = Field(description="Attribute of the object.")
    target: AttributeName = Field(description="Attribute of the mesh.")
    create: bool = Field(
        False, description="Nobody found: a new identity. An identity leaves when no such source holds it."
    )
    present_when: Expression | None = Field(None, description="Only objects for which this is true hold the person.")

    @model_validator(mode="after")
    def _present_needs_create(self) -> JoinShape:
        if self.present_when is not None and not self.create:
            raise ValueError("present_when belongs to a rule with create: true")
        return self


class FlowShape(RuleShape):
    target: AttributeName
    value: Expression
    confidence: int = Field(ge=0, le=100, description="The highest wins; ties go by connector order, then by name.")


class ProjectShape(RuleShape):
    when: Expression | None = Field(None, description="Scope: people for whom this is true.")
    create: bool = False
    correlate: AttributeName | None = Field(
        None, description="How an account of ours is found again; required with create."
    )
    on_leave: Leaving = "keep"
    on_out_of_scope: Leaving = "keep"
    disable: dict[AttributeName, Expression] = Field(default_factory=dict)
    attributes: dict[AttributeName, Expression] = Field(min_length=1)
    on_create: dict[AttributeName, Expression] = Field(
        default_factory=dict, description="Written once, when the account is created; never read, never compared."
    )

    @model_validator(mode="after")
    def _consistent(self) -> ProjectShape:
        if self.create and self.correlate is None:
            raise ValueError(
                "create: true needs correlate, or an account whose answer was lost could not be found again"
            )
        if self.correlate is not None and self.correlate not in self.attributes:
            raise ValueError("correlate must be one of the attributes")
        if self.on_create and not self.create:
            raise ValueError("on_create belongs to a rule with create: true")
        if twice := sorted(set(self.on_create) & (set(self.attributes) | set(self.disable))):
            raise ValueError(f"{twice[0]} stands in on_create, so it cannot be kept in step as well")
        if "disable" in (self.on_leave, self.on_out_of_scope) and not self.disable:
            raise ValueError("disable is chosen, so `disable` must say which attributes it writes")
        return self


class RulesShape(Shape):
    join: list[JoinShape] = Field(default_factory=list)
    flow: list[FlowShape] = Field(default_factory=list)
    project: list[ProjectShape] = Field(default_factory=list)


class LimitShape(Shape):
    count: int | None = Field(None, ge=0, description="Held when more rows than this.")
    percent: float | None = Field(
        None, ge=0, le=100, description="Held when more than 2 rows and more than this share."
    )


class LimitsShape(Shape):
    create: LimitShape = Field(default_factory=LimitShape)
    update: LimitShape = Field(default_factory=LimitShape)
    disable: LimitShape = Field(default_factory=LimitShape)
    delete: LimitShape = Field(default_factory=LimitShape)


DEFAULT_LIMITS = LimitsShape(
    create=LimitShape(count=None, percent=50),
    update=LimitShape(count=None, percent=30),
    disable=LimitShape(count=20, percent=2),
    delete=LimitShape(count=20, percent=2),
)


class DefinitionShape(Shape):
    """The whole file, but for the settings of each connector."""

    version: Literal[1]
    connectors: dict[Name, dict[str, Any]]
    mesh: dict[Name, MeshTypeShape]
    rules: RulesShape
    timezone: Annotated[str, AfterValidator(check_zone)] = Field(
        "UTC", description="The zone of Today(), of times without a zone and of schedules, such as Europe/Berlin."
    )
    frozen: list[str] = Field(default_factory=list, description="Anchors of people that no run may write to.")
    limits: dict[str, LimitsShape] = Field(default_factory=dict)
