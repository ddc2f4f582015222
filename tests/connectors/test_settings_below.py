"""Relative paths in a definition start at the installation's folder, wherever the command is called from."""

from pathlib import Path

import pytest

from identitymesh.connectors.catalogue import kind
from identitymesh.connectors.settings import ConnectorSettings

FOLDER = Path("/srv/mesh")


def settings(url: str, **more: object) -> ConnectorSettings:
    objects = {"user": {"table": "people", "key": "id"}}
    made = kind("sql").settings.model_validate({"type": "sql", "url": url, "objects": objects, **more})
    assert isinstance(made, ConnectorSettings)
    return made


@pytest.mark.parametrize(
    ("url", "below"),
    [
        ("sqlite:///hr.db", "sqlite:////srv/mesh/hr.db"),
        ("sqlite:///data/h%20r.db", "sqlite:////srv/mesh/data/h%20r.db"),
        ("sqlite:////var/hr.db", "sqlite:////var/hr.db"),
        ("postgresql://hr@db/hr", "postgresql://hr@db/hr"),
    ],
)
def test_the_file_of_a_database(url: str, below: str) -> None:
    assert getattr(settings(url).below(FOLDER), "url") == below  # noqa: B009  the base class has no url


def test_the_file_of_an_authority() -> None:
    made = settings("postgresql://hr@db/hr", ca_file="ca.pem")

    assert made.below(FOLDER).model_dump()["ca_file"] == "/srv/mesh/ca.pem"
    assert made.model_dump()["ca_file"] == "ca.pem", "the definition itself stays as it was written"
