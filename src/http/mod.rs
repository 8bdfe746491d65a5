//! HTTP beside the sockets: health, metrics, the web page.
