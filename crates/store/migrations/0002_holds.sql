-- Machines of failed jobs that are kept, and the terminals that were opened to them.

-- Seconds to keep a job's machine if it fails: as the job file says, and what a site admin said last
-- (NULL = nothing), which counts.
ALTER TABLE jobs ADD COLUMN hold_seconds BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN hold_wish BIGINT;
ALTER TABLE jobs ADD COLUMN hold_wish_at BIGINT;

-- A hold belongs to an attempt; its token is that attempt's. Open until `ended_at`.
CREATE TABLE holds (
    job_id      BIGINT NOT NULL,
    attempt     BIGINT NOT NULL,
    queue       TEXT NOT NULL,
    executor    TEXT NOT NULL,
    held_at     BIGINT NOT NULL,
    held_until  BIGINT NOT NULL,
    seen_at     BIGINT NOT NULL,
    released_by TEXT NOT NULL DEFAULT '',
    ended_at    BIGINT,
    end_reason  TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (job_id, attempt),
    FOREIGN KEY (job_id, attempt) REFERENCES attempts (job_id, attempt) ON DELETE CASCADE
);
CREATE INDEX holds_open ON holds (executor, job_id) WHERE ended_at IS NULL;

-- `opened_by` is the name at the time: a record outlives the account. Sizes count bytes.
CREATE TABLE terminals (
    id           {id},
    job_id       BIGINT NOT NULL,
    attempt      BIGINT NOT NULL,
    opened_by_id BIGINT NOT NULL,
    opened_by    TEXT NOT NULL,
    cols         BIGINT NOT NULL,
    rows         BIGINT NOT NULL,
    opened_at    BIGINT NOT NULL,
    closed_at    BIGINT,
    close_reason TEXT NOT NULL DEFAULT '',
    exit_code    BIGINT,
    input_size   BIGINT NOT NULL DEFAULT 0,
    output_size  BIGINT NOT NULL DEFAULT 0,
    events       BIGINT NOT NULL DEFAULT 0,
    FOREIGN KEY (job_id, attempt) REFERENCES holds (job_id, attempt) ON DELETE CASCADE
);
CREATE INDEX terminals_hold ON terminals (job_id, attempt);

-- The recording: what was typed ('i'), printed ('o') and how it was resized ('r', data = '80x24').
-- `start` is the place in the stream of that kind. Numbers are handed out under the terminal's lock.
CREATE TABLE terminal_events (
    terminal_id BIGINT NOT NULL REFERENCES terminals (id) ON DELETE CASCADE,
    seq         BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('i', 'o', 'r')),
    start       BIGINT NOT NULL,
    size        BIGINT NOT NULL,
    data        {bytes} NOT NULL,
    PRIMARY KEY (terminal_id, seq)
);
CREATE INDEX terminal_events_stream ON terminal_events (terminal_id, kind, start);
