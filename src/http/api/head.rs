//! What the head of a request says: its id, its key, how its body is written, and who sends it. Called by [`super`].

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::problem::Fault;
use crate::{
    model::Cid,
    protocol::{ErrorCode, Refused},
};

/// Names a request in answers and logs.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Names what a request does: sent again with it, it is done once.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The longest id that is taken over.
const REQUEST_ID_BYTES: usize = 128;

/// The caller's own id for the request; a new one where there is none that may stand in a log.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let fits = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=REQUEST_ID_BYTES).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    };
    let made = || HeaderValue::try_from(format!("{:032x}", rand::random::<u128>())).ok();
    headers.get(REQUEST_ID).filter(fits).cloned().or_else(made).unwrap_or(HeaderValue::from_static("-"))
}

/// The value of a header that may stand there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName, shown: &str) -> Result<Option<&'a HeaderValue>, Fault> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(Fault::of_form(StatusCode::BAD_REQUEST, format!("{shown}: must be there once"))),
    }
}

/// The token of `Authorization: Bearer …`.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, Fault> {
    let hint = "Authorization: must be Bearer and a service's token (natter token --service)";
    let value = only(headers, &header::AUTHORIZATION, "Authorization")?;
    let words = value.and_then(|value| value.to_str().ok()).and_then(|value| value.split_once(' '));
    let token = words.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    token.filter(|token| !token.is_empty()).ok_or_else(|| Fault::unknown_caller(hint))
}

/// Whether the body is JSON, as it stands.
pub(super) fn is_json(headers: &HeaderMap) -> Result<(), Fault> {
    let wrong = |text| Err(Fault::of_form(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    let coding = only(headers, &header::CONTENT_ENCODING, "Content-Encoding")?;
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return wrong("Content-Encoding: send the body as it is");
    }
    let kind = only(headers, &header::CONTENT_TYPE, "Content-Type")?.and_then(|kind| kind.to_str().ok());
    let essence = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    match essence {
        Some(essence) if essence.eq_ignore_ascii_case("application/json") => Ok(()),
        _ => wrong("Content-Type: must be application/json (curl --json)"),
    }
}

/// The key as the cid that it is; quotes around it are taken off, as the draft of the header has them.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<Cid>, Fault> {
    let Some(value) = only(headers, &IDEMPOTENCY_KEY, "Idempotency-Key")? else { return Ok(None) };
    let bad = |text: String| Refused::new(ErrorCode::BadName, format!("Idempotency-Key: {text}"));
    let text = value.to_str().map_err(|_| bad("must be visible ASCII".into()))?.trim();
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    Ok(Some(Cid::new(bare).map_err(|wrong| bad(wrong.to_string()))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(name, value);
        }
        map
    }

    #[test]
    fn an_id_that_could_break_a_log_is_not_taken_over() {
        assert_eq!(request_id(&headers(&[("x-request-id", "abc-1")])), "abc-1");
        for bad in ["", "a b", &"x".repeat(129)] {
            let made = request_id(&headers(&[("x-request-id", bad)]));
            assert!(made != bad && made.len() == 32, "{bad:?}: {made:?}");
        }
    }

    #[test]
    fn a_key_is_a_cid() {
        let read = |value| key(&headers(&[("idempotency-key", value)]));
        for (value, cid) in [("abc", "abc"), ("\"abc\"", "abc"), ("\"", "\""), ("a b", "a b")] {
            assert_eq!(read(value).unwrap(), Cid::new(cid).ok(), "{value}");
        }
        assert!(read("").is_err() && read("\"\"").is_err() && read(&"x".repeat(65)).is_err());
        assert!(key(&headers(&[("idempotency-key", "a"), ("idempotency-key", "a")])).is_err());
        assert_eq!(key(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn a_body_is_json_and_nothing_else() {
        for (kind, good) in
            [("application/json", true), ("Application/JSON; charset=utf-8", true), ("text/json", false)]
        {
            assert_eq!(is_json(&headers(&[("content-type", kind)])).is_ok(), good, "{kind}");
        }
        assert!(is_json(&HeaderMap::new()).is_err());
        let zipped = [("content-type", "application/json"), ("content-encoding", "gzip")];
        assert_eq!(is_json(&headers(&zipped)).unwrap_err().status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }

    #[test]
    fn a_token_stands_behind_bearer() {
        let lines = headers(&[("authorization", "bearer a.b.c")]);
        assert_eq!(bearer(&lines).unwrap(), "a.b.c");
        for bad in ["a.b.c", "Basic a", "Bearer", "Bearer  "] {
            let fault = bearer(&headers(&[("authorization", bad)])).unwrap_err();
            assert_eq!(fault.status, StatusCode::UNAUTHORIZED, "{bad}");
        }
        assert_eq!(bearer(&HeaderMap::new()).unwrap_err().status, StatusCode::UNAUTHORIZED);
    }
}
