//! A PROXY header is read to its end and not a byte further, whatever comes; only whole ones count.

#![no_main]

use imgate::front::proxy_protocol::{Progress, parse};
use libfuzzer_sys::fuzz_target;

/// The longest header that is taken, in bytes.
const LONGEST: usize = 4096;

fuzz_target!(|bytes: &[u8]| {
    let mut taken = 0;
    loop {
        match parse(&bytes[..taken]) {
            Ok(Progress::Needs(more)) => {
                assert!(more > 0, "it would wait for ever");
                assert!(taken + more <= LONGEST, "it would take more than a header");
                if taken + more > bytes.len() {
                    return;
                }
                taken += more;
            }
            Ok(Progress::Done(origin)) => {
                // One byte less was no header, and none of those that follow counts.
                assert!(matches!(parse(&bytes[..taken - 1]), Ok(Progress::Needs(_))));
                let again = [&bytes[..taken], b"GET / HTTP/1.1\r\n"].concat();
                assert_eq!(parse(&again[..taken]), Ok(Progress::Done(origin)));
                return;
            }
            Err(_) => return,
        }
    }
});
