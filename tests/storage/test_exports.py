"""Accounts of a target, asked for by their keys there."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import insert

from identitymesh.model.accounts import Account
from identitymesh.storage import schema
from identitymesh.storage.batches import SqlMeshTransaction
from identitymesh.storage.database import Database
from identitymesh.storage.exports import SqlExports
from identitymesh.storage.tables import mesh as m


def account(person: int, connector: str, object_class: str, key: str) -> Account:
    return Account(person, connector, object_class, "a-rule", "present", key)


def test_an_account_has_an_owner_in_its_own_class_and_target_alone(database: Database) -> None:
    schema.upgrade(database)
    now = datetime.now(UTC)
    with database.write() as connection:
        people = [{"id": number, "type": "user", "anchor": str(number), "document": "{}"} for number in (1, 2, 3, 4)]
        more = {"digest": b"", "present": True, "ruleset": 1, "created_at": now, "changed_at": now}
        connection.execute(insert(m.identity), [{**one, **more} for one in people])
        accounts = [
            account(1, "crm", "user", "k"),
            account(2, "crm", "group", "k"),
            account(3, "erp", "user", "k"),
            account(4, "crm", "user", "other"),
        ]
        SqlMeshTransaction(connection).put_accounts(accounts, [])
    owners = SqlExports(database).owners

    assert owners("crm", [("user", "k"), ("group", "k"), ("group", "other")]) == {("user", "k"): 1, ("group", "k"): 2}
    assert owners("crm", [("user", "other"), ("user", "nobody")]) == {("user", "other"): 4}
    assert owners("crm", []) == {}
