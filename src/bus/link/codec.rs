//! Bytes to [`ServerOp`]s and [`ClientOp`]s to bytes, without I/O and without a state: what is incomplete is read again
//! from its start. Called by the connection and while one is made.

use std::io::Write as _;

use super::ops::{ClientOp, Info, Msg, ServerOp, Sid};

/// The longest line that is read. INFO names all servers of a cluster; everything else is far shorter.
const MAX_LINE: usize = 256 << 10;

/// The largest message that is read: no server can be configured to take more.
const MAX_MESSAGE: usize = 64 << 20;

/// The longest command line that servers take, by their default: longer ones end the connection.
const MAX_COMMAND: usize = 4_096;

/// What a PUB has besides subject and reply subject, at most: the verb, blanks, a length, line ends.
pub(super) const PUB_COST: usize = 4 + 1 + 1 + 20 + 2 + 2;

/// What the start of a buffer is.
#[derive(Debug, PartialEq)]
pub(super) enum Decoded<'a> {
    /// A whole op, and how many bytes it took.
    Op(ServerOp<'a>, usize),
    /// The start of one: it cannot be whole with fewer bytes than these.
    Part(usize),
}

/// What no NATS server sends. The connection cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a line is longer than {MAX_LINE} bytes")]
    LongLine,
    #[error("a message is larger than {MAX_MESSAGE} bytes")]
    LargeMessage,
    #[error("an unknown command")]
    Verb,
    #[error("a message line with wrong arguments")]
    Arguments,
    #[error("a message that is not as long as its line says")]
    Length,
    #[error("an INFO that is not its JSON")]
    Info,
}

/// Reads what stands at the start of `bytes`.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded<'_>, Malformed> {
    let Some(end) = bytes.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        return if bytes.len() < MAX_LINE { Ok(Decoded::Part(bytes.len() + 1)) } else { Err(Malformed::LongLine) };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    let verb_end = line.iter().position(is_blank).unwrap_or(line.len());
    let (verb, arguments) = line.split_at(verb_end);
    let op = match verb {
        b"MSG" => return message(bytes, arguments, end + 1, false),
        b"HMSG" => return message(bytes, arguments, end + 1, true),
        b"PING" => ServerOp::Ping,
        b"PONG" => ServerOp::Pong,
        b"+OK" => ServerOp::Ok,
        b"-ERR" => ServerOp::Err(unquoted(arguments)),
        b"INFO" => ServerOp::Info(serde_json::from_slice::<Box<Info>>(arguments).map_err(|_| Malformed::Info)?),
        _ => return Err(Malformed::Verb),
    };
    Ok(Decoded::Op(op, end + 1))
}

/// `<subject> <sid> [reply] [header bytes] <total bytes>`, and after the line as many bytes and a line end.
fn message<'a>(
    bytes: &'a [u8],
    arguments: &'a [u8],
    start: usize,
    has_headers: bool,
) -> Result<Decoded<'a>, Malformed> {
    let mut words = [&arguments[..0]; 6];
    let mut count = 0;
    for word in arguments.split(is_blank).filter(|word| !word.is_empty()) {
        *words.get_mut(count).ok_or(Malformed::Arguments)? = word;
        count += 1;
    }
    let lengths = if has_headers { 2 } else { 1 };
    let reply = match count.checked_sub(lengths) {
        Some(2) => None,
        Some(3) => Some(words[2]),
        _ => return Err(Malformed::Arguments),
    };
    let sid: Sid = number(words[1]).ok_or(Malformed::Arguments)?;
    let total = length(words[count - 1])?;
    let headers = if has_headers { length(words[count - 2])? } else { 0 };
    if headers > total {
        return Err(Malformed::Arguments);
    }
    let end = start + total;
    match bytes.get(end..end + 2) {
        None => Ok(Decoded::Part(end + 2)),
        Some(b"\r\n") => {
            let (headers, payload) = bytes[start..end].split_at(headers);
            let msg = Msg { subject: words[0], sid, reply, headers, payload };
            Ok(Decoded::Op(ServerOp::Msg(msg), end + 2))
        }
        Some(_) => Err(Malformed::Length),
    }
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() || !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    word.iter().try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

fn length(word: &[u8]) -> Result<usize, Malformed> {
    let length = number(word).ok_or(Malformed::Arguments)?;
    usize::try_from(length).ok().filter(|length| *length <= MAX_MESSAGE).ok_or(Malformed::LargeMessage)
}

fn unquoted(arguments: &[u8]) -> &[u8] {
    let text = arguments.trim_ascii();
    text.strip_prefix(b"'").and_then(|text| text.strip_suffix(b"'")).unwrap_or(text)
}

/// Whether a publish with these subjects makes one command line that the server takes. Subjects are minted, but reply
/// subjects hold texts from outside.
pub(super) fn is_line(subject: &str, reply: Option<&str>) -> bool {
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte > b' ' && byte != 0x7f);
    let length = subject.len() + reply.map_or(0, str::len) + PUB_COST;
    length <= MAX_COMMAND && is_word(subject) && reply.is_none_or(is_word)
}

/// Writes an op behind what is in `out`.
pub(super) fn encode(op: &ClientOp<'_>, out: &mut Vec<u8>) {
    match *op {
        ClientOp::Connect(connect) => {
            out.extend_from_slice(b"CONNECT ");
            // Texts and flags, into memory: there is nothing that could fail.
            let _ = serde_json::to_writer(&mut *out, connect);
        }
        ClientOp::Ping => out.extend_from_slice(b"PING"),
        ClientOp::Pong => out.extend_from_slice(b"PONG"),
        ClientOp::Sub { filter, sid } => {
            let _ = write!(out, "SUB {filter} {sid}");
        }
        ClientOp::Unsub { sid } => {
            let _ = write!(out, "UNSUB {sid}");
        }
        ClientOp::Pub { subject, reply, payload } => {
            out.extend_from_slice(b"PUB ");
            for word in [Some(subject), reply].into_iter().flatten() {
                out.extend_from_slice(word.as_bytes());
                out.push(b' ');
            }
            let _ = write!(out, "{}\r\n", payload.len());
            out.extend_from_slice(payload);
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
