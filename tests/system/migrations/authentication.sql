-- A schema of an authentication service: accounts, refresh tokens, factors; enums that grow and are renamed, partial indexes, a
-- generated column, columns that are filled in steps.

CREATE TABLE users (instance_id uuid, id uuid NOT NULL PRIMARY KEY, role varchar(255), email varchar(255), encrypted_password varchar(255), confirmed_at timestamptz, raw_app_meta_data jsonb, raw_user_meta_data json, is_super_admin bool, created_at timestamptz, updated_at timestamptz);
CREATE TABLE refresh_tokens (id bigserial PRIMARY KEY, token varchar(255), user_id varchar(255), revoked bool, created_at timestamptz);
CREATE TABLE audit_log_entries (id uuid PRIMARY KEY, payload json, created_at timestamptz)

CREATE UNIQUE INDEX users_email_partial_key ON users (email) WHERE is_super_admin IS FALSE

INSERT INTO users (id, role, email, encrypted_password, confirmed_at, raw_app_meta_data, is_super_admin, created_at) SELECT md5(i::text)::uuid, 'authenticated', 'user' || i || '@example.org', '$2a$10$' || md5(i::text), '2023-01-01Z', '{"provider": "email", "providers": ["email"]}', false, '2023-01-01Z' FROM generate_series(1, 9) i;
INSERT INTO refresh_tokens (token, user_id, revoked, created_at) SELECT md5('t' || i), md5(i::text)::uuid::text, false, '2023-01-02Z' FROM generate_series(1, 9) i

ALTER TABLE users ADD COLUMN aud varchar(255), ADD COLUMN phone varchar(15) UNIQUE DEFAULT NULL, ADD COLUMN phone_confirmed_at timestamptz

ALTER TABLE users RENAME COLUMN confirmed_at TO email_confirmed_at

ALTER TABLE users ADD COLUMN confirmed_at timestamptz GENERATED ALWAYS AS (LEAST(email_confirmed_at, phone_confirmed_at)) STORED

UPDATE users SET phone_confirmed_at = '2022-12-31Z', phone = '4670000' || substr(email, 5, 1) WHERE email < 'user5'

CREATE TABLE identities (id text NOT NULL, user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE, identity_data jsonb NOT NULL, provider text NOT NULL, last_sign_in_at timestamptz, PRIMARY KEY (provider, id))

INSERT INTO identities SELECT id::text, id, jsonb_build_object('sub', id, 'email', email), 'email', '2023-02-01Z' FROM users

ALTER TABLE refresh_tokens ADD COLUMN parent varchar(255) NULL;
CREATE INDEX refresh_tokens_parent_idx ON refresh_tokens (parent)

CREATE TYPE factor_type AS ENUM ('totp', 'webauthn');
CREATE TYPE factor_status AS ENUM ('unverified', 'verified');
CREATE TYPE aal_level AS ENUM ('aal1', 'aal2');
CREATE TABLE mfa_factors (id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE, friendly_name text, factor_type factor_type NOT NULL, status factor_status NOT NULL, secret text);
CREATE TABLE sessions (id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE, created_at timestamptz, aal aal_level)

INSERT INTO mfa_factors SELECT md5('f' || email)::uuid, id, email, 'totp', 'verified', 'JBSWY3DP' FROM users WHERE email < 'user4';
INSERT INTO sessions SELECT md5('s' || email)::uuid, id, created_at, 'aal1' FROM users

CREATE UNIQUE INDEX mfa_factors_friendly_name_unique ON mfa_factors (friendly_name, user_id) WHERE trim(friendly_name) <> ''

ALTER TYPE aal_level ADD VALUE 'aal3'

UPDATE sessions SET aal = 'aal3' WHERE id < '80000000-0000-0000-0000-000000000000'

ALTER TYPE factor_type ADD VALUE 'phone' BEFORE 'webauthn'

ALTER TYPE factor_status RENAME VALUE 'unverified' TO 'pending'

ALTER TYPE factor_status RENAME VALUE 'verified' TO 'active'

ALTER TABLE refresh_tokens ADD COLUMN session_id uuid NULL

UPDATE refresh_tokens r SET session_id = s.id FROM sessions s WHERE s.user_id::text = r.user_id

ALTER TABLE refresh_tokens ADD CONSTRAINT refresh_tokens_session_id_fkey FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE

ALTER TABLE refresh_tokens ALTER COLUMN user_id TYPE uuid USING user_id::uuid

ALTER TABLE audit_log_entries ADD COLUMN ip_address varchar(64) NOT NULL DEFAULT ''

INSERT INTO audit_log_entries SELECT md5(i::text)::uuid, '{"action": "login"}', '2023-03-01Z', '10.0.0.' || i FROM generate_series(1, 4) i

ALTER TABLE identities ADD COLUMN email text GENERATED ALWAYS AS (lower(identity_data ->> 'email')) STORED

ALTER TABLE identities DROP CONSTRAINT identities_pkey;
ALTER TABLE identities RENAME COLUMN id TO provider_id;
ALTER TABLE identities ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid();
ALTER TABLE identities ADD CONSTRAINT identities_pkey PRIMARY KEY (id);
ALTER TABLE identities ADD CONSTRAINT identities_provider_id_provider_unique UNIQUE (provider_id, provider)

ALTER TABLE users ALTER COLUMN phone TYPE text

ALTER TABLE users ADD COLUMN is_sso_user boolean NOT NULL DEFAULT false;
DROP INDEX users_email_partial_key;
CREATE UNIQUE INDEX users_email_partial_key ON users (email) WHERE is_sso_user = false

ALTER TABLE users ADD COLUMN deleted_at timestamptz NULL;
ALTER TABLE users DROP COLUMN is_super_admin

CREATE TYPE one_time_token_type AS ENUM ('confirmation_token', 'recovery_token');
CREATE TABLE one_time_tokens (id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE, token_type one_time_token_type NOT NULL, token_hash text NOT NULL CHECK (char_length(token_hash) > 0))

INSERT INTO one_time_tokens SELECT gen_random_uuid(), id, 'recovery_token', md5(email) FROM users WHERE email IS NOT NULL

COMMENT ON TABLE users IS 'accounts of the service';
COMMENT ON COLUMN users.is_sso_user IS 'set for accounts of single sign-on'

DELETE FROM sessions WHERE aal = 'aal1'

DROP TABLE audit_log_entries
