//! Object storage behind the gateway's own name: a real S3 server that checks signatures, URLs that
//! somebody else signed, gigabytes in little memory, and what breaks off on either side.

mod storage;
mod streams;

use std::sync::{Arc, Mutex};

use serde_json::json;

use self::storage::{BUCKET, Signed, Storage};
use crate::support::{Client, Gateway, Got, Reply, Sent, Setup, Upstream, leaks, ok};

/// The name by which clients know the gateway, and for which URLs are signed.
const HOST: &str = "im.example.com";

const ROUTE: &str = "  - { prefix: /openim/, methods: [GET, HEAD, PUT, POST], upstream: storage, stream: true, \
    object_names: true, public: true, chain: objects }";

/// A gateway before this storage, set up as `conf/openim.yaml` has it.
fn before(storage: std::net::SocketAddr) -> Setup {
    let mut setup = Setup::at(storage, storage, "");
    setup.store = "memory: {}".to_owned();
    setup.upstreams = format!("  storage: {{ servers: [\"{storage}\"], read_timeout: 30s }}");
    setup.chains = "  objects:
    - operation_id: {}
    - strip_credentials: { keep_sigv4: true }
    - cors: { expose_headers: [ETag] }"
        .to_owned();
    setup.routes = ROUTE.to_owned();
    setup
}

async fn world() -> (Storage, Gateway) {
    let storage = Storage::start();
    let gateway = before(storage.address).start().await;
    (storage, gateway)
}

/// A request by a signed URL.
fn by(method: &str, url: &Signed) -> Sent {
    Sent::new(method, &url.target).without("Host").header("Host", &url.host)
}

async fn ask(gateway: &Gateway, sent: &Sent) -> Reply {
    Client::once(gateway.address, sent).await
}

/// Puts an object, and gives its name back by all that is done with one.
fn put_and_get(host: &str, key: &str) -> [Signed; 3] {
    let jobs =
        ["put_object", "get_object", "head_object"].map(|operation| (operation, json!({ "Key": key })));
    storage::urls(host, &jobs).try_into().unwrap()
}

#[tokio::test]
async fn presigned_urls_work_by_the_gateways_own_name() {
    let (storage, gateway) = world().await;
    let [put, get, head] = put_and_get(HOST, "data/hash/0123456789abcdef");
    let stored = ask(&gateway, &by("PUT", &put).body(b"0123456789")).await;
    assert_eq!(stored.status, 200, "{}", stored.text());

    let whole = ask(&gateway, &by("GET", &get)).await;
    assert_eq!((whole.status, whole.text().as_str()), (200, "0123456789"));
    let direct = Client::once(storage.address, &by("GET", &get)).await;
    for name in ["etag", "last-modified", "content-type", "content-length", "accept-ranges"] {
        assert_eq!(whole.header(name), direct.header(name), "{name}");
    }
    assert_eq!(whole.header("etag"), Some("\"781e5e245d69b566979b86e28d23f2c7\""));
    assert!(whole.header("operationID").is_some());

    let part = ask(&gateway, &by("GET", &get).header("Range", "bytes=2-4")).await;
    assert_eq!((part.status, part.text().as_str()), (206, "234"));
    assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
    let beyond = ask(&gateway, &by("GET", &get).header("Range", "bytes=20-")).await;
    assert_eq!(beyond.status, 416);
    let described = ask(&gateway, &by("HEAD", &head)).await;
    assert_eq!((described.status, described.header("content-length")), (200, Some("10")));
    assert_eq!(described.header("etag"), whole.header("etag"));
}

#[tokio::test]
async fn the_storage_sees_the_host_path_and_query_that_were_signed_and_its_refusals_pass() {
    let (storage, gateway) = world().await;
    let [put, get, _] = put_and_get(HOST, "a.txt");
    assert_eq!(ask(&gateway, &by("PUT", &put).body(b"x")).await.status, 200);
    let others = put_and_get("storage.internal:9000", "a.txt");
    let elsewhere = Signed { host: HOST.to_owned(), ..others[1].clone() };
    let forged = [
        elsewhere,
        Signed { host: "evil.example".to_owned(), ..get.clone() },
        Signed { target: get.target.replace("a.txt", "b.txt"), ..get.clone() },
        Signed { target: get.target.replace("X-Amz-Expires=600", "X-Amz-Expires=601"), ..get.clone() },
        Signed { target: format!("/{BUCKET}/a.txt"), ..get.clone() },
    ];
    for url in forged {
        let refused = ask(&gateway, &by("GET", &url)).await;
        let direct = Client::once(storage.address, &by("GET", &url)).await;
        assert_eq!((refused.status, direct.status), (403, 403), "{url:?}: {}", refused.text());
        assert_eq!(refused.header("content-type"), direct.header("content-type"));
        assert!(refused.text().contains("<Code>"), "{}", refused.text());
    }
    let missing = storage::urls(HOST, &[("get_object", json!({ "Key": "none" }))]).remove(0);
    let missing = ask(&gateway, &by("GET", &missing)).await;
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("<Code>NoSuchKey</Code>"), "{}", missing.text());
}

#[tokio::test]
async fn any_name_of_an_object_arrives_as_it_was_signed() {
    let (_storage, gateway) = world().await;
    let names = [
        "a b.txt",
        "图片/猫 🐈.png",
        "100%.png",
        "%41%2F.txt",
        "a+b=c&d;e,f?g#h:i@j$k!.txt",
        "~tilde-_.'(*)[]{}|^`<>\"",
        "a\\b",
        "a..b/...c/.d",
    ];
    let jobs: Vec<_> = names
        .iter()
        .flat_map(|name| ["put_object", "get_object"].map(|operation| (operation, json!({ "Key": name }))))
        .collect();
    for (name, urls) in names.iter().zip(storage::urls(HOST, &jobs).chunks(2)) {
        let stored = ask(&gateway, &by("PUT", &urls[0]).body(name.as_bytes())).await;
        assert_eq!(stored.status, 200, "{name}: {}", stored.text());
        let got = ask(&gateway, &by("GET", &urls[1])).await;
        assert_eq!((got.status, got.text().as_str()), (200, *name), "{name}");
    }
}

/// An upstream that notes what it gets.
async fn notes() -> (Upstream, Arc<Mutex<Vec<Got>>>) {
    let seen: Arc<Mutex<Vec<Got>>> = Arc::default();
    let notes = Arc::clone(&seen);
    let upstream = Upstream::start(move |got| {
        notes.lock().unwrap().push(got);
        async { vec![crate::support::Act::Send(ok("{}"))] }
    })
    .await;
    (upstream, seen)
}

#[tokio::test]
async fn a_name_is_forwarded_byte_by_byte_or_refused_if_it_could_lead_elsewhere() {
    let (upstream, seen) = notes().await;
    let mut setup = before(upstream.address);
    setup.routes += "\n  - { prefix: /openim/private/, upstream: openim_api, chain: user, bind: none }
  - { prefix: /openim/plain/, upstream: storage, stream: true, public: true }
  - { path: /openim/exact, upstream: openim_api, chain: user, bind: none }";
    let gateway = setup.start().await;
    let taken = [
        "/openim/%41%2e.%2E%7e",
        "/openim/a%2Fb%2fc",
        "/openim/a//b",
        "/openim/",
        "/openim/a//",
        "/openim/x%5Cy%3Bz%25",
        "/openim/100%2525",
        "/openim/%F0%9F%90%88%ff?X-Amz-Credential=a%2Fb/c+d%20e&X=%zz&&;",
        "/openim/x/private/y",
        "/openim/%70rivate",
    ];
    for target in taken {
        let reply = ask(&gateway, &Sent::new("GET", target)).await;
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        let head = seen.lock().unwrap().pop().unwrap().head;
        assert_eq!(head.lines().next().unwrap(), format!("GET {target} HTTP/1.1"));
    }
    let refused = [
        "/openim/../friend/x",
        "/openim/a/..",
        "/openim/%2e%2e/x",
        "/openim/a/.%2E",
        "/openim/a%2f..%2fb",
        "/openim/a%5c..%5cb",
        "/openim/a/%2e%2e%3bx/b",
        "/openim/%252e%252e/x",
        "/openim/a%252f%2e%252e",
        "/openim/%00",
        "/openim/a%0d%0ab",
        "/openim/%2500",
        "/openim/%",
        "/openim/%4",
        "/openim/%zz",
        "/openim/a;b",
        "/openim/%41;b",
        r"/openim/%41\b",
        r"/openim/a\b",
        // Below a route of its own, whoever reads it so.
        "/openim//private/x",
        "/openim/%70rivate/x",
        "/openim/private%2Fx",
        "/openim/private%252Fx",
        "/openim/x%2F..%2Fprivate/x",
        "/openim/%65xact",
        // And from without.
        "//openim/x",
        "/openim%2fx",
        "/%6fpenim/x",
        "/openim/plain/%41",
        "/openim/plain//x",
        "/openim/private/%41",
    ];
    for target in refused {
        let reply = ask(&gateway, &Sent::new("GET", target)).await;
        assert_eq!(reply.verdict(), (400, 20202), "{target}: {}", reply.text());
    }
    assert!(seen.lock().unwrap().is_empty(), "something reached the storage");
}

#[tokio::test]
async fn parts_are_uploaded_as_openim_has_them_signed() {
    let (_storage, gateway) = world().await;
    let key = json!({ "Key": "data/hash/parts" });
    let begin = storage::urls(HOST, &[("create_multipart_upload", key.clone())]).remove(0);
    let begun = ask(&gateway, &by("POST", &begin).body(b"")).await;
    let text = begun.text();
    let id = text.split("<UploadId>").nth(1).and_then(|rest| rest.split('<').next());
    let id = id.unwrap_or_else(|| panic!("no upload: {} {text}", begun.status));

    let mut etags = Vec::new();
    for (number, byte) in [(1, b'a'), (2, b'b')] {
        let body = vec![byte; if number == 1 { 5 * 1024 * 1024 } else { 10 }];
        let target = format!("/{BUCKET}/data/hash/parts?partNumber={number}&uploadId={id}");
        let mut sent = Sent::new("PUT", &target).body(&body);
        sent.headers.extend(storage::headers("PUT", HOST, &target));
        // What an app sends along everywhere is not signed, and not for the storage.
        let sent = sent.header("token", "x").header("Cookie", "a=b");
        let stored = ask(&gateway, &sent).await;
        assert_eq!(stored.status, 200, "{number}: {}", stored.text());
        etags.push(stored.header("etag").unwrap().to_owned());
    }
    let listed: String = (1..)
        .zip(&etags)
        .map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"))
        .collect();
    let whole = format!("<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>");
    let params = json!({ "Key": "data/hash/parts", "UploadId": id });
    let [end, get] = storage::urls(HOST, &[("complete_multipart_upload", params), ("get_object", key)])
        .try_into()
        .unwrap();
    let ended = ask(&gateway, &by("POST", &end).body(whole.as_bytes())).await;
    assert_eq!(ended.status, 200, "{}", ended.text());
    let got = ask(&gateway, &by("GET", &get).header("Range", "bytes=5242878-5242881")).await;
    assert_eq!((got.status, got.text().as_str()), (206, "aabb"));
}

#[tokio::test]
async fn a_form_uploads_by_the_policy_that_was_signed() {
    let (storage, gateway) = world().await;
    let fields = storage::form(HOST, "direct/form.txt");
    let form = |fields: &[(String, String)]| {
        let field = |(name, value): &(String, String)| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let fields: String = fields.iter().map(field).collect();
        let file =
            "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\nhello\r\n--b--\r\n";
        Sent::new("POST", &format!("/{BUCKET}/"))
            .header("Content-Type", "multipart/form-data; boundary=b")
            .body((fields + file).as_bytes())
    };
    let stored = ask(&gateway, &form(&fields)).await;
    assert!((200..300).contains(&stored.status), "{}: {}", stored.status, stored.text());
    let get = storage::urls(HOST, &[("get_object", json!({ "Key": "direct/form.txt" }))]).remove(0);
    assert_eq!(ask(&gateway, &by("GET", &get)).await.text(), "hello");

    let mut forged = fields;
    forged.iter_mut().filter(|(name, _)| name == "key").for_each(|(_, key)| key.insert(0, 'x'));
    let refused = ask(&gateway, &form(&forged)).await;
    let direct = Client::once(storage.address, &form(&forged)).await;
    assert!((400..500).contains(&refused.status), "{}", refused.text());
    assert_eq!((refused.status, refused.text()), (direct.status, direct.text()));
}

#[tokio::test]
async fn no_credential_reaches_the_storage_but_its_own_signature() {
    let (upstream, seen) = notes().await;
    let gateway = before(upstream.address).start().await;
    let theirs =
        "AWS4-HMAC-SHA256 Credential=a/20300101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0a";
    for name in ["a-secret-of-openim-1", "a-secret-of-an-app-2", "a-secret-of-a-page-3"] {
        leaks::secret(name);
    }
    for (authorization, passes) in [(theirs, true), ("Bearer a-secret-of-an-app-2", false)] {
        let sent = Sent::new("PUT", "/openim/x")
            .header("token", "a-secret-of-openim-1")
            .header("Cookie", "s=a-secret-of-a-page-3")
            .header("Authorization", authorization)
            .header("X-Amz-Date", "20300101T000000Z")
            .header("X-Amz-Meta-Kept", "1")
            .header("Content-MD5", "XrY7u+Ae7tCTyyK7j1rNww==");
        ask(&gateway, &sent.body(b"x")).await;
        let got = seen.lock().unwrap().pop().unwrap();
        assert!(!got.head.contains("a-secret-of-"), "{}", got.head);
        assert_eq!(got.header("authorization"), passes.then_some(theirs));
        for (name, value) in [
            ("x-amz-date", "20300101T000000Z"),
            ("x-amz-meta-kept", "1"),
            ("content-md5", "XrY7u+Ae7tCTyyK7j1rNww=="),
            ("host", HOST),
            ("content-length", "1"),
            ("x-forwarded-for", "127.0.0.1"),
        ] {
            assert_eq!(got.header(name), Some(value), "{name}");
        }
    }
}

#[tokio::test]
async fn a_page_may_upload_and_read_the_etag() {
    let (_storage, gateway) = world().await;
    let [put, get, _] = put_and_get(HOST, "from a page//+.txt");
    let origin = "https://app.example.com";
    let preflight = by("OPTIONS", &put)
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "PUT")
        .header("Access-Control-Request-Headers", "content-type, x-amz-date");
    let allowed = ask(&gateway, &preflight).await;
    assert_eq!((allowed.status, allowed.copies("access-control-allow-origin")), (204, 1));
    assert_eq!(allowed.header("access-control-allow-headers"), Some("content-type, x-amz-date"));
    for sent in [by("PUT", &put).body(b"hello"), by("GET", &get)] {
        let reply = ask(&gateway, &sent.header("Origin", origin)).await;
        assert_eq!((reply.status, reply.copies("access-control-allow-origin")), (200, 1), "{}", reply.text());
        assert!(reply.header("access-control-expose-headers").unwrap().ends_with(", ETag"));
        assert!(reply.header("etag").is_some());
    }
}

#[tokio::test]
async fn the_storage_may_have_a_host_name_of_its_own() {
    let storage = Storage::start();
    let mut setup = before(storage.address);
    setup.routes = "  - { prefix: /, hosts: [objects.example.com], upstream: storage, stream: true, \
        object_names: true, public: true, chain: objects }"
        .to_owned();
    let gateway = setup.start().await;
    let [put, get, _] = put_and_get("objects.example.com:8443", "a//b %2e.txt");
    assert_eq!(ask(&gateway, &by("PUT", &put).body(b"hello")).await.status, 200);
    assert_eq!(ask(&gateway, &by("GET", &get)).await.text(), "hello");
    let elsewhere = Signed { host: HOST.to_owned(), ..get };
    assert_eq!(ask(&gateway, &by("GET", &elsewhere)).await.status, 400);
    let plain = Sent::new("GET", "/openim/x");
    assert_eq!(ask(&gateway, &plain).await.verdict(), (404, 20201));
}

#[tokio::test]
async fn a_place_in_front_of_signed_paths_stays_at_the_gateway() {
    let storage = Storage::start();
    let mut setup = before(storage.address);
    setup.routes = ROUTE.replace("prefix: /openim/", "prefix: /openim/, at: /im-minio-api");
    let gateway = setup.start().await;
    let below = |url: &Signed| Signed { target: format!("/im-minio-api{}", url.target), ..url.clone() };
    let [put, get, _] = put_and_get(HOST, "a b%+.txt");
    assert_eq!(ask(&gateway, &by("PUT", &below(&put)).body(b"hello")).await.status, 200);
    assert_eq!(ask(&gateway, &by("GET", &below(&get))).await.text(), "hello");
    // What reads as no route at all, with the place or without, is refused.
    assert_eq!(ask(&gateway, &by("GET", &get)).await.status, 400);
    assert_eq!(ask(&gateway, &Sent::new("GET", "/im-minio-api/minio/admin/v3/info")).await.status, 404);
    assert_eq!(ask(&gateway, &Sent::new("GET", "/im-minio-api//openim/x")).await.status, 400);
}
