//! Reading and writing the small cookies of the pages. The session's own cookie belongs to
//! [`crate::http::auth`].

use http::{HeaderMap, HeaderValue, header};

/// The value of a cookie; the first one wins.
pub fn get<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok()).find_map(|line| {
        line.split(';').find_map(|pair| {
            let (key, value) = pair.trim().split_once('=')?;
            (key == name).then_some(value)
        })
    })
}

/// A `Set-Cookie` value, for names and values that need no quoting. No script reads it, no other site
/// sends it. `max_age` in seconds; 0 removes the cookie.
pub fn set(name: &'static str, value: &'static str, max_age: u32, secure: bool) -> HeaderValue {
    let secure = if secure { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age}{secure}");
    HeaderValue::from_str(&text).expect("names and values are literals of this program")
}
