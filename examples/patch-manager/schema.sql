-- The three tables of Patch Manager that hold secrets in clear (PostgreSQL; as before migration 020).

CREATE TABLE oidc_config (
    id            INTEGER PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    enabled       BOOLEAN NOT NULL DEFAULT FALSE,
    provider_type TEXT NOT NULL DEFAULT 'custom',
    display_name  TEXT NOT NULL DEFAULT '',
    discovery_url TEXT NOT NULL DEFAULT '',
    client_id     TEXT NOT NULL DEFAULT '',
    client_secret TEXT NOT NULL DEFAULT '',
    redirect_uri  TEXT NOT NULL DEFAULT '',
    scopes        TEXT NOT NULL DEFAULT 'openid email profile'
);

CREATE TABLE system_config (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL DEFAULT ''
);

CREATE TABLE users (
    id            UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    username      TEXT NOT NULL UNIQUE,
    email         TEXT NOT NULL,
    password_hash TEXT NOT NULL DEFAULT '',
    role          TEXT NOT NULL DEFAULT 'viewer',
    mfa_enabled   BOOLEAN NOT NULL DEFAULT FALSE,
    totp_secret   TEXT,
    created_at    TIMESTAMPTZ NOT NULL DEFAULT now()
);
