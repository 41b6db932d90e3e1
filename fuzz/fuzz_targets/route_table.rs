//! The route table finds what a plain search through the list would find, and a path that is let through
//! means the same after decoding.

#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use http::Method;
use imgate::route::{Found, Methods, Pattern, Table, check_path};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    routes: Vec<Written>,
    asked: Vec<Asked>,
    paths: Vec<String>,
}

#[derive(Arbitrary, Debug)]
struct Written {
    listener: Option<Name>,
    host: Option<Name>,
    prefix: bool,
    segments: Vec<Name>,
    methods: u8,
}

#[derive(Arbitrary, Debug)]
struct Asked {
    listener: Option<Name>,
    host: Name,
    segments: Vec<Name>,
    slash: bool,
    method: u8,
}

/// Few names, so that routes and requests meet.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    A,
    B,
    Ab,
    Long,
}

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::Ab => "ab",
            Self::Long => "get_friend_list",
        }
    }
}

/// A route as it is searched for plainly.
struct Plain {
    listener: Option<Name>,
    host: Option<Name>,
    pattern: Pattern,
    methods: Methods,
    number: usize,
}

const METHODS: [Method; 3] = [Method::GET, Method::POST, Method::PUT];

fuzz_target!(|input: Input| {
    let mut builder = Table::builder();
    let mut plain: Vec<Plain> = Vec::new();
    for (number, route) in input.routes.iter().enumerate().take(64) {
        let pattern = pattern(route);
        let methods = METHODS.iter().enumerate().filter(|(i, _)| route.methods & (1 << i) != 0);
        let methods = methods.fold(Methods::NONE, |all, (_, method)| all.or(Methods::of(method)));
        if methods.is_empty() {
            continue;
        }
        let hosts: Vec<Box<str>> = route.host.iter().map(|host| host.as_str().into()).collect();
        let clashes = plain.iter().any(|other| {
            let shared = [other.listener, route.listener].contains(&None) || other.listener == route.listener;
            shared
                && other.host == route.host
                && other.pattern == pattern
                && !other.methods.and(methods).is_empty()
        });
        let listeners: Vec<Arc<str>> = route.listener.iter().map(|name| name.as_str().into()).collect();
        let inserted = builder.insert(&listeners, &hosts, methods, &pattern, number).is_ok();
        assert_eq!(inserted, !clashes, "{pattern}");
        if inserted {
            plain.push(Plain { listener: route.listener, host: route.host, pattern, methods, number });
        }
    }
    let table = builder.build();
    for asked in input.asked.iter().take(64) {
        let path = path(&asked.segments, asked.slash);
        let method = &METHODS[usize::from(asked.method) % METHODS.len()];
        let host = asked.host.as_str().to_ascii_uppercase();
        let found = table.find(asked.listener.map(Name::as_str), &host, method, &path);
        let here: Vec<&Plain> =
            plain.iter().filter(|r| r.listener.is_none() || r.listener == asked.listener).collect();
        assert_eq!(found, search(&here, asked.host, method, &path), "{method} {host} {path}");
    }
    for path in input.paths.iter().filter(|path| check_path(path).is_ok()) {
        means_one_thing(path);
    }
});

fn path(segments: &[Name], slash: bool) -> String {
    let mut path: String = segments.iter().take(8).map(|name| format!("/{}", name.as_str())).collect();
    if slash || path.is_empty() {
        path.push('/');
    }
    path
}

fn pattern(route: &Written) -> Pattern {
    let path = path(&route.segments, route.prefix);
    if route.prefix { Pattern::Prefix(path.into()) } else { Pattern::Exact(path.into()) }
}

/// Routes of the host before others, exact before prefix, longer before shorter; the first that fits
/// the path decides.
fn search<'a>(plain: &[&'a Plain], host: Name, method: &Method, path: &str) -> Found<'a, usize> {
    for of_host in [Some(host), None] {
        let fits = |route: &&&'a Plain| {
            route.host == of_host
                && match &route.pattern {
                    Pattern::Exact(exact) => **exact == *path,
                    Pattern::Prefix(prefix) => path.starts_with(&**prefix),
                }
        };
        let rank =
            |route: &&&'a Plain| (matches!(route.pattern, Pattern::Exact(_)), route.pattern.path().len());
        let Some(best) = plain.iter().filter(fits).max_by_key(rank) else { continue };
        let alike: Vec<&'a Plain> =
            plain.iter().filter(fits).copied().filter(|r| r.pattern == best.pattern).collect();
        let wanted = Methods::of(method);
        return match alike.iter().find(|route| !route.methods.and(wanted).is_empty()) {
            Some(route) => Found::Route(&route.number),
            None => Found::MethodNotAllowed(alike.iter().fold(Methods::NONE, |all, r| all.or(r.methods))),
        };
    }
    Found::None
}

/// A server that decodes the path, and perhaps cleans it, sees the same segments as we do.
fn means_one_thing(path: &str) {
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
    let count = |bytes: &[u8]| bytes.iter().filter(|b| **b == b'/').count();
    assert_eq!(count(path.as_bytes()), count(&decoded), "{path}");
    assert!(!decoded.iter().any(|b| matches!(b, b'\\' | b'%' | b';') || b.is_ascii_control()), "{path}");
    for segment in decoded.split(|b| *b == b'/') {
        assert!(segment != b"." && segment != b"..", "{path}");
    }
    assert!(!decoded.windows(2).any(|pair| pair == b"//"), "{path}");
}
