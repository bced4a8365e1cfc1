-- One text for SQLite and PostgreSQL. Two tokens are filled in per database by src/migrate.rs:
--   {id}     an ascending integer primary key that never hands out a number twice
--   {bytes}  a column of raw bytes
-- Times are milliseconds since the Unix epoch (UTC). Flags are 0 or 1.

CREATE TABLE users (
    id            {id},
    name          TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    role          TEXT NOT NULL CHECK (role IN ('site_admin', 'user')),
    created_at    BIGINT NOT NULL
);
CREATE UNIQUE INDEX users_name ON users (lower(name));

CREATE TABLE sessions (
    token_hash   TEXT PRIMARY KEY,
    user_id      BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    csrf_secret  TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE access_tokens (
    id           {id},
    user_id      BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    note         TEXT NOT NULL,
    token_hash   TEXT NOT NULL UNIQUE,
    created_at   BIGINT NOT NULL,
    last_used_at BIGINT,
    revoked_at   BIGINT
);
CREATE INDEX access_tokens_user ON access_tokens (user_id);

CREATE TABLE throttle (
    subject      TEXT PRIMARY KEY,
    window_start BIGINT NOT NULL,
    hits         BIGINT NOT NULL
);

CREATE TABLE repositories (
    id             {id},
    name           TEXT NOT NULL UNIQUE,
    upstream       TEXT NOT NULL,
    default_branch TEXT NOT NULL DEFAULT '',
    state          TEXT NOT NULL CHECK (state IN ('cloning', 'ready', 'error')),
    error          TEXT NOT NULL DEFAULT '',
    size_bytes     BIGINT NOT NULL DEFAULT 0,
    created_at     BIGINT NOT NULL,
    last_synced_at BIGINT
);

-- The payload lives beside the row: the row changes often, the payload never.
CREATE TABLE jobs (
    id                {id},
    queue             TEXT NOT NULL,
    state             TEXT NOT NULL
        CHECK (state IN ('queued', 'processing', 'completed', 'errored', 'failed', 'canceled')),
    name              TEXT NOT NULL,
    repository        TEXT NOT NULL,
    commit_id         TEXT NOT NULL,
    creator_id        BIGINT NOT NULL,
    lane              BIGINT NOT NULL,
    priority          BIGINT NOT NULL,
    max_retries       BIGINT NOT NULL,
    idempotency_key   TEXT,
    created_at        BIGINT NOT NULL,
    queued_at         BIGINT NOT NULL,
    process_after     BIGINT,
    started_at        BIGINT,
    last_heartbeat_at BIGINT,
    finished_at       BIGINT,
    attempt           BIGINT NOT NULL DEFAULT 0,
    lost              BIGINT NOT NULL DEFAULT 0,
    num_resets        BIGINT NOT NULL DEFAULT 0,
    num_failures      BIGINT NOT NULL DEFAULT 0,
    executor          TEXT NOT NULL DEFAULT '',
    cancel            BIGINT NOT NULL DEFAULT 0,
    reason            TEXT,
    message           TEXT NOT NULL DEFAULT '',
    exit_code         BIGINT,
    usage             TEXT,
    feed              BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX jobs_ready ON jobs (queue, priority, lane, queued_at, id)
    WHERE state = 'queued' AND process_after IS NULL;
CREATE INDEX jobs_delayed ON jobs (queue, process_after) WHERE process_after IS NOT NULL;
CREATE INDEX jobs_processing ON jobs (executor, id) WHERE state = 'processing';
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_state ON jobs (queue, state, id);
CREATE INDEX jobs_creator ON jobs (creator_id, id);
CREATE INDEX jobs_repository ON jobs (repository, id);
CREATE UNIQUE INDEX jobs_idempotency ON jobs (creator_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE TABLE job_payloads (
    job_id  BIGINT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    payload TEXT NOT NULL
);

-- Whose turn it is. One row per user (lane) and priority; `active` is a hint that the lane may hold
-- ready jobs: it is never 0 while it does.
CREATE TABLE queue_lanes (
    queue         TEXT NOT NULL,
    priority      BIGINT NOT NULL,
    lane          BIGINT NOT NULL,
    active        BIGINT NOT NULL,
    last_turn     BIGINT NOT NULL,
    last_claim_at BIGINT NOT NULL,
    PRIMARY KEY (queue, priority, lane)
);
CREATE INDEX queue_lanes_next ON queue_lanes (queue, priority DESC, last_turn, lane)
    WHERE active = 1;
CREATE INDEX queue_lanes_turn ON queue_lanes (queue, last_turn);

CREATE TABLE attempts (
    job_id      BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt     BIGINT NOT NULL,
    queue       TEXT NOT NULL,
    multi_queue BIGINT NOT NULL,
    executor    TEXT NOT NULL,
    token_hash  TEXT NOT NULL UNIQUE,
    started_at  BIGINT NOT NULL,
    finished_at BIGINT,
    outcome     TEXT NOT NULL,
    reason      TEXT,
    message     TEXT NOT NULL DEFAULT '',
    exit_code   BIGINT,
    usage       TEXT,
    PRIMARY KEY (job_id, attempt)
);
CREATE INDEX attempts_window ON attempts (queue, started_at) WHERE multi_queue = 1;

CREATE TABLE phases (
    job_id   BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt  BIGINT NOT NULL,
    phase    TEXT NOT NULL,
    began_at BIGINT NOT NULL,
    PRIMARY KEY (job_id, attempt, phase)
);

CREATE TABLE log_entries (
    job_id      BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt     BIGINT NOT NULL,
    entry_id    BIGINT NOT NULL,
    key         TEXT NOT NULL,
    command     TEXT,
    start_time  TEXT NOT NULL,
    exit_code   BIGINT,
    duration_ms BIGINT,
    stored      BIGINT NOT NULL DEFAULT 0,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (job_id, attempt, entry_id)
);

-- Everything that happened to a job, in order: state changes, phases, log entries, output, results.
-- `seq` is handed out under the lock of the job's row, so a reader that remembers the last one it saw
-- never misses an earlier one.
CREATE TABLE job_feed (
    job_id   BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq      BIGINT NOT NULL,
    attempt  BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    kind     TEXT NOT NULL,
    entry_id BIGINT,
    start    BIGINT,
    size     BIGINT,
    data     {bytes},
    body     TEXT,
    PRIMARY KEY (job_id, seq)
);
CREATE INDEX job_feed_output ON job_feed (job_id, attempt, entry_id, start) WHERE kind = 'output';

CREATE TABLE results (
    job_id  BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt BIGINT NOT NULL,
    kind    TEXT NOT NULL,
    name    TEXT NOT NULL,
    value   TEXT NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (job_id, attempt, kind, name)
);

CREATE TABLE artifacts (
    job_id   BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt  BIGINT NOT NULL,
    path     TEXT NOT NULL,
    size     BIGINT NOT NULL,
    sha256   TEXT NOT NULL,
    blob_key TEXT NOT NULL,
    at       BIGINT NOT NULL,
    PRIMARY KEY (job_id, attempt, path)
);

-- Blobs that no row names any more. They are removed from the blob store first, from here second.
CREATE TABLE doomed_blobs (
    blob_key TEXT PRIMARY KEY,
    at       BIGINT NOT NULL
);

CREATE TABLE executors (
    id              {id},
    name            TEXT NOT NULL UNIQUE,
    queues          TEXT NOT NULL,
    multi_queue     BIGINT NOT NULL,
    os              TEXT NOT NULL,
    architecture    TEXT NOT NULL,
    docker_version  TEXT NOT NULL,
    executor_version TEXT NOT NULL,
    git_version     TEXT NOT NULL,
    ignite_version  TEXT NOT NULL,
    src_cli_version TEXT NOT NULL,
    capacity        BIGINT,
    runtime         TEXT NOT NULL DEFAULT '',
    acceleration    TEXT NOT NULL DEFAULT '',
    draining        BIGINT NOT NULL DEFAULT 0,
    drain_requested BIGINT NOT NULL DEFAULT 0,
    last_error      TEXT NOT NULL DEFAULT '',
    last_error_at   BIGINT,
    first_seen_at   BIGINT NOT NULL,
    last_seen_at    BIGINT NOT NULL
);
CREATE INDEX executors_last_seen ON executors (last_seen_at);

CREATE TABLE executor_metrics (
    name TEXT PRIMARY KEY,
    text TEXT NOT NULL,
    at   BIGINT NOT NULL
);

CREATE TABLE image_objects (
    digest     TEXT PRIMARY KEY,
    kind       TEXT NOT NULL CHECK (kind IN ('manifest', 'blob')),
    media_type TEXT NOT NULL,
    size       BIGINT NOT NULL,
    blob_key   TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE image_links (
    manifest TEXT NOT NULL REFERENCES image_objects (digest) ON DELETE CASCADE,
    child    TEXT NOT NULL REFERENCES image_objects (digest) ON DELETE CASCADE,
    PRIMARY KEY (manifest, child)
);
CREATE INDEX image_links_child ON image_links (child);

CREATE TABLE image_tags (
    name       TEXT NOT NULL,
    tag        TEXT NOT NULL,
    digest     TEXT NOT NULL REFERENCES image_objects (digest),
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (name, tag)
);
CREATE INDEX image_tags_digest ON image_tags (digest);

CREATE TABLE uploads (
    id                {id},
    repository        TEXT NOT NULL,
    commit_id         TEXT NOT NULL,
    root              TEXT NOT NULL,
    indexer           TEXT NOT NULL,
    indexer_version   TEXT NOT NULL,
    content_type      TEXT NOT NULL,
    uncompressed_size BIGINT,
    state             TEXT NOT NULL CHECK (state IN ('uploading', 'queued')),
    num_parts         BIGINT NOT NULL,
    job_id            BIGINT,
    created_at        BIGINT NOT NULL,
    finished_at       BIGINT
);
CREATE INDEX uploads_repository ON uploads (repository, id);

CREATE TABLE upload_parts (
    upload_id  BIGINT NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
    part       BIGINT NOT NULL,
    size       BIGINT NOT NULL,
    blob_key   TEXT NOT NULL,
    PRIMARY KEY (upload_id, part)
);

CREATE TABLE workspace_files (
    file_id     TEXT PRIMARY KEY,
    spec_id     TEXT NOT NULL,
    path        TEXT NOT NULL,
    name        TEXT NOT NULL,
    size        BIGINT NOT NULL,
    blob_key    TEXT NOT NULL,
    modified_at BIGINT NOT NULL
);
CREATE INDEX workspace_files_spec ON workspace_files (spec_id);

CREATE TABLE settings (
    key        TEXT PRIMARY KEY,
    value      TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE audit_log (
    id     {id},
    at     BIGINT NOT NULL,
    actor  TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL
);
