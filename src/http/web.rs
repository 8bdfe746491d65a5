//! The chat page and its modules, the client library that it is made with, and the page that shows the API of services: all in
//! the binary. Part of [`super::routes`].

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::IntoResponse,
    routing::get,
};

/// A page talks to its own node or to the one that a person names; nothing else may run or load in it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; \
                      img-src data:; base-uri 'none'; form-action 'none'";
/// The API's page has its style in the file.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; \
                           img-src data:; base-uri 'none'; form-action 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TYPES: &str = "text/plain; charset=utf-8";

/// Path, content type, policy, text.
type File = (&'static str, &'static str, &'static str, &'static str);

macro_rules! page_files {
    ($($name:literal)*) => {
        [$((concat!("/", $name), SCRIPT, POLICY, include_str!(concat!("web/", $name)))),*]
    };
}

const MODULES: [File; 16] = page_files!(
    "app.mjs" "session.mjs" "chat.mjs" "model.mjs" "text.mjs" "dom.mjs" "list.mjs" "log.mjs" "message.mjs" "actions.mjs"
    "composer.mjs" "rooms.mjs" "search.mjs" "notify.mjs" "listing.mjs" "pieces.mjs"
);

const FILES: [File; 6] = [
    ("/", HTML, POLICY, include_str!("web/index.html")),
    ("/style.css", STYLE, POLICY, include_str!("web/style.css")),
    ("/natter.js", SCRIPT, POLICY, include_str!("../../clients/js/natter.js")),
    ("/natter.d.ts", TYPES, POLICY, include_str!("../../clients/js/natter.d.ts")),
    ("/v1/docs", HTML, DOCS_POLICY, include_str!("web/docs.html")),
    ("/v1/docs.mjs", SCRIPT, DOCS_POLICY, include_str!("web/docs.mjs")),
];

/// The page's routes. `ancestors` may show it in a frame.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(ancestors: &[String]) -> Router<S> {
    FILES.into_iter().chain(MODULES).fold(Router::new(), |router, (path, kind, policy, text)| {
        let policy = with_ancestors(policy, ancestors);
        router.route(path, get(async move || file(kind, text, policy)))
    })
}

/// The value of `Content-Security-Policy`.
fn with_ancestors(policy: &str, ancestors: &[String]) -> HeaderValue {
    let source = |ancestor: &String| if ancestor == "self" { "'self'".to_owned() } else { ancestor.clone() };
    let sources = ancestors.iter().map(source).collect::<Vec<_>>().join(" ");
    let sources = if sources.is_empty() { "'none'" } else { &sources };
    // The configuration was checked before; whatever could not stand in a header would allow nobody.
    HeaderValue::try_from(format!("{policy}; frame-ancestors {sources}"))
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
