//! Style sheet, scripts and pictures: part of the binary, addressed by their content's hash, cached for
//! good.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    url: String,
}

macro_rules! asset {
    ($name:literal, $file:literal, $content_type:literal) => {{
        let bytes: &'static [u8] = include_bytes!(concat!("../../assets/", $file));
        let hash = hex::encode(&Sha256::digest(bytes)[..8]);
        Asset {
            name: $name,
            content_type: $content_type,
            bytes,
            url: format!("/assets/{hash}/{}", $name),
        }
    }};
}

static ASSETS: LazyLock<[Asset; 10]> = LazyLock::new(|| {
    [
        asset!("style.css", "style.css", "text/css; charset=utf-8"),
        asset!("app.js", "app.js", "text/javascript; charset=utf-8"),
        asset!("htmx.js", "vendor/htmx-2.0.11.min.js", "text/javascript; charset=utf-8"),
        asset!("htmx-sse.js", "vendor/htmx-ext-sse-2.2.4.min.js", "text/javascript; charset=utf-8"),
        asset!("terminal.js", "terminal.js", "text/javascript; charset=utf-8"),
        asset!("xterm.js", "vendor/xterm-6.0.0.min.js", "text/javascript; charset=utf-8"),
        asset!(
            "xterm-fit.js",
            "vendor/xterm-addon-fit-0.11.0.min.js",
            "text/javascript; charset=utf-8"
        ),
        asset!("xterm.css", "vendor/xterm-6.0.0.css", "text/css; charset=utf-8"),
        asset!("icons.svg", "icons.svg", "image/svg+xml"),
        asset!("logo.svg", "logo.svg", "image/svg+xml"),
    ]
});

/// The address of an asset, which changes with its content.
///
/// # Panics
/// For a name that is not in the list; the names are literals in templates, and a test renders them all.
pub fn url(name: &str) -> &'static str {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    &asset.expect("templates name assets that exist").url
}

/// `GET /assets/{hash}/{name}`: anyone. An old hash answers 404, so that a cache never stores new content
/// under an old address.
pub(super) async fn serve(Path((hash, name)): Path<(String, String)>) -> Response {
    let path = format!("/assets/{hash}/{name}");
    let Some(asset) = ASSETS.iter().find(|asset| asset.url == path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, asset.bytes).into_response()
}
