//! `/object/*`: upload paperwork and links. Bytes never pass through; clients talk to the object store.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Call;
use crate::authorise::wrong_type;
use crate::envelope::{Code, Failure};
use crate::http::Head;
use crate::json::{Body, WrongType};
use crate::options::Options;
use crate::world::Upload;

/// The object that always exists.
pub const KNOWN_OBJECT: &str = "imAdmin/known.txt";

/// How long a presigned link lives.
///
/// Source: open-im-server `internal/rpc/third/s3.go`, seven days.
const LINK_SECONDS: u64 = 7 * 24 * 3600;

/// Tells the limits of a part.
pub(crate) fn part_limit(_: &Call<'_>) -> Result<Value, Failure> {
    Ok(json!({ "minPartSize": 5_242_880, "maxPartSize": 5_368_709_120_u64, "maxNumSize": 10_000 }))
}

/// Tells the size of a part.
pub(crate) fn part_size(_: &Call<'_>) -> Result<Value, Failure> {
    Ok(json!({ "size": 5_242_880 }))
}

/// Begins an upload in parts.
pub(crate) fn initiate_multipart(call: &Call<'_>) -> Result<Value, Failure> {
    let name = call.text("name")?.to_owned();
    let mut world = call.shared.world.lock();
    let id = format!("upload-{}", world.next_id());
    world.uploads.insert(id.clone(), Upload { name: name.clone() });
    let link = presigned(&name, &call.shared.options);
    Ok(json!({ "url": "", "upload": { "uploadID": id, "partSize": 5_242_880, "sign": sign(&link) } }))
}

/// Signs further parts of an upload, whoever began it.
pub(crate) fn auth_sign(call: &Call<'_>) -> Result<Value, Failure> {
    let id = call.text("uploadID")?;
    let world = call.shared.world.lock();
    let upload = world.uploads.get(id).ok_or_else(|| not_found("upload"))?;
    Ok(sign(&presigned(&upload.name, &call.shared.options)))
}

/// Ends an upload in parts and gives the public URL.
pub(crate) fn complete_multipart(call: &Call<'_>) -> Result<Value, Failure> {
    let id = call.text("uploadID")?;
    finish(call, id, call.text("name")?)
}

/// Begins a form upload.
pub(crate) fn initiate_form(call: &Call<'_>) -> Result<Value, Failure> {
    let name = call.text("name")?;
    let id = STANDARD.encode(json!({ "key": name }).to_string());
    Ok(json!({
        "id": id,
        "url": call.shared.options.object_store,
        "file": "file",
        "formData": { "key": name, "policy": "signed" },
        "successCodes": [200, 204],
    }))
}

/// Ends a form upload and gives the public URL.
pub(crate) fn complete_form(call: &Call<'_>) -> Result<Value, Failure> {
    let name = form_name(call.body)?;
    finish(call, "", &name)
}

/// Gives a presigned link to any object.
pub(crate) fn access_url(call: &Call<'_>) -> Result<Value, Failure> {
    let name = call.text("name")?;
    if !call.shared.world.lock().objects.contains(name) {
        return Err(not_found("object"));
    }
    Ok(json!({ "url": presigned(name, &call.shared.options), "expireTime": LINK_SECONDS }))
}

/// Builds a link that looks presigned.
pub(crate) fn presigned(name: &str, options: &Options) -> String {
    let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-SignedHeaders=host&X-Amz-Signature=0f1e2d3c4b5a";
    format!("{}/{name}?{query}&X-Amz-Expires={LINK_SECONDS}", options.object_store)
}

/// Finds the object name of an upload call.
pub(crate) fn name(body: &Body) -> Result<String, Failure> {
    field(body, "name")
}

/// Finds the object name of a form call: the key inside the `id`, which the client supplies.
pub(crate) fn form_name(body: &Body) -> Result<String, Failure> {
    let bytes = STANDARD.decode(field(body, "id")?).map_err(|_| Failure::args("id is not base64"))?;
    field(&Body::read(&bytes).map_err(Failure::args)?, "key")
}

fn field(body: &Body, name: &str) -> Result<String, Failure> {
    body.text(name).map(str::to_owned).map_err(|WrongType| wrong_type(name))
}

fn finish(call: &Call<'_>, upload: &str, name: &str) -> Result<Value, Failure> {
    let mut world = call.shared.world.lock();
    world.uploads.remove(upload);
    world.objects.insert(name.to_owned());
    Ok(json!({ "url": format!("{}{name}", url_prefix(call.head)) }))
}

/// Source: open-im-server `internal/api/third.go` setURLPrefix.
fn url_prefix(head: &Head) -> String {
    match head.first("X-Request-Api") {
        "" => format!("http://{}/object/", head.first("host")),
        base if base.ends_with('/') => format!("{base}object/"),
        base => format!("{base}/object/"),
    }
}

fn sign(link: &str) -> Value {
    json!({ "url": link, "query": [], "header": [], "parts": [{ "partNumber": 1, "url": link }] })
}

fn not_found(what: &str) -> Failure {
    Failure::new(Code::RecordNotFound, format!("{what} not found"))
}
