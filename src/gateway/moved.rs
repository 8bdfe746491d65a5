//! How much of what was written the peer's system has taken. Whoever reads slowly over a slow way answers no ping that is
//! still on its way, and is not dead while bytes move. "Written" says nothing about that: the system's own buffer
//! takes megabytes at once, and then nothing for minutes.
//!
//! Asked by the pump and by [`super::patient`], now and then.

use tokio::net::TcpStream;

use crate::session::Moved;

/// What the peer has taken since the connection began. On systems other than Linux nothing can be told.
#[cfg(target_os = "linux")]
pub(super) fn moved(stream: &TcpStream) -> Moved {
    use std::os::fd::AsRawFd;

    /// Where `struct tcp_info` (linux/tcp.h, 4.6 and later) has its fields.
    const UNACKED: usize = 24;
    const BYTES_ACKED: usize = 120;
    const NOTSENT_BYTES: usize = 144;
    const LEN: usize = NOTSENT_BYTES + 4;

    let mut info = [0_u8; 512];
    let mut len = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to the buffer, and `len` to itself.
    let done = unsafe {
        let (into, len) = (info.as_mut_ptr().cast(), &raw mut len);
        libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, into, len)
    };
    if done != 0 || (len as usize) < LEN {
        return Moved::default();
    }
    let word = |at: usize| info[at..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    let bytes = info[BYTES_ACKED..].first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    Moved { bytes, more: word(UNACKED) > 0 || word(NOTSENT_BYTES) > 0 }
}

/// What the peer has taken since the connection began. On systems other than Linux nothing can be told.
#[cfg(not(target_os = "linux"))]
pub(super) fn moved(_: &TcpStream) -> Moved {
    Moved::default()
}
