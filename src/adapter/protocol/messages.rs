//! What a program writes to its standard error: lines for the log, masked, and no more than a log can bear.

use super::mask::Mask;

use std::borrow::Cow;
use std::time::Instant;

/// Longest line, in bytes; the rest is left out.
const LONGEST: usize = 4096;
/// How much may come at once, in bytes; also how much is held back.
const BURST: usize = 64 * 1024;
/// How much more may come with every second: an hour of it is 14 MB.
const PER_SECOND: usize = 4 * 1024;

/// Takes bytes, gives lines.
pub struct Messages<'a> {
    mask: Mask,
    say: &'a mut dyn FnMut(&str),
    line: Vec<u8>,
    /// Lines that wait until it is known what is secret in them.
    held: Option<Held>,
    allowance: Allowance,
    left_out: u64,
    last: String,
}

#[derive(Default)]
struct Held {
    /// Each with whether it was cut off.
    lines: Vec<(String, bool)>,
    size: usize,
}

impl<'a> Messages<'a> {
    /// `hold`: what the program is about to return is secret, so its lines wait until it has. `say` gets one line at a
    /// time.
    pub fn new(mask: Mask, hold: bool, say: &'a mut dyn FnMut(&str)) -> Messages<'a> {
        Messages {
            mask,
            say,
            line: Vec::new(),
            held: hold.then(Default::default),
            allowance: Allowance::new(Instant::now()),
            left_out: 0,
            last: String::new(),
        }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            // One byte more shows that the line was longer.
            let room = (LONGEST + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    /// The end: with what turned out to be secret, the lines that were held back go out. Returns the last line that was
    /// not empty.
    pub fn close(mut self, secrets: &Mask) -> Option<String> {
        self.end_line();
        self.mask.extend(secrets);
        for (line, is_cut) in self.held.take().unwrap_or_default().lines {
            let shown = if is_cut {
                self.mask.shown_of_cut(&line)
            } else {
                line.len()
            };
            (self.say)(&self.mask.apply(&line[..shown]));
        }
        if self.left_out > 0 {
            (self.say)(&format!("(lines left out: {})", self.left_out));
        }
        Some(self.mask.apply(&self.last).into_owned()).filter(|line| !line.is_empty())
    }

    fn end_line(&mut self) {
        let bytes = std::mem::take(&mut self.line);
        let is_cut = bytes.len() > LONGEST && !bytes.ends_with(b"\n");
        let text = String::from_utf8_lossy(&bytes);
        let mut text = text.trim_end();
        if is_cut {
            text = &text[..self.mask.shown_of_cut(text)];
        }
        if text.is_empty() {
            return;
        }
        self.last.clear();
        self.last.push_str(text);
        let fits_held = |held: &Held| held.size + text.len() <= BURST;
        if !self.allowance.take(text.len(), Instant::now())
            || !self.held.as_ref().is_none_or(fits_held)
        {
            self.left_out += 1;
            return;
        }
        match &mut self.held {
            Some(held) => {
                held.size += text.len();
                held.lines.push((text.to_owned(), is_cut));
            }
            None => (self.say)(&self.mask.apply(text)),
        }
    }
}

/// What may still be said: fills up with time.
struct Allowance {
    left: usize,
    filled: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Allowance {
        Allowance {
            left: BURST,
            filled: now,
        }
    }

    fn take(&mut self, size: usize, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.filled).as_secs();
        if seconds > 0 {
            let more = usize::try_from(seconds).unwrap_or(usize::MAX);
            let more = more.saturating_mul(PER_SECOND);
            self.left = self.left.saturating_add(more).min(BURST);
            self.filled = now;
        }
        let fits = size <= self.left;
        if fits {
            self.left -= size;
        }
        fits
    }
}

/// A text on one line and of bounded length, for whoever reads it.
pub fn one_line(text: &str, longest: usize) -> Cow<'_, str> {
    let text = text.trim();
    let text = text[..text.floor_char_boundary(longest)].trim_end();
    if text.contains(char::is_control) {
        Cow::Owned(text.replace(char::is_control, " "))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn mask(secret: &str) -> Mask {
        let mut mask = Mask::default();
        mask.add(secret);
        mask
    }

    /// The lines, and the last of them, of chunks; with a secret known from the beginning, and one at the end.
    fn lines(chunks: &[&[u8]], hold: bool) -> (Vec<String>, Option<String>) {
        let mut lines = Vec::new();
        let mut say = |line: &str| lines.push(line.to_owned());
        let mut messages = Messages::new(mask("hunter2"), hold, &mut say);
        chunks.iter().for_each(|chunk| messages.feed(chunk));
        let last = messages.close(&mask("bigsecret"));
        (lines, last)
    }

    #[test]
    fn chunks_become_lines() {
        let (lines, last) = lines(&[b"one\r\ntw", b"o\n\n", b"\xff\xfethree"], false);
        assert_eq!(lines, ["one", "two", "\u{fffd}\u{fffd}three"]);
        assert_eq!(last.unwrap(), "\u{fffd}\u{fffd}three");
    }

    #[test]
    fn secrets_are_masked_across_chunks() {
        let (lines, last) = lines(&[b"password: hun", b"ter", b"2\n", b"bye"], false);
        assert_eq!(lines, ["password: ***", "bye"]);
        assert_eq!(last.unwrap(), "bye");
    }

    #[test]
    fn lines_that_are_held_back_are_masked_with_what_came_later() {
        let (lines, last) = lines(&[b"new: bigsecret\nold: hunter2\n"], true);
        assert_eq!(lines, ["new: ***", "old: ***"]);
        assert_eq!(last.unwrap(), "old: ***");
    }

    #[test]
    fn a_long_line_is_cut_and_shows_no_half_of_a_secret() {
        for before in LONGEST - 8..=LONGEST {
            let text = format!("{}hunter2{}\nnext", "x".repeat(before), "y".repeat(LONGEST));
            let (lines, _) = lines(&[text.as_bytes()], false);
            assert!(lines[0].len() <= LONGEST + 1);
            assert!(
                lines[0].trim_start_matches('x').is_empty() || lines[0].contains("***"),
                "{before}"
            );
            assert!(!lines[0].contains("hun"), "{before}");
            assert_eq!(lines[1], "next");
        }
    }

    #[test]
    fn a_flood_is_dammed_and_counted() {
        for hold in [false, true] {
            let flood = "x".repeat(1023) + "\n";
            let chunks = vec![flood.as_bytes(); 1000];
            let (lines, last) = lines(&chunks, hold);
            assert!((60..80).contains(&lines.len()), "{}", lines.len());
            let left_out = 1000 - (lines.len() - 1);
            assert_eq!(
                lines.last().unwrap(),
                &format!("(lines left out: {left_out})")
            );
            assert_eq!(last.unwrap().len(), 1023);
        }
    }

    #[test]
    fn the_allowance_fills_up_again() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        assert!(allowance.take(BURST, start));
        assert!(!allowance.take(1, start + Duration::from_millis(900)));
        assert!(allowance.take(PER_SECOND, start + Duration::from_secs(1)));
        assert!(!allowance.take(1, start + Duration::from_secs(1)));
        assert!(allowance.take(BURST, start + Duration::from_secs(3600)));
        assert!(!allowance.take(1, start + Duration::from_secs(3600)));
    }

    #[test]
    fn texts_for_people_are_one_line() {
        assert_eq!(one_line(" a\tb\u{1b}[1m\n", 100), "a b [1m");
        assert_eq!(one_line("ééé", 5), "éé");
    }
}
