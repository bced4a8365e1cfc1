//! Answers of the pages: HTML, and "go there and say this".

use askama::Template;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{StatusCode, header};

use super::flash::{self, Flash};
use super::{cookie, visitor::Visitor};
use crate::App;
use crate::http::error::Error;

/// Seconds that a message waits for its page.
const FLASH_AGE: u32 = 60;

/// A page. A message it shows is thereby used up.
pub(super) fn page(visitor: &Visitor, template: &impl Template) -> Result<Response, Error> {
    let mut response = html(StatusCode::OK, template)?;
    if visitor.flash.is_some() {
        let used = cookie::set(flash::COOKIE, "", 0, false);
        response.headers_mut().append(header::SET_COOKIE, used);
    }
    Ok(response)
}

/// A page with a status, for forms with mistakes and for everybody.
pub(super) fn html(status: StatusCode, template: &impl Template) -> Result<Response, Error> {
    let html = template.render().map_err(Error::internal)?;
    Ok((status, Html(html)).into_response())
}

/// Leads to `path`, which shows the message.
pub(super) fn go(app: &App, path: &str, flash: Flash) -> Response {
    let mut response = Redirect::to(path).into_response();
    let secure = app.config.current().is_https();
    let cookie = cookie::set(flash::COOKIE, flash.name(), FLASH_AGE, secure);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

/// A path of ours that was handed in, or `/jobs`: never another site.
pub(super) fn own_path(path: &str) -> &str {
    let ours = path.starts_with('/')
        && !path.starts_with("//")
        && !path.contains(['\\', '\r', '\n'])
        && !path.chars().any(char::is_control);
    if ours { path } else { "/jobs" }
}

#[cfg(test)]
mod tests {
    use super::own_path;

    #[test]
    fn nobody_is_sent_elsewhere() {
        assert_eq!(own_path("/jobs?queue=jobs"), "/jobs?queue=jobs");
        for bad in
            ["", "//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil", "jobs"]
        {
            assert_eq!(own_path(bad), "/jobs", "{bad}");
        }
    }
}
