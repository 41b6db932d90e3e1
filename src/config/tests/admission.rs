//! What is let in when there is too much: which numbers make sense.

use std::time::Duration;

use imgate_identity::store::{LookupRate, Lookups};

use super::{BASE, parse, with};
use crate::admission::{Pace, ShedTerms};
use crate::config::{Config, StoreSource};

const MILLI: Duration = Duration::from_millis(1);

fn redis(lookups: &str) -> String {
    with("{ memory: {} }", &format!("{{ redis: {{ url: 'redis://h:1', lookups: {lookups} }} }}"))
}

fn lookups(config: &Config) -> &Lookups {
    match &config.identity.store {
        StoreSource::Redis(redis) => &redis.lookups,
        StoreSource::Memory => panic!("it is Redis"),
    }
}

fn shed(terms: &str) -> String {
    with("listeners:", &format!("limits: {{ shed: {terms} }}\nlisteners:"))
}

fn handshakes(pace: &str) -> String {
    with("listeners:", &format!("limits: {{ handshakes: {pace} }}\nlisteners:"))
}

#[test]
fn bounds_are_read_and_have_defaults() {
    let read = |text: &str| parse(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(*lookups(&read(&redis("{}"))), Lookups::default());
    let rate = Some(LookupRate { interval: 2 * MILLI, burst: 7 });
    let all = "{ concurrent: 3, queue: 4, wait: 5ms, rate: 500/s, burst: 7 }";
    let expected = Lookups { concurrent: 3, queue: 4, wait: 5 * MILLI, rate };
    assert_eq!(*lookups(&read(&redis(all))), expected);

    let terms =
        |target: u32, interval: u32| Some(ShedTerms { target: target * MILLI, interval: interval * MILLI });
    assert_eq!(read(BASE).limits.shed, terms(100, 100));
    assert_eq!(read(&shed("{ target: 50ms, interval: 200ms }")).limits.shed, terms(50, 200));
    assert_eq!(read(&shed("{ target: 0s }")).limits.shed, None);

    assert_eq!(read(BASE).limits.handshakes, None);
    let pace = Pace { interval: 2 * MILLI, burst: 7, patience: 2000 * MILLI };
    assert_eq!(read(&handshakes("{ rate: 500/s, burst: 7 }")).limits.handshakes, Some(pace));
    let patience = Duration::ZERO;
    let impatient = read(&handshakes("{ rate: 500/s, burst: 7, wait: 0s }"));
    assert_eq!(impatient.limits.handshakes, Some(Pace { patience, ..pace }));
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    let place = "identity.store.redis.lookups";
    for (text, place, problem) in [
        (redis("{ concurrent: 0 }"), format!("{place}.concurrent"), "must be above 0"),
        (redis("{ wait: 11s }"), format!("{place}.wait"), "must be from 0s to 10s"),
        (redis("{ rate: 5/s }"), place.to_owned(), "`burst` is missing"),
        (redis("{ burst: 5 }"), format!("{place}.burst"), "`burst` means nothing without `rate`"),
        (redis("{ rate: 5/s, burst: 0 }"), format!("{place}.burst"), "must be above 0"),
        (handshakes("{ rate: 5/s, burst: 0 }"), "limits.handshakes.burst".into(), "must be above 0"),
        (
            handshakes("{ rate: 5/s, burst: 1, wait: 11s }"),
            "limits.handshakes.wait".into(),
            "must be from 0s to 10s",
        ),
        (shed("{ target: 4ms }"), "limits.shed.target".into(), "must be from 5ms to 10s, or 0s for never"),
        (shed("{ target: 11s }"), "limits.shed.target".into(), "must be from 5ms to 10s, or 0s for never"),
        (shed("{ interval: 19ms }"), "limits.shed.interval".into(), "must be from 20ms to 10s"),
        (shed("{ target: 0s, interval: 11s }"), "limits.shed.interval".into(), "must be from 20ms to 10s"),
    ] {
        let error = parse(&text).expect_err(&text);
        let [fault] = error.faults() else { panic!("{error}") };
        assert_eq!((&*fault.place, fault.problem.to_string().as_str()), (&*place, problem));
    }
}
