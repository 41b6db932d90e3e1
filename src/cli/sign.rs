//! `imgate sign`: the headers of a signed request, or a curl command that sends it.

use std::path::PathBuf;

use clap::Args;
use http::Uri;
use imgate_identity::session::{SessionId, SessionSecret};
use imgate_identity::sign::{self, HttpKey, Nonce, Target};
use imgate_identity::time::UnixTime;

use super::{Failure, read_secret};

/// Signs a request the way a client does.
#[derive(Debug, Args)]
pub(super) struct Sign {
    /// The session's id, as `session create` printed it
    #[arg(long, value_name = "ID")]
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
        let request = self.request()?;
        super::say(&if self.curl { request.curl() } else { request.headers() });
        Ok(())
    }

    fn request(&self) -> Result<SignedRequest, Failure> {
        let uri: Uri = self.url.parse().map_err(|_| Failure::usage("the URL is malformed"))?;
        let scheme = uri.scheme_str().ok_or_else(|| Failure::usage("the URL has no scheme"))?;
        let host = uri.authority().ok_or_else(|| Failure::usage("the URL has no host"))?;
        let session = SessionId::parse(&self.session).map_err(Failure::usage)?;
        let secret = read_secret(&self.secret_file)?;
        let secret = SessionSecret::from_base64(secret.expose()).map_err(Failure::usage)?;
        let body = self.body()?;

        let default_port = if scheme == "https" { ":443" } else { ":80" };
        let authority = self.authority.as_deref().unwrap_or(host.as_str()).to_ascii_lowercase();
        let target = Target {
            method: &self.method,
            authority: authority.strip_suffix(default_port).unwrap_or(&authority),
            path: uri.path(),
            query: uri.query(),
        };
        let nonce = Nonce::random().map_err(Failure::usage)?;
        let key = HttpKey::derive(&secret);
        let covered = body.as_deref().filter(|body| !body.is_empty());
        let signed = sign::sign(&key, &session, &target, covered, UnixTime::now(), &nonce);
        let mut headers = vec![("Signature-Input", signed.signature_input), ("Signature", signed.signature)];
        headers.extend(signed.content_digest.map(|digest| ("Content-Digest", digest)));
        if let Some(host) = &self.authority {
            headers.push(("Host", host.clone()));
        }
        Ok(SignedRequest { method: self.method.clone(), url: self.url.clone(), headers, body })
    }

    fn body(&self) -> Result<Option<Vec<u8>>, Failure> {
        match (&self.data, &self.data_file) {
            (Some(text), _) => Ok(Some(text.clone().into_bytes())),
            (None, Some(path)) => std::fs::read(path).map(Some).map_err(|e| Failure::file(path, &e)),
            (None, None) => Ok(None),
        }
    }
}

/// A request ready to be sent.
struct SignedRequest {
    method: String,
    url: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
}

impl SignedRequest {
    fn headers(&self) -> String {
        self.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
    }

    /// A command a shell can run; the body is quoted so that no byte of it is interpreted.
    fn curl(&self) -> String {
        let mut command = format!("curl -sS -X {} {}", self.method, quote(&self.url));
        for (name, value) in &self.headers {
            command.push_str(&format!(" \\\n  -H {}", quote(&format!("{name}: {value}"))));
        }
        if let Some(body) = &self.body {
            let body = String::from_utf8_lossy(body);
            command
                .push_str(&format!(" \\\n  -H 'Content-Type: application/json' --data-raw {}", quote(&body)));
        }
        command
    }
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curl_command_survives_the_shell() {
        let request = SignedRequest {
            method: "POST".to_owned(),
            url: "http://h/x?a=1&b=2".to_owned(),
            headers: vec![("Signature", "imgate=:AA==:".to_owned())],
            body: Some(b"{\"it's\":1}".to_vec()),
        };
        let script = request.curl().replacen("curl", "printf '%s\\n'", 1);
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
