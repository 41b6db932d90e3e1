//! Uploads, and the links that are given out for them.

use openim_standin::{KNOWN_OBJECT, Line};

use crate::support::{get, post, start};

#[tokio::test]
async fn a_finished_upload_is_linked_and_redirected() {
    let standin = start(Line::Head).await;
    let token = standin.mint("u1", 5);
    let begin = post("/object/initiate_multipart_upload").token(&token).body(r#"{"name":"u1/a.txt"}"#);
    let begun = begin.send(&standin).await.json();
    let id = begun["data"]["upload"]["uploadID"].as_str().unwrap();
    let bases = [
        (None, "http://im"),
        (Some("https://pub/api"), "https://pub/api"),
        (Some("https://pub/"), "https://pub"),
    ];
    for (base, expected) in bases {
        let body = format!(r#"{{"uploadID":"{id}","name":"u1/a.txt"}}"#);
        let mut end = post("/object/complete_multipart_upload").token(&token).body(body);
        if let Some(base) = base {
            end = end.header("X-Request-Api", base);
        }
        let url = end.send(&standin).await.json()["data"]["url"].clone();
        assert_eq!(url, format!("{expected}/object/u1/a.txt"));
    }
    assert_eq!(get(standin.api(), "/object/u1/a.txt").await.status, 302);
}

#[tokio::test]
async fn objects_are_redirected_without_any_token() {
    let standin = start(Line::Head).await;
    let found = get(standin.api(), &format!("/object/{KNOWN_OBJECT}?operationID=x")).await;
    assert_eq!((found.status, found.body.len()), (302, 0));
    assert!(found.header("location").unwrap().contains(KNOWN_OBJECT));
    assert!(found.header("location").unwrap().contains("X-Amz-Signature="));
    for (target, status) in [("/object/no/such", 404), ("/object/", 400)] {
        assert_eq!(get(standin.api(), target).await.status, status, "{target}");
    }
}
