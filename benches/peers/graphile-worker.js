// Full job cycles per second of graphile-worker: add, run a task that does nothing, by WORKERS at a time.
// usage: node graphile-worker.js URL JOBS WORKERS; prints one JSON object.
import pg from "pg";
import { Logger, makeWorkerUtils, run } from "graphile-worker";

const [url, jobs, workers] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const pgPool = new pg.Pool({ connectionString: url, max: workers + 2 });
pgPool.on("error", console.error);
const logger = new Logger(() => () => {});
const utils = await makeWorkerUtils({ pgPool, logger });
await utils.migrate();

const started = performance.now();
let added = 0;
await Promise.all(
  Array.from({ length: workers }, async () => {
    while (added++ < jobs) await utils.addJob("bench", { repository: "example", step: "count" });
  }),
);
let ran = 0;
let allDone;
const done = new Promise((resolve) => (allDone = resolve));
const runner = await run({
  pgPool,
  logger,
  concurrency: workers,
  noHandleSignals: true,
  pollInterval: 1000,
  taskList: { bench: async () => { ran++; } },
});
runner.events.on("job:complete", () => {
  if (ran === jobs) allDone();
});
await done;
// The last completions are still being written.
const left = "select count(*)::int as n from graphile_worker.jobs";
while ((await pgPool.query(left)).rows[0].n > 0) { /* ask again */ }
const seconds = (performance.now() - started) / 1000;
console.log(JSON.stringify({ jobs, seconds }));
await runner.stop();
process.exit(0);
