//! `imgate sign`: the headers of a signed request, or a curl command that sends it.

use std::path::PathBuf;

use clap::Args;
use http::Uri;
use imgate_identity::session::{SessionId, SessionSecret};
use imgate_identity::sign::{self, HttpKey, Nonce, Target};
use imgate_identity::time::UnixTime;

use super::{Failure, read_secret, say};

/// Signs a request the way a client does.
#[derive(Debug, Args)]
pub(super) struct Sign {
    /// The session's id, as `session create` printed it
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    session: String,
    /// A file with the session's secret in base64
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    /// The request method
    #[arg(long, default_value = "POST")]
    method: String,
    /// The body
    #[arg(long, short, value_name = "TEXT", conflicts_with = "data_file")]
    data: Option<String>,
    /// A file with the body
    #[arg(long, value_name = "FILE")]
    data_file: Option<PathBuf>,
    /// Sign for this host name instead of the one in the URL
    #[arg(long, value_name = "HOST")]
    authority: Option<String>,
    /// Print a curl command instead of the headers
    #[arg(long)]
    curl: bool,
    /// Where the request goes, as in https://im.example.com/friend/get_friend_list
    url: String,
}

impl Sign {
    /// Prints the signed request.
    ///
    /// # Errors
    /// The URL, the session id or the secret is malformed, or a file cannot be read.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let uri: Uri = self.url.parse().map_err(|_| Failure::usage("the URL is malformed"))?;
        let scheme = uri.scheme_str().ok_or_else(|| Failure::usage("the URL has no scheme"))?;
        let host = uri.authority().ok_or_else(|| Failure::usage("the URL has no host"))?.as_str();
        let secret = read_secret(&self.secret_file)?;
        let secret = SessionSecret::from_base64(secret.expose()).map_err(Failure::usage)?;
        let body = self.body()?;
        let signer = Signer {
            session: SessionId::parse(&self.session).map_err(Failure::usage)?,
            secret: &secret,
            authority: authority(self.authority.as_deref().unwrap_or(host), scheme),
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut headers = signer.sign(&self.method, target, body.as_deref())?;
        headers.extend(self.authority.as_ref().map(|host| ("Host", host.clone())));
        say(&if self.curl {
            curl(&self.method, &self.url, &headers, body.as_deref())
        } else {
            lines(&headers)
        });
        Ok(())
    }

    fn body(&self) -> Result<Option<Vec<u8>>, Failure> {
        match (&self.data, &self.data_file) {
            (Some(text), _) => Ok(Some(text.clone().into_bytes())),
            (None, Some(path)) => std::fs::read(path).map(Some).map_err(|e| Failure::file(path, &e)),
            (None, None) => Ok(None),
        }
    }
}

/// The host name as a signature spells it. Source: RFC 9421 section 2.2.3.
fn authority(host: &str, scheme: &str) -> String {
    let host = host.to_ascii_lowercase();
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    host.strip_suffix(default_port).unwrap_or(&host).to_owned()
}

/// Somebody who can sign.
pub(super) struct Signer<'a> {
    pub(super) session: SessionId,
    pub(super) secret: &'a SessionSecret,
    pub(super) authority: String,
}

impl Signer<'_> {
    /// The headers that sign a request with this target, now, with a nonce of its own.
    pub(super) fn sign(
        &self,
        method: &str,
        target: &str,
        body: Option<&[u8]>,
    ) -> Result<Vec<(&'static str, String)>, Failure> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let target = Target { method, authority: &self.authority, path, query };
        let nonce = Nonce::random().map_err(Failure::unavailable)?;
        let key = HttpKey::derive(self.secret);
        let covered = body.filter(|body| !body.is_empty());
        let signed = sign::sign(&key, &self.session, &target, covered, UnixTime::now(), &nonce);
        let mut headers = vec![("Signature-Input", signed.signature_input), ("Signature", signed.signature)];
        headers.extend(signed.content_digest.map(|digest| ("Content-Digest", digest)));
        Ok(headers)
    }
}

fn lines(headers: &[(&'static str, String)]) -> String {
    headers.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
}

/// A command a shell can run; everything is quoted so that no byte of it is interpreted.
pub(super) fn curl(
    method: &str,
    url: &str,
    headers: &[(&'static str, String)],
    body: Option<&[u8]>,
) -> String {
    let mut command = format!("curl -sS -X {} {}", quote(method), quote(url));
    for (name, value) in headers {
        command.push_str(&format!(" \\\n  -H {}", quote(&format!("{name}: {value}"))));
    }
    if let Some(body) = body {
        let body = String::from_utf8_lossy(body);
        command.push_str(&format!(" \\\n  -H 'Content-Type: application/json' --data-raw {}", quote(&body)));
    }
    command
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curl_command_survives_the_shell() {
        let headers = [("Signature", "imgate=:AA==:".to_owned())];
        let command = curl("POST", "http://h/x?a=1&b=2", &headers, Some(b"{\"it's\":1}"));
        let script = command.replacen("curl", "printf '%s\\n'", 1);
        let out = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        let words = String::from_utf8(out.stdout).unwrap();
        assert_eq!(
            words.lines().collect::<Vec<_>>(),
            [
                "-sS",
                "-X",
                "POST",
                "http://h/x?a=1&b=2",
                "-H",
                "Signature: imgate=:AA==:",
                "-H",
                "Content-Type: application/json",
                "--data-raw",
                "{\"it's\":1}",
            ]
        );
    }
}
