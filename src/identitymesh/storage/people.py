"""Looking one person up."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import and_, exists, func, or_, select, tuple_

from identitymesh.errors import NotFound
from identitymesh.model.accounts import Account
from identitymesh.model.identities import Identity
from identitymesh.model.objects import StoredObject
from identitymesh.runs.contract import Place
from identitymesh.storage.database import Database
from identitymesh.storage.rows import ACCOUNTS, IDENTITIES, OBJECTS, identity_value, stored_object
from identitymesh.storage.tables import mesh as m

MANY = 20


class SqlPeople:
    """``PeopleStore`` of ``runs/contract.py``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, subject: str) -> list[int]:
        """Identities by anchor, by any join key, by ``connector/object/key`` or by the key of an account or object."""
        people, objects, accounts, keys = m.identity.c, m.connector_object.c, m.account.c, m.join_key.c
        queries = [select(people.id).where(people.anchor == subject)]
        connector, _, rest = subject.partition("/")
        object_class, _, key = rest.partition("/")
        if key:
            place = (objects.connector == connector, objects.object == object_class, objects.key == key)
            queries.append(select(objects.identity_id).where(*place))
            here = (accounts.connector == connector, accounts.object == object_class, accounts.key == key)
            queries.append(select(accounts.identity_id).where(*here))
        queries.append(select(keys.identity_id).where(keys.value == subject))
        queries.append(select(accounts.identity_id).where(accounts.key == subject))
        queries.append(select(objects.identity_id).where(objects.key == subject))
        with self._database.read() as connection:
            for query in queries:
                found = sorted({one for one in connection.scalars(query.limit(MANY)) if one is not None})
                if found:
                    return found
        return []

    def alone(self, subject: str) -> list[StoredObject]:
        objects, waiting = m.connector_object.c, m.waiting_key.c
        places = select(waiting.connector, waiting.object, waiting.key).where(waiting.value == subject)
        mine = or_(objects.key == subject, tuple_(objects.connector, objects.object, objects.key).in_(places))
        query = OBJECTS.where(mine, objects.identity_id.is_(None), objects.state != "aside")
        with self._database.read() as connection:
            return [stored_object(row) for row in connection.execute(query.limit(MANY))]

    def unmatched(self, places: Collection[Place], limit: int) -> tuple[int, list[StoredObject]]:
        objects, accounts = m.connector_object.c, m.account.c
        linked = and_(
            accounts.connector == objects.connector, accounts.object == objects.object, accounts.key == objects.key
        )
        nobodys = [
            tuple_(objects.connector, objects.object).in_(sorted(places)),
            objects.identity_id.is_(None),
            ~exists().where(linked),
        ]
        query = OBJECTS.where(*nobodys)
        query = query.order_by(objects.connector, objects.object, objects.key).limit(limit)
        with self._database.read() as connection:
            total = connection.scalar(select(func.count()).select_from(m.connector_object).where(*nobodys))
            return int(total or 0), [stored_object(row) for row in connection.execute(query)]

    def person(self, identity_id: int) -> tuple[Identity, list[StoredObject], list[Account]]:
        objects = OBJECTS.where(m.connector_object.c.identity_id == identity_id)
        accounts = ACCOUNTS.where(m.account.c.identity_id == identity_id)
        with self._database.read() as connection:
            row = connection.execute(IDENTITIES.where(m.identity.c.id == identity_id)).one_or_none()
            if row is None:
                raise NotFound(f"there is no identity {identity_id}")
            return (
                identity_value(row),
                [stored_object(one) for one in connection.execute(objects)],
                [Account._make(one) for one in connection.execute(accounts)],
            )
