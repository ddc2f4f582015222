"""A plan of other rules than today's is made again, never carried out."""

from __future__ import annotations

import pytest

from identitymesh.errors import UsageError

from .world import World


def test_a_plan_from_before_a_change_of_rules_is_not_carried_out(both: World) -> None:
    both.apply(lambda text: text.replace("on_leave: disable", "on_leave: delete"), release=True)
    both.hire_many(3)
    both.run()
    both.fire("p0001")
    planned = both.plan()
    both.apply(lambda text: text.replace("on_leave: delete", "on_leave: keep"), release=True)

    with pytest.raises(UsageError, match="before the rules changed"):
        both.release(planned.run_id)
    both.approve(planned.run_id)
    both.run()

    assert len(both.crm.objects) == 3, "by today's rules the account of a leaver is kept"


def test_other_limits_leave_a_plan_as_it_was(both: World) -> None:
    both.hire_many(3)
    planned = both.plan()
    both.apply(lambda text: f"{text}limits: {{default: {{create: {{count: 1}}}}}}\n", release=True)

    both.release(planned.run_id)

    assert len(both.crm.objects) == 3
