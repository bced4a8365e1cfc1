//! The session cookie.

use axum::http::header::{COOKIE, HeaderMap, HeaderValue};

/// Name of the cookie.
pub const NAME: &str = "executors_session";
/// The browser keeps it as long as browsers allow; the session itself ends earlier, by use.
const MAX_AGE_SECONDS: u64 = 400 * 86_400;

/// The session token in a request's cookies.
pub fn read(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        cookies.flat_map(|text| text.split(';')).filter_map(|p| p.trim().split_once('='));
    pairs.find(|(name, _)| *name == NAME).map(|(_, value)| value)
}

/// `Set-Cookie` for a new session. Not readable by scripts, not sent along from other sites, and
/// over TLS only when users come over TLS.
pub fn set(token: &str, https: bool) -> HeaderValue {
    write(token, MAX_AGE_SECONDS, https)
}

/// `Set-Cookie` that removes it.
pub fn clear(https: bool) -> HeaderValue {
    write("", 0, https)
}

fn write(value: &str, max_age: u64, https: bool) -> HeaderValue {
    let secure = if https { "; Secure" } else { "" };
    let text = format!("{NAME}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::try_from(text).expect("a session token is hexadecimal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=b; executors_session=ab12; c"));
        assert_eq!(read(&headers), Some("ab12"));
        headers.clear();
        headers.append(COOKIE, HeaderValue::from_static("xexecutors_session=no"));
        assert_eq!(read(&headers), None);
    }

    #[test]
    fn attributes() {
        let plain = set("ab", false);
        let text = plain.to_str().unwrap();
        assert!(
            text.contains("HttpOnly") && text.contains("SameSite=Lax") && !text.contains("Secure")
        );
        assert!(set("ab", true).to_str().unwrap().ends_with("; Secure"));
        assert!(clear(false).to_str().unwrap().contains("Max-Age=0"));
    }
}
