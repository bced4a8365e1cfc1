//! The user API under `/api/v1`, for people's programs and our own command line.
//!
//! Authority is an argument of each handler (see [`crate::http::auth`]). Everybody who is logged in
//! sees repositories, images, executors and the state of all jobs; what a job produced (output,
//! results, artifacts), cancel and retry are for its creator and site admins.

mod executors;
mod extract;
pub(crate) mod images;
pub mod jobs;
mod openapi;
pub(crate) mod repositories;
mod tokens;
pub mod types;
mod users;
mod version;

use std::sync::Arc;

use axum::Router;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, Method};
use axum::response::{IntoResponse as _, Response};
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::http::error::Error;
pub use openapi::document;

/// Where it is.
pub const PREFIX: &str = "/api/v1";

/// Routes of the user API. An unknown path or method below it is answered in the API's own words.
pub fn router() -> Router<Arc<App>> {
    let (router, _) = routes_and_document().split_for_parts();
    let router = router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        // Answers depend on who asks, and change.
        .layer(SetResponseHeaderLayer::if_not_present(
            CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ));
    Router::new().nest(PREFIX, router)
}

/// All routes on one page.
fn routes_and_document() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(version::version))
        .routes(routes!(openapi::openapi))
        .routes(routes!(jobs::list::list, jobs::submit::submit))
        .routes(routes!(jobs::get::get))
        .routes(routes!(jobs::cancel::cancel))
        .routes(routes!(jobs::retry::retry))
        .routes(routes!(jobs::hold::hold, jobs::hold::release))
        .routes(routes!(jobs::logs::logs))
        .routes(routes!(jobs::artifacts::list))
        .routes(routes!(jobs::artifacts::download))
        .routes(routes!(executors::list))
        .routes(routes!(executors::drain))
        .routes(routes!(executors::undrain))
        .routes(routes!(repositories::list, repositories::add))
        .routes(routes!(repositories::get, repositories::remove))
        .routes(routes!(repositories::sync))
        .routes(routes!(images::list))
        .routes(routes!(images::remove))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::me))
        .routes(routes!(users::get, users::update, users::remove))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
}

async fn unknown() -> Error {
    Error::NotFound("route")
}

async fn wrong_method(method: Method) -> Response {
    let error = Error::BadRequest(format!("method {method} is not allowed here"));
    let mut response = error.into_response();
    *response.status_mut() = axum::http::StatusCode::METHOD_NOT_ALLOWED;
    response
}
