//! The instance is killed with -9 and started again while a job streams its log.

use e2e::postgres::Postgres;
use e2e::world::{PATIENCE, World};

/// Prints its lines for several seconds.
pub const COUNTING: &str =
    "i=1; while [ $i -le 400 ]; do echo line $i.; i=$((i + 1)); usleep 20000; done";

/// Every line is there, once, in order. (The script's own text is in the log, too, on stderr.)
pub fn assert_counted(log: &str) {
    let mut expected = (1..=400).map(|number| format!("stdout: line {number}."));
    for (index, line) in log.lines().filter(|line| line.starts_with("stdout: ")).enumerate() {
        assert_eq!(
            expected.next().as_deref(),
            Some(line),
            "line {index} is lost, doubled or misplaced"
        );
    }
    assert_eq!(expected.next(), None, "lines are missing at the end");
}

async fn no_line_is_lost_or_doubled(mut world: World) {
    let _executor = world.executor("one", &[]).await;
    let counting = world.submit(COUNTING).await;
    counting.prints("line 100.", PATIENCE).await;

    world.instance.program().kill();
    world.instance.start_again().await;

    let done = counting.reaches("completed", PATIENCE).await;
    assert_eq!(done["attempt"], 1, "{done:#}");
    assert_counted(&counting.log().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_is_lost_or_doubled_on_sqlite() {
    no_line_is_lost_or_doubled(World::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_is_lost_or_doubled_on_postgresql() {
    let postgres = Postgres::start(false).await;
    no_line_is_lost_or_doubled(World::on(Some(postgres.url())).await).await;
}
