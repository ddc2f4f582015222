"""The audit trail: what administrators do, what is done with secrets, and what happens to people."""

from identitymesh.audit.actor import local_actor
from identitymesh.audit.records import AuditTrail, Record, encode_payload, person_record

__all__ = ["AuditTrail", "Record", "encode_payload", "local_actor", "person_record"]
