//! The instance is killed with -9 and started again while a job streams its log.

use e2e::postgres::Postgres;
use e2e::world::{PATIENCE, World};

/// Prints its lines for several seconds.
pub const COUNTING: &str =
    "i=1; while [ $i -le 400 ]; do echo line $i.; i=$((i + 1)); usleep 20000; done";

/// Every line is there, once, in order.
pub fn assert_counted(log: &str) {
    let lines: Vec<&str> =
        log.lines().filter_map(|line| line.split_once("line ")).map(|(_, n)| n).collect();
    let expected: Vec<String> = (1..=400).map(|i| format!("{i}.")).collect();
    assert_eq!(lines, expected, "a line is lost, doubled or out of order");
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
