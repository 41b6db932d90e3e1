//! `imgate sign`: the headers of a signed request, or a curl command that sends it.

use std::path::PathBuf;

use clap::Args;
use http::Uri;
use imgate_filters::FilterConfig;
use imgate_filters::step::Configured;
use imgate_filters::verify_signature::Scheme;
use imgate_identity::session::{SessionId, SessionSecret};
use imgate_identity::sign::canonical::{self, Signable};
use imgate_identity::sign::{self, HttpKey, Nonce, Target};
use imgate_identity::time::UnixTime;

use super::{ConfigFile, Failure, read_secret, say};

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
    /// Sign the way this chain of the configuration has it, rather than after RFC 9421
    #[arg(long, value_name = "NAME")]
    chain: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
    /// A header to send along; needed where the chain's scheme signs it
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
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
        let mut headers = match self.scheme()? {
            Scheme::Rfc9421 => signer.sign(&self.method, target, body.as_deref())?,
            Scheme::Canonical(config) => {
                let scheme = canonical::Scheme::new(&config).map_err(Failure::config)?;
                signer.sign_canonical(&scheme, &self.method, target, body.as_deref(), &self.headers)?
            }
        };
        headers.extend(self.headers.iter().cloned());
        headers.extend(self.authority.as_ref().map(|host| ("Host".to_owned(), host.clone())));
        say(&if self.curl {
            curl(&self.method, &self.url, &headers, body.as_deref())
        } else {
            lines(&headers)
        });
        Ok(())
    }

    /// How the chain has it.
    fn scheme(&self) -> Result<Scheme, Failure> {
        let Some(name) = &self.chain else { return Ok(Scheme::Rfc9421) };
        let config = self.config.load()?;
        let chain = config.chains.iter().find(|chain| *chain.name == **name);
        let chain = chain.ok_or_else(|| Failure::usage("the configuration has no chain of this name"))?;
        let scheme = chain.steps.iter().find_map(|step| match &step.step.filter {
            Configured::Ours(FilterConfig::VerifySignature(config)) => Some(config.scheme.clone()),
            _ => None,
        });
        scheme.ok_or_else(|| Failure::usage("this chain verifies no signatures"))
    }

    fn body(&self) -> Result<Option<Vec<u8>>, Failure> {
        match (&self.data, &self.data_file) {
            (Some(text), _) => Ok(Some(text.clone().into_bytes())),
            (None, Some(path)) => std::fs::read(path).map(Some).map_err(|e| Failure::file(path, &e)),
            (None, None) => Ok(None),
        }
    }
}

/// Reads `name: value`.
fn header(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once(':').ok_or("write it as `name: value`")?;
    Ok((name.to_owned(), value.trim().to_owned()))
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
    ) -> Result<Vec<(String, String)>, Failure> {
        let target = self.target(method, target);
        let nonce = Nonce::random().map_err(Failure::unavailable)?;
        let key = HttpKey::derive(self.secret);
        let covered = body.filter(|body| !body.is_empty());
        let signed = sign::sign(&key, &self.session, &target, covered, UnixTime::now(), &nonce);
        let input = ("Signature-Input", signed.signature_input);
        let headers = [input, ("Signature", signed.signature)];
        let digest = signed.content_digest.map(|digest| ("Content-Digest", digest));
        Ok(headers.into_iter().chain(digest).map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// The headers that sign a request by a scheme of the configuration.
    fn sign_canonical(
        &self,
        scheme: &canonical::Scheme,
        method: &str,
        target: &str,
        body: Option<&[u8]>,
        given: &[(String, String)],
    ) -> Result<Vec<(String, String)>, Failure> {
        let value = |name: &str| {
            let found = given.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            let hint =
                || Failure::usage(format!("the chain's scheme signs {name}\nhint: give it by --header"));
            found.map(|(_, value)| value.as_str()).ok_or_else(hint)
        };
        let signed_headers: Vec<&str> = scheme.signed_headers().map(value).collect::<Result<_, _>>()?;
        let request = Signable {
            session: self.session,
            target: self.target(method, target),
            body: body.unwrap_or_default(),
            millis: UnixTime::now().0 * 1000,
            nonce: &Nonce::random().map_err(Failure::unavailable)?,
            signed_headers: &signed_headers,
        };
        let signed = scheme.sign(self.secret, &request);
        Ok(signed.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn target<'a>(&'a self, method: &'a str, target: &'a str) -> Target<'a> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        Target { method, authority: &self.authority, path, query }
    }
}

fn lines(headers: &[(String, String)]) -> String {
    headers.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
}

/// A command a shell can run; everything is quoted so that no byte of it is interpreted.
pub(super) fn curl(method: &str, url: &str, headers: &[(String, String)], body: Option<&[u8]>) -> String {
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
        let headers = [("Signature".to_owned(), "imgate=:AA==:".to_owned())];
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
