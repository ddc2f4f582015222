"""The ``openbao`` provider: values in the KV engine (version 2) of an OpenBao or HashiCorp Vault server."""

from __future__ import annotations

from typing import Final

from identitymesh.errors import ProviderMisconfigured
from identitymesh.secrets.providers import Provider, Setup

NAME: Final = "openbao"


def build(setup: Setup) -> Provider:
    """A provider that has asked nobody yet.

    Raises:
        ProviderMisconfigured: a setting is missing, or the library.
    """
    try:
        from identitymesh.secrets.stores.openbao.provider import make
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("hvac", "requests"):
            raise
        raise ProviderMisconfigured(
            "the provider openbao needs the library hvac, which is not installed",
            hint="Install it with its extra: pip install 'identitymesh[openbao]'",
        ) from None
    return make(setup)
