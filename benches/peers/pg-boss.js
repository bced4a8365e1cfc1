// Full job cycles per second of pg-boss: send, fetch, complete, by WORKERS at a time.
// usage: node pg-boss.js URL JOBS WORKERS; prints one JSON object.
import PgBoss from "pg-boss";

const [url, jobs, workers] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const boss = new PgBoss({ connectionString: url, max: workers, supervise: false, schedule: false });
boss.on("error", (error) => {
  console.error(error);
  process.exit(1);
});
await boss.start();
await boss.createQueue("bench");

const each = (work) => Promise.all(Array.from({ length: workers }, work));

const started = performance.now();
let sent = 0;
await each(async () => {
  while (sent++ < jobs) await boss.send("bench", { repository: "example", step: "count" });
});
let completed = 0;
await each(async () => {
  while (completed < jobs) {
    const [job] = await boss.fetch("bench");
    if (!job) break;
    await boss.complete("bench", job.id);
    completed++;
  }
});
const seconds = (performance.now() - started) / 1000;
if (completed !== jobs) throw new Error(`completed ${completed} of ${jobs}`);
console.log(JSON.stringify({ jobs, seconds }));
await boss.stop({ graceful: false });
process.exit(0);
