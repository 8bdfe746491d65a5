//! What a service is told over HTTP when its request is refused: `application/problem+json` (RFC 9457) with the protocol's
//! code. The status of each code stands here and nowhere else. Called by [`super`].

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::protocol::{Encoding, ErrorCode, Op, Refused};

/// The content type of every refusal.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// The status of a refusal.
pub(super) fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadFrame | ErrorCode::BadName | ErrorCode::BadBody => StatusCode::BAD_REQUEST,
        ErrorCode::NotMember | ErrorCode::NotAllowed | ErrorCode::Blocked | ErrorCode::Rejected => {
            StatusCode::FORBIDDEN
        }
        // Who asks is known; without a good token it is 401 (`Fault::unknown_caller`).
        ErrorCode::Unauthorized => StatusCode::FORBIDDEN,
        ErrorCode::UnknownOp | ErrorCode::NotFound | ErrorCode::NoSuchRoom => StatusCode::NOT_FOUND,
        ErrorCode::RoomExists | ErrorCode::RoomFull | ErrorCode::LastOwner => StatusCode::CONFLICT,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::CidReused | ErrorCode::BadAck | ErrorCode::BadRef => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        // No node says it.
        ErrorCode::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The other statuses, each with the code that comes with it.
pub(super) const MORE: [(StatusCode, ErrorCode); 3] = [
    (StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized),
    (StatusCode::REQUEST_TIMEOUT, ErrorCode::BadFrame),
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::BadFrame),
];

/// Why a request was refused.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) refused: Refused,
    /// The connection cannot go on: what is left of the request was not read.
    pub(super) ends: bool,
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        Self { status: status_of(refused.code), refused, ends: false }
    }
}

impl Fault {
    /// One of the request's form, which the protocol has no code of its own for.
    pub(super) fn of_form(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, refused: Refused::new(ErrorCode::BadFrame, text), ends: false }
    }

    /// There is no token, or none that is good.
    pub(super) fn unknown_caller(text: impl Into<String>) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, ..Refused::new(ErrorCode::Unauthorized, text).into() }
    }

    /// The connection ends with the answer.
    pub(super) fn ending(self) -> Self {
        Self { ends: true, ..self }
    }

    /// The answer.
    pub(super) fn into_response(self, request_id: &str) -> Response {
        let Self { status, refused, ends } = self;
        let problem = Problem::new(status, refused, request_id);
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON))];
        let mut response = (status, kind, Encoding::Json.encode(&problem)).into_response();
        let mut set = |name: HeaderName, value| drop(response.headers_mut().insert(name, value));
        if let Some(wait) = problem.retry_after_ms {
            set(header::RETRY_AFTER, HeaderValue::from(wait.div_ceil(1000).max(1)));
        }
        if status == StatusCode::UNAUTHORIZED {
            set(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"natter\""));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            set(header::ALLOW, HeaderValue::from_static("POST"));
        }
        if ends {
            set(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Why a request was refused (RFC 9457).
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Problem {
    /// Where the code is explained, relative to the request.
    #[serde(rename = "type")]
    kind: String,
    /// What the code means.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// Which field, what limit, what to do: for people.
    detail: String,
    /// What programs compare.
    code: ErrorCode,
    /// The field or the header that is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// Whether the same request, with the same cid, may succeed later.
    retry: bool,
    /// How long to wait before that, in milliseconds, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// The request's id, as in `X-Request-Id`.
    request_id: String,
}

impl Problem {
    fn new(status: StatusCode, refused: Refused, request_id: &str) -> Self {
        let Refused { code, message, retry_after_ms } = refused;
        Self {
            kind: format!("/v1/docs#{}", code.word()),
            title: code.about(),
            status: status.as_u16(),
            field: field_of(&message).map(str::to_owned),
            detail: message,
            code,
            retry: code.retry(),
            retry_after_ms,
            request_id: request_id.to_owned(),
        }
    }
}

/// Refusals begin with the field that is at fault, and a colon.
fn field_of(message: &str) -> Option<&str> {
    const OTHERS: [&str; 7] =
        ["from", "op", "token", "Content-Type", "Content-Encoding", "Authorization", "Idempotency-Key"];
    let (field, _) = message.split_once(": ")?;
    let is_known = OTHERS.contains(&field) || Op::ALL.iter().any(|op| op.has_field(field));
    is_known.then_some(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_status_of_a_refusal() {
        for code in ErrorCode::ALL {
            let status = status_of(*code);
            assert!(status.is_client_error() || status.is_server_error(), "{code:?}: {status}");
            // A proxy or a client library may try a 5xx and a 429 again by itself, and nothing else.
            let again = status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS;
            assert_eq!(again, code.retry(), "{code:?}: {status}");
            assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR);
        }
    }

    #[test]
    fn the_page_has_every_status_with_its_codes() {
        let page = include_str!("../../../docs/services.md");
        for code in ErrorCode::ALL {
            let start = format!("| {} | ", status_of(*code).as_u16());
            let row = page.lines().find(|line| line.starts_with(&start));
            let row = row.unwrap_or_else(|| panic!("docs/services.md has no row {start}"));
            assert!(row.contains(&format!("`{}`", code.word())), "{code:?} is not in {row}");
        }
    }

    #[test]
    fn the_field_is_named() {
        assert_eq!(field_of("cid: missing"), Some("cid"));
        assert_eq!(field_of("Idempotency-Key: must be there once"), Some("Idempotency-Key"));
        assert_eq!(field_of("the request is not JSON: EOF"), None);
        assert_eq!(field_of("form: no such field; the fields are to"), None);
    }

    #[test]
    fn a_refusal_for_load_says_when_to_come_back() {
        let refused = Refused::new(ErrorCode::Unavailable, "full").after(1_200);
        let response = Fault::from(refused).into_response("x");
        assert_eq!(
            (response.status().as_u16(), &response.headers()[header::RETRY_AFTER]),
            (503, &"2".parse().unwrap())
        );
    }
}
