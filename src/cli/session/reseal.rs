//! `imgate session reseal`: every session under the active seal key, so that an old one can go.

use clap::Args;
use imgate_identity::session::SessionId;
use imgate_identity::store::{Fault, Resealed, Writer};
use serde_json::json;

use crate::cli::{ConfigFile, Failure, open, say};

/// How many unreadable records are named; the others are counted.
const MAX_NAMED: usize = 20;

/// Seals every session with the active key.
#[derive(Debug, Args)]
pub(in crate::cli) struct Reseal {
    #[command(flatten)]
    config: ConfigFile,
    /// Go on where an earlier run stopped: what it printed as `next`
    #[arg(long, value_name = "CURSOR", default_value_t = 0)]
    from: u64,
    /// Stop after about so many sessions
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
}

/// What was done so far.
#[derive(Default)]
struct Tally {
    resealed: u64,
    current: u64,
    unreadable: u64,
    named: Vec<(SessionId, Fault)>,
}

impl Tally {
    fn add(&mut self, page: Resealed) {
        self.resealed += page.resealed;
        self.current += page.current;
        self.unreadable += page.broken.len() as u64;
        let room = MAX_NAMED.saturating_sub(self.named.len());
        self.named.extend(page.broken.into_iter().take(room));
    }

    fn seen(&self) -> u64 {
        self.resealed + self.current + self.unreadable
    }

    fn tell(&self, next: Option<u64>) {
        let named = self.named.iter().map(|(id, fault)| (id.to_string(), fault.to_string().into()));
        let shown = json!({
            "resealed": self.resealed,
            "current": self.current,
            "unreadable": self.unreadable,
            "why": named.collect::<serde_json::Map<_, _>>(),
            "next": next,
        });
        say(&format!("{shown:#}"));
    }
}

impl Reseal {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let config = self.config.load()?;
        if config.identity.layout.seals.active().is_none() {
            return Err(Failure::usage("there is no key to seal with\nhint: set identity.seal_keys"));
        }
        let (writer, mut tally) = (open(&config).await?, Tally::default());
        let mut next = Some(self.from);
        let done = self.go_on(&writer, &mut tally, &mut next).await;
        tally.tell(next);
        done?;
        if tally.unreadable > 0 {
            return Err(Failure::unavailable(format!(
                "{} sessions cannot be read, and were left as they are",
                tally.unreadable
            )));
        }
        Ok(())
    }

    async fn go_on(&self, writer: &Writer, tally: &mut Tally, next: &mut Option<u64>) -> Result<(), Failure> {
        while let Some(cursor) = *next
            && self.limit.is_none_or(|limit| tally.seen() < limit)
        {
            let page = writer.reseal_sessions(cursor).await;
            let page =
                page.map_err(|error| Failure::store(format!("{error}\nhint: go on with --from {cursor}")))?;
            *next = page.next;
            tally.add(page);
        }
        Ok(())
    }
}
