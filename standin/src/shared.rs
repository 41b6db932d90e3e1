//! What both servers of one stand-in share.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::endpoints::object::KNOWN_OBJECT;
use crate::fault::Faults;
use crate::options::{MultiLogin, Options};
use crate::record::Recorder;
use crate::sockets::Sockets;
use crate::token::{TokenBook, is_admin};
use crate::world::{User, World};

/// The state of one stand-in. Locks are held for a few lines and never two at a time.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) world: Mutex<World>,
    pub(crate) tokens: Mutex<TokenBook>,
    pub(crate) sockets: Sockets,
    pub(crate) recorder: Recorder,
    pub(crate) faults: Faults,
    accepted: AtomicU64,
    requests: AtomicU64,
}

impl Shared {
    pub(crate) fn new(options: Options) -> Self {
        let mut world = World::default();
        for admin in &options.admins {
            world.users.insert(admin.clone(), User { nickname: admin.clone(), ..User::default() });
        }
        world.objects.insert(KNOWN_OBJECT.to_owned());
        let limit = if options.record { options.record_limit } else { 0 };
        Self {
            options,
            world: Mutex::new(world),
            tokens: Mutex::default(),
            sockets: Sockets::default(),
            recorder: Recorder::new(limit),
            faults: Faults::default(),
            accepted: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        }
    }

    /// Numbers a newly accepted connection.
    pub(crate) fn number_connection(&self) -> u64 {
        self.accepted.fetch_add(1, Ordering::Relaxed)
    }

    /// Numbers a request.
    pub(crate) fn number_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn is_admin(&self, user: &str) -> bool {
        is_admin(user, &self.options)
    }

    /// Kicks the older logins of a user whose new socket comes with another token, where the policy says so.
    pub(crate) fn kick_older(&self, user: &str, platform: i64, token: &str) {
        if self.options.multi_login_policy == MultiLogin::KickSamePlatform
            && self.sockets.kick(user, platform, Some(token)) > 0
        {
            self.tokens.lock().kick(user, platform, Some(token));
        }
    }

    /// Closes a user's sockets on a platform with a kick frame and kicks his tokens there.
    ///
    /// OpenIM does it the other way round; this way a client that reconnects at once never slips through.
    pub(crate) fn kick(&self, user: &str, platform: i64) {
        self.tokens.lock().kick(user, platform, None);
        self.sockets.kick(user, platform, None);
    }
}
