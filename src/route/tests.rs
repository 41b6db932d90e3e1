//! The table against a matcher that asks every route in turn.

use super::*;

struct Written {
    hosts: Vec<Box<str>>,
    methods: Methods,
    pattern: Pattern,
}

/// `path` is a prefix if it ends in `*`.
fn written(hosts: &[&str], methods: &str, path: &str) -> Written {
    let methods = methods.split(' ').filter_map(Methods::parse).fold(Methods::NONE, Methods::or);
    let pattern = match path.strip_suffix('*') {
        Some(prefix) => Pattern::Prefix(prefix.into()),
        None => Pattern::Exact(path.into()),
    };
    Written { hosts: hosts.iter().map(|host| (*host).into()).collect(), methods, pattern }
}

/// The payload of each route is its index.
fn table(routes: &[Written]) -> Result<Table<usize>, Clash<usize>> {
    let mut builder = Table::builder();
    for (i, route) in routes.iter().enumerate() {
        builder.insert(&[], &route.hosts, route.methods, &route.pattern, i)?;
    }
    Ok(builder.build())
}

fn house() -> Table<usize> {
    let routes = [
        written(&[], "GET", "/ws"),
        written(&[], "GET HEAD", "/object/*"),
        written(&[], "POST", "/object/part_limit"),
        written(&[], "GET POST", "/*"),
        written(&["admin.example.com", "ops.example.com"], "POST", "/msg/send_msg"),
        written(&["admin.example.com"], "POST", "/object/*"),
        written(&[], "PUT", "/ws"),
    ];
    table(&routes).unwrap()
}

#[test]
fn the_most_specific_route_is_found() {
    let house = house();
    let cases = [
        ("im.example.com", "GET", "/ws", Found::Route(&0)),
        ("im.example.com", "PUT", "/ws", Found::Route(&6)),
        ("im.example.com", "GET", "/ws/", Found::Route(&3)),
        ("im.example.com", "GET", "/WS", Found::Route(&3)),
        ("im.example.com", "GET", "/object/u1/a.png", Found::Route(&1)),
        ("im.example.com", "GET", "/object/", Found::Route(&1)),
        ("im.example.com", "GET", "/object", Found::Route(&3)),
        ("im.example.com", "GET", "/objectx", Found::Route(&3)),
        ("im.example.com", "POST", "/object/part_limit", Found::Route(&2)),
        ("im.example.com", "POST", "/msg/send_msg", Found::Route(&3)),
        ("admin.example.com", "POST", "/msg/send_msg", Found::Route(&4)),
        ("OPS.Example.com:8443", "POST", "/msg/send_msg", Found::Route(&4)),
        ("admin.example.com", "POST", "/object/x", Found::Route(&5)),
        ("admin.example.com", "GET", "/ws", Found::Route(&0)),
        ("", "GET", "/ws", Found::Route(&0)),
    ];
    for (host, method, path, expected) in cases {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(house.find(None, host, &method, path), expected, "{host} {method} {path}");
    }
}

#[test]
fn nothing_more_general_takes_a_method_that_the_path_does_not() {
    let house = house();
    let allowed = |host, method, path| match house.find(None, host, &method, path) {
        Found::MethodNotAllowed(methods) => methods.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(allowed("x", Method::POST, "/ws"), "GET, PUT");
    assert_eq!(allowed("x", Method::POST, "/object/a"), "GET, HEAD");
    assert_eq!(allowed("x", Method::GET, "/object/part_limit"), "POST");
    assert_eq!(allowed("admin.example.com", Method::GET, "/object/a"), "POST");
    assert_eq!(allowed("x", Method::OPTIONS, "/"), "GET, POST");
    assert_eq!(allowed("x", Method::from_bytes(b"get").unwrap(), "/"), "GET, POST");
}

#[test]
fn an_unknown_path_is_no_route() {
    let table = table(&[written(&[], "GET", "/a"), written(&["h"], "GET", "/b")]).unwrap();
    for (host, path) in [("h", "/c"), ("x", "/b"), ("h", ""), ("h", "a"), (&"h".repeat(300), "/b")] {
        assert_eq!(table.find(None, host, &Method::GET, path), Found::None, "{host} {path}");
    }
}

#[test]
fn routes_that_take_the_same_requests_clash() {
    let clash = |a, b| table(&[a, b]).err().map(|clash| (clash.earlier, clash.to_string(), clash.host));
    let text = |methods: &str| format!("{methods} is taken already");
    let cases = [
        (written(&[], "GET POST", "/a"), written(&[], "POST PUT", "/a"), Some((0, text("POST /a"), None))),
        (written(&[], "GET", "/a/*"), written(&[], "GET", "/a/*"), Some((0, text("GET /a/*"), None))),
        (
            written(&["h", "i"], "GET", "/a"),
            written(&["j", "i"], "GET", "/a"),
            Some((0, text("GET /a"), Some("i".into()))),
        ),
        (written(&["h"], "GET", "/a"), written(&[], "GET", "/a"), None),
        (written(&[], "GET", "/a"), written(&[], "POST", "/a"), None),
        (written(&[], "GET", "/a/"), written(&[], "GET", "/a/*"), None),
    ];
    for (a, b, expected) in cases {
        let named = format!("{} {}", a.pattern, b.pattern);
        assert_eq!(clash(a, b), expected, "{named}");
    }
}

#[test]
fn a_listener_has_what_names_it_and_what_names_none() {
    let on = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<Arc<str>>>();
    let mut builder = Table::builder();
    let mut add = |listeners: &[&str], hosts: &[&str], path: &str, route: usize| {
        let Written { hosts, methods, pattern } = written(hosts, "GET", path);
        let added = builder.insert(&on(listeners), &hosts, methods, &pattern, route);
        added.map_err(|clash| (clash.earlier, clash.listener))
    };
    assert_eq!(add(&[], &[], "/before", 0), Ok(()));
    assert_eq!(add(&["a"], &[], "/x", 1), Ok(()));
    assert_eq!(add(&["b"], &["h"], "/x", 2), Ok(()));
    assert_eq!(add(&[], &[], "/after", 3), Ok(()));
    assert_eq!(add(&["c", "a"], &[], "/x", 4), Err((1, Some("a".into()))));
    assert_eq!(add(&[], &[], "/x", 4), Err((1, Some("a".into()))));
    assert_eq!(add(&["b"], &[], "/after", 4), Err((3, Some("b".into()))));
    // A route that clashed on one listener is on none.
    assert_eq!(add(&["c"], &[], "/x", 4), Ok(()));
    let table = builder.build().try_map(|route| Ok::<_, ()>(*route)).unwrap();
    let cases = [
        (None, [None, Some(0), Some(3)]),
        (Some("unknown"), [None, Some(0), Some(3)]),
        (Some("a"), [Some(1), Some(0), Some(3)]),
        (Some("b"), [Some(2), Some(0), Some(3)]),
        (Some("c"), [Some(4), Some(0), Some(3)]),
    ];
    for (listener, expected) in cases {
        let found =
            ["/x", "/before", "/after"].map(|path| match table.find(listener, "h", &Method::GET, path) {
                Found::Route(route) => Some(*route),
                Found::MethodNotAllowed(_) | Found::None => None,
            });
        assert_eq!(found, expected, "{listener:?}");
    }
    assert_eq!(table.find(Some("b"), "i", &Method::GET, "/x"), Found::None);
}

#[test]
fn payloads_are_made_once_each() {
    let mut made = 0;
    let mapped = house().try_map(|i| {
        made += 1;
        Ok::<_, ()>(format!("route {i}"))
    });
    let mapped = mapped.unwrap();
    assert_eq!(made, 7);
    assert_eq!(
        mapped.find(None, "ops.example.com", &Method::POST, "/msg/send_msg"),
        Found::Route(&"route 4".to_owned())
    );
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n
    }

    fn path(&mut self) -> String {
        let segments = ["a", "b", "ab", "friend", "x1", "y", "z-9", "group"];
        let depth = 1 + self.below(6);
        let path: String = (0..depth).map(|_| format!("/{}", segments[self.below(segments.len())])).collect();
        if self.below(4) == 0 { path + "/" } else { path }
    }

    fn host(&mut self) -> &'static str {
        ["a.example", "b.example", "c.example"][self.below(3)]
    }

    fn method(&mut self) -> &'static str {
        Methods::NAMES[self.below(6)]
    }

    fn route(&mut self) -> Written {
        let path = self.path();
        // Only deep prefixes: a shallow one would take every path there is.
        let deep = path.ends_with('/') && path.matches('/').count() > 4;
        let star = if deep && self.below(2) == 0 { "*" } else { "" };
        let hosts = if self.below(3) == 0 { vec![self.host()] } else { Vec::new() };
        let methods = format!("{} {}", self.method(), self.method());
        written(&hosts, &methods, &format!("{path}{star}"))
    }
}

/// Asks every route in turn.
fn naive(routes: &[Written], host: &str, methods: Methods, path: &str) -> (Option<usize>, Methods) {
    let takes = |route: &&Written, tied: bool| {
        let at_home = route.hosts.is_empty() != tied && (!tied || route.hosts.iter().any(|h| &**h == host));
        let fits = match &route.pattern {
            Pattern::Exact(exact) => path == &**exact,
            Pattern::Prefix(prefix) => path.starts_with(&**prefix),
        };
        at_home && fits
    };
    let rank = |pattern: &Pattern| (matches!(pattern, Pattern::Exact(_)), pattern.path().len());
    for tied in [true, false] {
        let best = routes.iter().filter(|r| takes(r, tied)).map(|r| rank(&r.pattern)).max();
        let Some(best) = best else { continue };
        let all = || routes.iter().enumerate().filter(|(_, r)| takes(r, tied) && rank(&r.pattern) == best);
        let found = all().find(|(_, r)| !r.methods.and(methods).is_empty()).map(|(i, _)| i);
        return (found, all().fold(Methods::NONE, |set, (_, r)| set.or(r.methods)));
    }
    (None, Methods::NONE)
}

#[test]
fn ten_thousand_routes_agree_with_a_linear_search() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut builder = Table::builder();
    let mut routes = Vec::new();
    while routes.len() < 10_000 {
        let route = numbers.route();
        if builder.insert(&[], &route.hosts, route.methods, &route.pattern, routes.len()).is_ok() {
            routes.push(route);
        }
    }
    let table = builder.build();
    let (mut found, mut refused, mut none) = (0, 0, 0);
    for _ in 0..2_000 {
        let (host, path, name) = (numbers.host(), numbers.path(), numbers.method());
        let method = Method::from_bytes(name.as_bytes()).unwrap();
        let expected = naive(&routes, host, Methods::of(&method), &path);
        let actual = match table.find(None, host, &method, &path) {
            Found::Route(i) => (Some(*i), expected.1),
            Found::MethodNotAllowed(methods) => (None, methods),
            Found::None => (None, Methods::NONE),
        };
        assert_eq!(actual, expected, "{host} {name} {path}");
        match expected {
            (Some(_), _) => found += 1,
            (None, Methods::NONE) => none += 1,
            (None, _) => refused += 1,
        }
    }
    assert!(found > 100 && refused > 100 && none > 100, "{found} {refused} {none}");
}
