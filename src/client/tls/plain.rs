//! What stands in for [`super::secure`] in a build without the feature `tls`: `ws://` only.

use std::{io, path::Path};

use tokio::net::TcpStream;
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream,
    tungstenite::{
        Error as WsError,
        handshake::client::{Request, Response},
        protocol::WebSocketConfig,
    },
};

/// Always refused.
pub(super) fn connector(_file: Option<&Path>) -> Result<Connector, String> {
    Err("this program was built without TLS: enable natter's feature `tls`, or connect with ws://".into())
}

/// Connects without TLS.
pub(in super::super) async fn dial(
    request: Request,
    config: WebSocketConfig,
    _plain: Connector,
) -> Result<(WebSocketStream<MaybeTlsStream<TcpStream>>, Response), WsError> {
    tokio_tungstenite::connect_async_with_config(request, Some(config), true).await
}

/// Never because of TLS.
pub(in super::super) fn why_failed(_error: &io::Error) -> Option<String> {
    None
}
