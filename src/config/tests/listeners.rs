//! Listeners that have names, and routes that name them.

use std::path::Path;

use http::Method;
use tempfile::TempDir;

use super::{BASE, parse};
use crate::config::Config;
use crate::route::Found;

/// The base with these listeners and these routes.
fn text(listeners: &str, routes: &[&str]) -> String {
    let routes: String = routes.iter().map(|route| format!("  - {route}\n")).collect();
    let base = BASE.replace("{ address: 0.0.0.0:8080 }", listeners);
    assert!(base.contains(listeners), "{base}");
    base + &routes
}

/// Two listeners, each with a name.
const TWO: &str = "{ name: public, address: 0.0.0.0:8080 }, { name: admin, address: 127.0.0.1:8081 }";

fn first_lines(text: &str) -> Vec<String> {
    let error = parse(text).expect_err(text);
    error.faults().iter().map(|fault| fault.to_string().lines().next().unwrap().to_owned()).collect()
}

#[test]
fn names_that_make_no_sense_are_refused() {
    let cases = [
        ("{ name: a b, address: 0.0.0.0:1 }", "imgate.yaml:1:21: listeners[0].name: `a b` is no name"),
        ("{ name: '', address: 0.0.0.0:1 }", "imgate.yaml:1:21: listeners[0].name: `` is no name"),
        (
            "{ name: a, address: 0.0.0.0:1 }, { address: 0.0.0.0:2 }, { name: a, address: 0.0.0.0:3 }",
            "imgate.yaml:1:78: listeners[2].name: `a` is the name of listeners[0]",
        ),
        (
            "{ address: 127.0.0.1:0 }, { name: a, address: 127.0.0.1:0 }",
            "imgate.yaml:1:59: listeners[1].address: 127.0.0.1:0 stands here twice",
        ),
    ];
    for (listeners, expected) in cases {
        assert_eq!(first_lines(&text(listeners, &[])), [expected]);
    }
    // The listener for health and metrics has no routes, so it has no name.
    let admin = text(TWO, &[]).replace("public_url", "admin: { name: x, address: 127.0.0.1:9 }\npublic_url");
    assert_eq!(first_lines(&admin), ["imgate.yaml:2:10: admin: unknown key `name`"]);
    parse(&text("{ address: 127.0.0.1:0 }, { address: 127.0.0.1:0 }", &[])).unwrap();
}

#[test]
fn a_route_names_listeners_that_are_there() {
    let route =
        |listeners: &str| format!("{{ path: /x, upstream: chat, public: true, listeners: {listeners} }}");
    let refused = |listeners: &str| parse(&text(TWO, &[&route(listeners)])).unwrap_err().to_string();
    assert_eq!(
        refused("[admin, pubic]"),
        "imgate.yaml:10:66: routes[1].listeners[1]: no listener named `pubic`\n   |\n\
         10 |   - { path: /x, upstream: chat, public: true, listeners: [admin, pubic] }\n   \
         |                                                                  ^^^^^\n\
         hint: did you mean `public`?"
    );
    assert!(refused("[]").starts_with("imgate.yaml:10:58: routes[1].listeners: needs at least one entry"));
    assert!(refused("[elsewhere]").ends_with("hint: known are public, admin"));
    assert!(refused("admin").contains("routes[1].listeners: expected a list"));
    let none = parse(&text("{ address: 0.0.0.0:1 }", &[&route("[admin]")])).unwrap_err().to_string();
    assert!(none.ends_with("hint: there are none"), "{none}");
    // A bad address does not make the name unknown.
    let bad = text(&TWO.replace("127.0.0.1:8081", "8081"), &[&route("[admin]")]);
    assert_eq!(first_lines(&bad), ["imgate.yaml:1:78: listeners[1].address: `8081` is no address"]);
}

#[test]
fn routes_clash_only_on_a_listener_that_both_are_on() {
    let at =
        |listeners: &str| format!("{{ path: /x, upstream: chat, public: true, methods: [GET]{listeners} }}");
    let (both, public, admin) = (at(""), at(", listeners: [public]"), at(", listeners: [admin]"));
    let all = at(", listeners: [admin, public, admin]");
    let taken = |on: &str| {
        format!("imgate.yaml:11:13: routes[2].path: GET /x{on} is taken by routes[1] (imgate.yaml:10:13)")
    };
    let cases = [
        (&public, &admin, None),
        (&admin, &public, None),
        (&both, &both, Some(taken(""))),
        (&both, &admin, Some(taken(" on listener admin"))),
        (&admin, &both, Some(taken(" on listener admin"))),
        (&public, &all, Some(taken(" on listener public"))),
    ];
    for (first, second, expected) in cases {
        let text = text(TWO, &[first, second]);
        let found = parse(&text).err().map(|error| error.to_string().lines().next().unwrap().to_owned());
        assert_eq!(found, expected, "{first} {second}");
    }
    let hint = parse(&text(TWO, &[&both, &admin])).unwrap_err().to_string();
    assert!(hint.ends_with("hint: a route without `listeners` is on all of them"), "{hint}");
    let of_host = |listeners: &str| at(&format!(", hosts: [h]{listeners}"));
    let hosts = text(TWO, &[&of_host(""), &of_host(", listeners: [admin]")]);
    assert_eq!(first_lines(&hosts), [taken(" on h, listener admin,")]);
}

#[test]
fn a_listener_has_the_routes_that_name_it_and_those_that_name_none() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("t.yaml"), "post: [/a]\n").unwrap();
    let table = |at: &str| format!("{{ table: t.yaml, upstream: chat, public: true, {at} }}");
    let three = format!("{TWO}, {{ address: 127.0.0.1:8082 }}");
    let routes = [
        table("listeners: [admin]"),
        table("at: /both"),
        "{ prefix: /p/, upstream: chat, public: true, listeners: [public, admin] }".to_owned(),
    ];
    let routes = routes.each_ref().map(String::as_str);
    let config = Config::parse(&text(&three, &routes), "imgate.yaml", folder.path()).unwrap();
    let names: Vec<_> = config.listeners.iter().map(|listener| listener.name.as_deref()).collect();
    assert_eq!(names, [Some("public"), Some("admin"), None]);
    let found = |listener: Option<&str>| {
        ["/a", "/both/a", "/p/x", "/q"]
            .map(|path| matches!(config.routes.find(listener, "", &Method::POST, path), Found::Route(_)))
    };
    assert_eq!(found(Some("admin")), [true, true, true, false]);
    assert_eq!(found(Some("public")), [false, true, true, false]);
    assert_eq!(found(None), [false, true, false, false]);
}

/// What is commented out in the shipped file, mounted as its head says.
#[test]
fn tables_for_users_and_admins_share_their_paths_on_two_listeners() {
    let tables = [
        "{ table: openim-user.yaml, upstream: chat, public: true, listeners: [public] }",
        "{ table: openim-admin.yaml, upstream: chat, public: true, listeners: [admin] }",
    ];
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    Config::parse(&text(TWO, &tables), "imgate.yaml", &conf).unwrap_or_else(|error| panic!("{error}"));
    let untied = tables.map(|table| table.replace(", listeners: [public]", ""));
    let untied = text(TWO, &untied.each_ref().map(String::as_str));
    let clash = Config::parse(&untied, "imgate.yaml", &conf).unwrap_err().to_string();
    assert!(clash.contains(" on listener admin is taken by routes[1] ("), "{clash}");
}

/// What is wrong with one listener, and the folder's files.
fn said(listener: &str, files: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let error = Config::parse(&text(listener, &[]), "imgate.yaml", dir.path()).expect_err(listener);
    let folder = format!("{}/", dir.path().display());
    error.faults().iter().map(|fault| fault.to_string().replace(&folder, "")).collect()
}

#[test]
fn listeners_that_cannot_work_are_refused_with_their_place() {
    for (listener, expected) in [
        ("{ address: /run/x.sock }", "listeners[0].address: `/run/x.sock` is no address"),
        ("{ address: 'unix:x.sock' }", "listeners[0].address: `unix:x.sock` is no address"),
        ("{ address: 'unix:/run/x.sock', mode: 660 }", "listeners[0].mode: `660` is no mode"),
        ("{ address: 'unix:/run/x.sock', mode: 0060 }", "listeners[0].mode: `0060` is no mode"),
        ("{ address: 'unix:/run/x.sock', mode: 0o660 }", "listeners[0].mode: `0o660` is no mode"),
        (
            "{ address: 0.0.0.0:1, mode: 0660 }",
            "listeners[0].mode: `mode` means nothing but for a Unix socket",
        ),
        ("{ address: 0.0.0.0:1, http2: true }", "listeners[0].http2: `http2` means nothing without `tls`"),
        ("{ address: 0.0.0.0:1, tls: {} }", "listeners[0].tls: no certificate"),
        ("{ address: 0.0.0.0:1, tls: { certificate: a.crt } }", "listeners[0].tls: no certificate"),
        ("{ address: 0.0.0.0:1, tls: { certificates: [] } }", "listeners[0].tls: no certificate"),
        (
            "{ address: 0.0.0.0:1, tls: { certificate: a.crt, key: a.key } }",
            "listeners[0].tls.certificate: a.crt cannot be read: No such file",
        ),
        (
            "{ address: 0.0.0.0:1, tls: { certificates: [{ certificate: junk, key: junk }] } }",
            "listeners[0].tls.certificates[0]: no certificate in junk",
        ),
        (
            "{ address: 0.0.0.0:1, tls: { certificate: junk, key: junk, client_auth: required } }",
            "listeners[0].tls.client_auth: client certificates cannot be checked",
        ),
        ("{ address: 0.0.0.0:1, tls: { certificate: a, key: b, min_version: 1.1 } }", "unknown word `1.1`"),
        (
            "{ address: 0.0.0.0:1, proxy_protocol: { from: [] } }",
            "proxy_protocol.from: needs at least one entry",
        ),
        ("{ address: 0.0.0.0:1, proxy_protocol: { from: [10.0.0.1/8] } }", "the network is 10.0.0.0/8"),
        ("{ address: 0.0.0.0:1, proxy_protocol: {} }", "`from` is missing"),
    ] {
        let said = said(listener, &[("junk", "no PEM at all")]);
        assert!(said.iter().any(|fault| fault.contains(expected)), "{listener}: {said:?}");
    }
    let long = format!("{{ address: 'unix:/{}' }}", "x".repeat(107));
    assert!(said(&long, &[])[0].contains("has at most 107 bytes"));
    let admin = text(TWO, &[]).replace("public_url", "admin: { address: 'unix:/run/x' }\npublic_url");
    assert!(first_lines(&admin)[0].contains("admin.address: `unix:/run/x` is no address"));
    let twice = "{ address: 'unix:/run/x' }, { address: 'unix:/run/x' }";
    assert!(first_lines(&text(twice, &[]))[0].contains("unix:/run/x is taken by listeners[0]"));
}

#[test]
fn a_unix_socket_and_what_stands_in_front_are_understood() {
    let listener =
        "{ address: 'unix:/run/imgate/http.sock', mode: 0600, proxy_protocol: { from: [127.0.0.1] } }";
    let config = parse(&text(listener, &[])).unwrap();
    let [listener] = &config.listeners[..] else { panic!("{:?}", config.listeners) };
    assert_eq!(
        (listener.address.to_string().as_str(), listener.mode.0),
        ("unix:/run/imgate/http.sock", 0o600)
    );
    assert!(listener.proxy_protocol.as_ref().unwrap().from.contain([127, 0, 0, 1].into()));
    let trust =
        text(TWO, &[]).replace("public_url", "trusted_proxies: { addresses: [10.0.0.0/8] }\npublic_url");
    assert!(parse(&trust).unwrap().trusted_proxies.contain([10, 1, 2, 3].into()));
    let nobody = text(TWO, &[]).replace("public_url", "trusted_proxies: {}\npublic_url");
    assert!(first_lines(&nobody)[0].contains("trusted_proxies: names no address"));
    let caps = text(TWO, &[]).replace("public_url", "limits: { connections: 0 }\npublic_url");
    assert!(first_lines(&caps)[0].contains("limits.connections: must be above 0"));
}
