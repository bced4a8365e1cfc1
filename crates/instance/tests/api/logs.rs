//! Logs as text by byte range.

use reqwest::Method;

use super::jobs::FILE;
use crate::support::Instance;

#[tokio::test]
async fn whole_logs_entries_and_ranges() {
    let instance = Instance::start().await;
    let ada = instance.ada().await;
    let id = ada.submit(&instance, FILE).await;
    let path = format!("/jobs/{id}/logs");
    ada.get(&instance, &path).await.is(200, "");

    let run = instance.run().await;
    let first = run.entry("setup.git").await;
    run.output(first, 0, b"stdout: 0123\n", Some(0)).await;
    let second = run.entry("step.docker.a").await;
    run.output(second, 0, b"stdout: <script>\n", None).await;
    let whole = ada.get(&instance, &path).await;
    whole.is(200, "stdout: 0123\nstdout: <script>\n");
    assert_eq!(whole.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(whole.header("x-content-type-options"), "nosniff");
    assert_eq!(whole.header("cache-control"), "no-store");
    ada.get(&instance, &format!("{path}?entry=2")).await.is(200, "stdout: <script>\n");
    ada.get(&instance, &format!("{path}?entry=3")).await.says(404, "log entry not found");
    ada.get(&instance, &format!("{path}?attempt=2")).await.is(200, "");

    let range =
        async |range: &str| ada.send(&instance, Method::GET, &path, &[("range", range)], "").await;
    let part = range("bytes=8-15").await;
    part.is(206, "0123\nstd");
    assert_eq!(part.header("content-range"), "bytes 8-15/30");
    range("bytes=28-").await.is(206, ">\n");
    range("bytes=-3").await.is(206, "t>\n");
    let past = range("bytes=30-").await;
    assert_eq!((past.status, past.header("content-range")), (416, "bytes */30"));
    // What there is grows; a reader continues behind what it has.
    run.output(second, 17, b"stdout: more\n", Some(0)).await;
    range("bytes=30-").await.is(206, "stdout: more\n");
}

#[tokio::test]
async fn long_logs_come_in_pieces_and_whole() {
    let instance = Instance::start().await;
    let ada = instance.ada().await;
    let id = ada.submit(&instance, FILE).await;
    let run = instance.run().await;
    let entry = run.entry("step.docker.a").await;
    let mut offset = 0;
    let mut expected = Vec::new();
    for n in 0..20_u32 {
        let data = format!("stdout: {n} {}\n", "x".repeat(50_000)).into_bytes();
        run.output(entry, offset, &data, None).await;
        offset += data.len() as u64;
        expected.extend(data);
    }
    let answer = ada.get(&instance, &format!("/jobs/{id}/logs")).await;
    assert!(answer.body == expected, "{} of {} bytes", answer.body.len(), expected.len());
    let headers = [("range", "bytes=500000-500099")];
    let part = ada.send(&instance, Method::GET, &format!("/jobs/{id}/logs"), &headers, "").await;
    assert_eq!(part.body, expected[500_000..500_100]);
}
