//! The web page, one HTML file and three ES modules, and the page that shows the API of services: all in the
//! binary. Part of [`super::routes`].

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::IntoResponse,
    routing::get,
};

/// The page talks to its own node or to the one that a person names; nothing else may run or load in it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

const FILES: [(&str, &str, &str); 6] = [
    ("/", "text/html; charset=utf-8", include_str!("web/index.html")),
    ("/app.mjs", SCRIPT, include_str!("web/app.mjs")),
    ("/link.mjs", SCRIPT, include_str!("web/link.mjs")),
    ("/view.mjs", SCRIPT, include_str!("web/view.mjs")),
    ("/v1/docs", "text/html; charset=utf-8", include_str!("web/docs.html")),
    ("/v1/docs.mjs", SCRIPT, include_str!("web/docs.mjs")),
];

/// The page's routes. `ancestors` may show it in a frame.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(ancestors: &[String]) -> Router<S> {
    let policy = policy(ancestors);
    FILES.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        let policy = policy.clone();
        router.route(path, get(async move || file(kind, text, policy)))
    })
}

/// The value of `Content-Security-Policy`.
fn policy(ancestors: &[String]) -> HeaderValue {
    let source = |ancestor: &String| if ancestor == "self" { "'self'".to_owned() } else { ancestor.clone() };
    let sources = ancestors.iter().map(source).collect::<Vec<_>>().join(" ");
    let sources = if sources.is_empty() { "'none'" } else { &sources };
    // The configuration was checked before; whatever could not stand in a header would allow nobody.
    HeaderValue::try_from(format!("{POLICY}; frame-ancestors {sources}"))
        .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"))
}

fn file(kind: &'static str, text: &'static str, policy: HeaderValue) -> impl IntoResponse {
    let headers: [(HeaderName, HeaderValue); 4] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text)
}
