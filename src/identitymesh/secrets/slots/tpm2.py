"""The ``tpm2`` protector: the identity as a sealed object of this machine's TPM 2.0 chip.

The object hangs below a storage key that the chip derives again from its owner seed each
time, so nothing is kept in the chip. Its authorisation value is made of keyring and slot:
an object that was moved to another slot does not open. Everything secret travels to the
chip in an encrypted session. No PCR is part of it: firmware updates do not lock out.
What is kept is JSON with the public and the private part, as TPM2 marshals them.

The one module that calls tpm2-pytss (the extra ``[tpm]``).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, Final

from identitymesh.errors import KeyringBroken, KeyringError
from identitymesh.redaction import Secret
from identitymesh.secrets.age import checked_identity
from identitymesh.secrets.protectors import Place, Protector, SlotClass, Traits
from identitymesh.secrets.sealing import length_prefixed

TYPE: Final = "tpm2"
FORMAT: Final = "identitymesh-tpm2/1"
MAX_BYTES: Final = 4096
_LABEL: Final = b"identitymesh/tpm2/1"
TRAITS: Final = Traits(SlotClass.UNATTENDED, 5, "a process on its host that may use the TPM; not a copy of its disk")


def build(place: Place) -> Protector:
    return SealedObject(place)


class SealedObject:
    """One sealed object of one chip."""

    type = TYPE
    traits = TRAITS

    def __init__(self, place: Place) -> None:
        self._place = place
        self._where = f"keyring {place.keyring}: the TPM slot"

    def exists(self) -> bool:
        return self._place.guarded is not None

    def describe(self) -> str:
        return "the TPM of this host"

    def identity(self) -> Secret:
        """What the chip unseals.

        Raises:
            KeyringBroken: what is stored is no sealed object.
            KeyringError: no chip answers, or it is not the one that sealed this.
        """
        if self._place.guarded is None:
            raise KeyringError(f"{self._where} has nothing stored", hint=_HINT)
        public, private = _decode(self._place.guarded, self._where)
        return checked_identity(self._use(lambda chip: chip.unseal(public, private, self._auth())), self._where)

    def guard(self, identity: Secret) -> bytes | None:
        """Seal with the chip of this host.

        Raises:
            KeyringError: no chip answers, or it refuses.
        """
        sealed: bytes = self._use(lambda chip: chip.seal(identity, self._auth()))
        return sealed

    def remove(self) -> None:
        """Nothing is kept in the chip."""

    def _auth(self) -> bytes:
        return sha256(length_prefixed(_LABEL, self._place.keyring.encode(), self._place.slot.encode())).digest()

    def _use(self, work: Callable[[_Chip], Any]) -> Any:
        try:
            from tpm2_pytss import TSS2_Exception
        except ImportError:
            raise KeyringError(
                f"{self._where} needs tpm2-pytss, which is not installed",
                hint="Install identitymesh[tpm]; it needs the libraries of tpm2-tss (on Debian: libtss2-dev).",
            ) from None
        try:
            with _chip(self._place.means.tpm2_tcti) as chip:
                return work(chip)
        except (TSS2_Exception, OSError, RuntimeError) as error:
            raise KeyringError(f"{self._where}: the TPM of this host refuses: {str(error)[:160]}", hint=_HINT) from None


_HINT: Final = (
    "Check slots.tpm2_tcti and that the user may use /dev/tpmrm0. Another machine, another chip or a cleared one "
    "cannot open it: use another slot or the recovery key, then remove this slot and add it anew."
)


def _decode(guarded: bytes, where: str) -> tuple[bytes, bytes]:
    try:
        fields = json.loads(guarded) if len(guarded) <= MAX_BYTES else {}
        if fields.keys() != {"format", "public", "private"} or fields["format"] != FORMAT:
            raise ValueError("format")  # noqa: TRY301 - one refusal for everything that is wrong with it
        return base64.b64decode(fields["public"], validate=True), base64.b64decode(fields["private"], validate=True)
    except (ValueError, TypeError, AttributeError):
        raise KeyringBroken(f"{where}: what is stored is not a sealed object of a TPM", hint=_HINT) from None


@contextmanager
def _chip(tcti: str) -> Iterator[_Chip]:
    from tpm2_pytss import ESAPI

    with ESAPI(tcti or None) as esapi:
        chip = _Chip(esapi)
        try:
            chip.start()
            yield chip
        finally:
            chip.close()


class _Chip:
    """A storage key and a session in one chip. ESAPI as in the TCG TSS 2.0 specification."""

    def __init__(self, esapi: Any) -> None:
        self._esapi = esapi
        self._open: list[Any] = []

    def start(self) -> None:
        from tpm2_pytss import ESYS_TR, TPM2B_PUBLIC, TPM2B_SENSITIVE_CREATE

        # The storage key of the TCG's provisioning guidance: the chip makes the same one each time.
        template = TPM2B_PUBLIC.parse(
            alg="ecc256:aes128cfb",
            objectAttributes="fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt|noda",
        )
        self._parent, *_rest = self._esapi.create_primary(TPM2B_SENSITIVE_CREATE(), template, ESYS_TR.OWNER)
        self._open.append(self._parent)
        self._session = self._start_session()
        self._open.append(self._session)

    def _start_session(self) -> Any:
        from tpm2_pytss import ESYS_TR, TPM2_ALG, TPM2_SE, TPMA_SESSION, TPMT_SYM_DEF, TPMU_SYM_KEY_BITS, TPMU_SYM_MODE

        cipher = TPMT_SYM_DEF(
            algorithm=TPM2_ALG.AES, keyBits=TPMU_SYM_KEY_BITS(sym=128), mode=TPMU_SYM_MODE(sym=TPM2_ALG.CFB)
        )
        # Salted with the storage key: who listens between host and chip learns nothing.
        session = self._esapi.start_auth_session(
            tpm_key=self._parent,
            bind=ESYS_TR.NONE,
            session_type=TPM2_SE.HMAC,
            symmetric=cipher,
            auth_hash=TPM2_ALG.SHA256,
        )
        attributes = TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.DECRYPT | TPMA_SESSION.ENCRYPT
        self._esapi.trsess_set_attributes(session, attributes)
        return session

    def seal(self, value: Secret, auth: bytes) -> bytes:
        from tpm2_pytss import TPM2B_PUBLIC, TPM2B_SENSITIVE_CREATE, TPMS_SENSITIVE_CREATE

        template = TPM2B_PUBLIC.parse(alg="keyedhash", objectAttributes="fixedtpm|fixedparent|userwithauth|noda")
        sensitive = TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(userAuth=auth, data=value.reveal()))
        private, public, *_rest = self._esapi.create(self._parent, sensitive, template, session1=self._session)
        parts = {"public": public.marshal(), "private": private.marshal()}
        fields = {"format": FORMAT} | {name: base64.b64encode(part).decode() for name, part in parts.items()}
        return json.dumps(fields, sort_keys=True).encode()

    def unseal(self, public: bytes, private: bytes, auth: bytes) -> Secret:
        from tpm2_pytss import TPM2B_PRIVATE, TPM2B_PUBLIC

        sealed = self._esapi.load(
            self._parent,
            TPM2B_PRIVATE.unmarshal(private)[0],
            TPM2B_PUBLIC.unmarshal(public)[0],
            session1=self._session,
        )
        self._open.append(sealed)
        self._esapi.tr_set_auth(sealed, auth)
        return Secret(bytes(self._esapi.unseal(sealed, session1=self._session)))

    def close(self) -> None:
        """A chip has room for a few objects and sessions only."""
        for handle in reversed(self._open):
            self._esapi.flush_context(handle)
