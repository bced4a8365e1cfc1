//! Kept files.

use reqwest::Method;

use super::jobs::FILE;
use crate::support::Instance;

#[tokio::test]
async fn artifacts_are_listed_and_saved() {
    let instance = Instance::start().await;
    let ada = instance.ada().await;
    let id = ada.submit(&instance, FILE).await;
    let run = instance.run().await;
    run.artifact("out/page.html", b"<script>alert(1)</script>").await;
    run.artifact("out/a b\u{e4}.txt", b"x").await;
    run.completes().await;
    let base = format!("/jobs/{id}/artifacts");
    let list = ada.get(&instance, &base).await.json();
    assert_eq!(list["artifacts"].as_array().unwrap().len(), 2);
    let page = ada.get(&instance, &format!("{base}/out/page.html")).await;
    page.is(200, "<script>alert(1)</script>");
    assert_eq!(page.header("content-type"), "application/octet-stream");
    assert_eq!(page.header("content-disposition"), "attachment; filename*=UTF-8''page.html");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    ada.get(&instance, &format!("{base}/out/a%20b%C3%A4.txt")).await.is(200, "x");
    let range = [("range", "bytes=1-6")];
    let part = ada.send(&instance, Method::GET, &format!("{base}/out/page.html"), &range, "").await;
    part.is(206, "script");
    assert_eq!(part.header("content-range"), "bytes 1-6/25");
    for odd in ["nope", "out%2fpage.html%00", "..%2f..%2finstance.db", "/etc/passwd"] {
        let answer = ada.get(&instance, &format!("{base}/{odd}")).await;
        assert_eq!(answer.status, 404, "{odd}");
    }
}
