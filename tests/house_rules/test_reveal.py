"""Every line of the product that turns a Secret into plain bytes or text. A new one is added here, with its reason."""

import ast
from collections import Counter

from tests.house_rules.repository import ROOT, modules

# Path and function, how many calls, and where the value goes from there.
REVEALS: dict[str, tuple[int, str]] = {
    "cli/commands/init.py::announce": (1, "the recovery key, shown once"),
    "cli/commands/init.py::_document": (1, "the recovery key, shown once, as JSON"),
    "cli/key_input.py::_only_key": (1, "the line that is a key is cut out"),
    "cli/commands/keys.py::announce": (4, "a new recovery key or passphrase, shown once"),
    "cli/secret_actions.py::get": (1, "to a terminal, after the audit record"),
    "cli/secret_actions.py::_as_json": (1, "to a terminal as JSON, after the audit record"),
    "columns/formats.py::__init__": (1, "the key, to AES-GCM"),
    "columns/formats.py::encrypt": (1, "it is checked to be text and not too long, and encrypted"),
    "columns/formats.py::fingerprint": (2, "keys an HMAC, and goes into it"),
    "columns/keys.py::_size": (1, "its length is checked"),
    "columns/keys.py::derive": (1, "the key, to HKDF"),
    "columns/keys.py::_fill": (1, "into a key file of mode 0600"),
    "columns/opening.py::_password": (1, "its line end is cut off"),
    "columns/postgresql.py::_connect": (1, "to the PostgreSQL driver, in the call that logs in"),
    "columns/postgresql_columns.py::_update": (1, "decrypt: back into the plain column that a person asked for"),
    "columns/rows.py::_apply": (1, "decrypt: back into the plain row that a person asked for"),
    "columns/sqlite.py::_write_plain": (1, "decrypt: back into the plain column that a person asked for"),
    "columns/places.py::size": (1, "its length is counted"),
    "connectors/kinds/ldap/passwords.py::change_password": (2, "to the LDAP library, in the call that changes it"),
    "connectors/kinds/ldap/session.py::_log_in": (1, "to the LDAP library, in the call that binds"),
    "connectors/kinds/scim/credentials.py::_login": (1, "into the Authorization header of a token request"),
    "connectors/kinds/scim/credentials.py::fit_for_header": (1, "its characters are checked"),
    "connectors/kinds/scim/session.py::_send": (1, "into the Authorization header of a request"),
    "connectors/kinds/sql/opening.py::connect_postgres": (1, "to the PostgreSQL driver, in the call that logs in"),
    "connectors/kinds/sql/passwords.py::_verifier": (1, "to libpq, which makes a SCRAM verifier of it"),
    "connectors/scrubbing.py::scrub": (1, "taken out of an answer that repeats it"),
    "runs/initial.py::attributes": (1, "to the target that makes the account with it, stored before"),
    "secrets/age.py::_parse": (1, "to pyrage, which reads the identity"),
    "secrets/age_scrypt.py::_mac": (1, "the key of an age file, to HKDF"),
    "secrets/age_scrypt.py::_payload": (1, "the key of an age file, to HKDF"),
    "secrets/age_scrypt.py::_wrapping": (1, "the passphrase, to scrypt"),
    "secrets/age_scrypt.py::seal": (2, "the key of an age file and its content, encrypted"),
    "secrets/age.py::seal_file": (1, "to pyrage, which encrypts a bundle"),
    "secrets/azure/credentials.py::_certificate": (1, "to azure-identity, which signs with it"),
    "secrets/azure/credentials.py::_client_secret": (1, "to azure-identity, which sends it to the token authority"),
    "secrets/slots/azure_key_vault.py::_cut": (1, "the digest of its slot is cut off"),
    "secrets/slots/azure_key_vault.py::guard": (2, "to azure-keyvault-keys, which wraps it"),
    "secrets/stores/azure_key_vault/entries.py::decode": (1, "Base64 taken off; a Secret again"),
    "secrets/stores/azure_key_vault/entries.py::encode": (1, "as Base64 to the vault, in the call that sets it"),
    "secrets/bundle_format.py::_encode_entry": (1, "into a bundle, which is a Secret again"),
    "secrets/bundle_format.py::_parse": (1, "parsed; values become Secrets at once"),
    "secrets/age.py::seal_document": (1, "to pyrage, which encrypts the keyring document"),
    "secrets/keyring.py::hash_of": (1, "hashed for the anchor"),
    "secrets/keyring.py::_word": (1, "derives the key of an endorsement"),
    "secrets/keyring.py::ledger_key": (1, "derives the key of audiences"),
    "secrets/keyring.py::check_rules": (3, "its length is checked"),
    "secrets/keyring.py::encode": (3, "into the keyring document, which is a Secret again"),
    "secrets/keyring.py::decode": (1, "parsed; keys become Secrets at once"),
    "secrets/ledger.py::audience_mac": (1, "keys the HMAC of an audience"),
    "secrets/opentest.py::_to_json": (1, "what a person typed, to the standard input of the opening process"),
    "secrets/opentest.py::try_in_fresh_process": (1, "that standard input"),
    "secrets/private_files.py::_write": (1, "into a file of mode 0400 or 0600"),
    "secrets/private_files.py::read_private": (1, "its length is checked"),
    "secrets/host_slots.py::_parse": (1, "a list of slot ids holds no secret; it is read like a key file"),
    "secrets/custody/sheet.py::_parse": (1, "a note about trust holds no secret; it is read like a key file"),
    "secrets/anchors.py::read": (1, "an anchor holds no secret; it is read like a key file"),
    "secrets/sealing.py::check_value": (1, "its length is checked"),
    "secrets/sealing.py::seal": (2, "encrypted"),
    "secrets/sealing.py::unseal": (1, "record key, to AES-GCM"),
    "secrets/sealing.py::_derive": (1, "data key, to HKDF-Extract"),
    "secrets/slots/host_file.py::_only_line": (1, "its line end is cut off"),
    "secrets/slots/host_file.py::guard": (1, "a line end is added for the key file"),
    "secrets/slots/dpapi.py::_buffer": (1, "to Windows, in the call that protects or opens it"),
    "secrets/slots/dpapi.py::protect": (1, "what Windows protected is no secret"),
    "secrets/slots/passphrase.py::_typed": (1, "white space around it is cut off"),
    "secrets/slots/passphrase.py::guard": (1, "its length is checked"),
    "secrets/slots/systemd_creds.py::_call": (1, "to the standard input of systemd-creds"),
    "secrets/slots/systemd_creds.py::_read_delivered": (1, "a line end is cut off"),
    "secrets/slots/systemd_creds.py::guard": (1, "an encrypted credential is no secret"),
    "secrets/slots/tpm2.py::seal": (1, "to the chip, in an encrypted session"),
    "secrets/slots/recovery.py::identity": (1, "white space around it is cut off"),
    "secrets/migration/planning.py::_read_all": (1, "its length is told"),
    "secrets/stores/openbao/entries.py::_encode": (2, "into a request to the vault, over TLS"),
    "secrets/stores/openbao/place.py::_read": (1, "white space around it is cut off"),
    "secrets/stores/openbao/session.py::_logged_in": (1, "the secret id, in the call that logs in"),
    "secrets/stores/openbao/session.py::once": (1, "the token, into the header of a request"),
    "settings/__init__.py::database_password": (1, "one trailing newline is cut off"),
    "storage/archive.py::mac_of": (1, "the keyset secret, to HKDF"),
    "storage/database.py::_connect": (1, "to the PostgreSQL driver, in the call that logs in"),
}


def reveals(path: str, tree: ast.AST, function: str = "") -> Counter[str]:
    found: Counter[str] = Counter()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.update(reveals(path, node, node.name))
            continue
        if isinstance(node, ast.Attribute) and node.attr in {"reveal", "reveal_text"}:
            found[f"{path}::{function}"] += 1
        if isinstance(node, ast.Call) and (node.args or node.keywords) and isinstance(node.func, ast.Attribute):
            # With arguments it is `SecretStore.reveal`, which answers a Secret.
            found[f"{path}::{function}"] -= node.func.attr == "reveal"
        found.update(reveals(path, node, function))
    return found


def test_every_place_that_reveals_a_secret_is_known() -> None:
    found: Counter[str] = Counter()
    for path, tree in modules("src/identitymesh"):
        found.update(reveals(path.removeprefix("src/identitymesh/"), tree))
    found = +found
    unknown = {place: count for place, count in found.items() if REVEALS.get(place, (0, ""))[0] != count}
    assert unknown == {}, "name the place and its reason in REVEALS, or do not reveal there"
    assert set(REVEALS) - set(found) == set(), "these no longer reveal anything"
    assert all(reason for _count, reason in REVEALS.values())
    assert (ROOT / "src/identitymesh/redaction.py").is_file()


def test_the_rule_finds_calls_however_deep() -> None:
    source = "class A:\n def f(self):\n  return [g(x.reveal()) for x in y] + [h(z.reveal_text())]\n"
    assert reveals("a.py", ast.parse(source)) == Counter({"a.py::f": 2})


def test_the_rule_knows_the_store_from_a_secret() -> None:
    source = "def get(store):\n    return store.reveal(ref, actor=a)\ndef leak(x):\n    return map(x.reveal, y)\n"
    assert +reveals("a.py", ast.parse(source)) == Counter({"a.py::leak": 1})
