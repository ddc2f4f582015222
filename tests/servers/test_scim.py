import os
from collections.abc import Callable

import httpx2
import pytest

from tests.servers.process import ServerFailed
from tests.servers.scim import ScimServer


def client(server: ScimServer, token: str | None = None) -> httpx2.Client:
    return httpx2.Client(headers={"Authorization": f"Bearer {token or server.token}"}, timeout=10)


def test_user_that_was_created_is_found(scim_server: ScimServer) -> None:
    user = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "ada"}
    with client(scim_server) as http:
        created = http.post(f"{scim_server.base_url}/Users", json=user)
        assert created.status_code == httpx2.codes.CREATED
        assert created.headers["location"].startswith(scim_server.base_url)
        assert http.post(f"{scim_server.base_url}/Users", json=user).status_code == httpx2.codes.CONFLICT
        found = http.get(f"{scim_server.base_url}/Users", params={"filter": 'userName eq "ada"'})
    assert found.json()["totalResults"] == 1


def test_wrong_token_is_refused(module_scim_server: ScimServer) -> None:
    with client(module_scim_server, "wrong") as http:
        assert http.get(f"{module_scim_server.base_url}/Users").status_code == httpx2.codes.UNAUTHORIZED


def test_two_servers_share_nothing_and_are_gone_when_stopped(start_scim_server: Callable[..., ScimServer]) -> None:
    one, other = start_scim_server(), start_scim_server()
    assert one.base_url != other.base_url
    assert one.token != other.token
    one.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(one.pid, 0)


def test_a_server_that_cannot_start_says_why(start_scim_server: Callable[..., ScimServer]) -> None:
    with pytest.raises(ServerFailed, match="unrecognized arguments: --nonsense"):
        start_scim_server(options=("--nonsense",))
