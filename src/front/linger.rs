//! Closing a connection whose client may still be sending.
//!
//! A kernel that has unread bytes of a connection when it is closed resets it, and the reset may overtake
//! the answer that was just written (RFC 9112 section 9.6). So our side is ended first, and what still comes
//! is read and dropped, within bounds.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::socket::Left;

/// How long the client may take to close its side.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most that is read and dropped, in bytes.
const MOST: usize = 1024 * 1024;

/// How much is read at once.
const READ: usize = 8 * 1024;

/// Ends our side, and reads until the client has ended its own, has sent too much or takes too long.
pub(super) async fn close(mut left: Left) {
    // It is given up either way.
    let _ = tokio::time::timeout(PATIENCE, async {
        left.wire.shutdown().await?;
        let mut dropped = 0;
        let mut buf = if left.ended { Vec::new() } else { vec![0; READ] };
        while !buf.is_empty() && dropped < MOST {
            match left.wire.read(&mut buf).await? {
                0 => break,
                n => dropped += n,
            }
        }
        std::io::Result::Ok(())
    })
    .await;
}
