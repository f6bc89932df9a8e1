//! Writes JSON the way `JSON.stringify(JSON.parse(text))` does (ECMA-262, 25.5 and 6.1.6.1.20), so
//! that the receiver who signs what it parsed signs the bytes we sent.
//!
//! Members: whole numbers as names come first and ascending, the others in order of first
//! appearance; of two with one name the last value counts. Numbers are doubles in their shortest
//! form. One exception keeps data whole: integers beyond 2^53 keep their digits.

use std::collections::HashMap;
use std::ops::Range;

/// Deeper nesting is refused, so that the stack is bounded.
pub(super) const DEPTH_MAX: usize = 256;
/// Objects up to this size are searched for repeated names one by one.
const SMALL_OBJECT: usize = 16;
/// 2^53: every integer up to it is a double.
const SAFE_INTEGER_MAX: u128 = 1 << 53;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooDeep;

/// `text` must be valid JSON: whoever calls has parsed it.
pub(super) fn rewrite(text: &str, out: &mut Vec<u8>) -> Result<(), TooDeep> {
    Writer { rest: text.as_bytes(), out }.value(0)
}

struct Writer<'t, 'o> {
    rest: &'t [u8],
    out: &'o mut Vec<u8>,
}

/// A member already written to the output.
struct Member {
    name: Range<usize>,
    whole: Range<usize>,
}

impl Writer<'_, '_> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn peek(&self) -> u8 {
        self.rest.first().copied().unwrap_or_default()
    }

    fn take(&mut self, len: usize) {
        self.rest = self.rest.get(len..).unwrap_or_default();
    }

    fn value(&mut self, depth: usize) -> Result<(), TooDeep> {
        self.skip_blanks();
        match self.peek() {
            b'{' | b'[' if depth == DEPTH_MAX => return Err(TooDeep),
            b'{' => self.object(depth + 1)?,
            b'[' => self.array(depth + 1)?,
            b'"' => self.string(),
            b't' | b'n' => self.literal(4),
            b'f' => self.literal(5),
            _ => self.number(),
        }
        self.skip_blanks();
        Ok(())
    }

    fn literal(&mut self, len: usize) {
        self.out.extend_from_slice(&self.rest[..len.min(self.rest.len())]);
        self.take(len);
    }

    fn array(&mut self, depth: usize) -> Result<(), TooDeep> {
        self.out.push(b'[');
        self.take(1);
        self.skip_blanks();
        while !matches!(self.peek(), b']' | 0) {
            self.value(depth)?;
            if self.peek() == b',' {
                self.out.push(b',');
                self.take(1);
            }
        }
        self.out.push(b']');
        self.take(1);
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), TooDeep> {
        self.out.push(b'{');
        self.take(1);
        let start = self.out.len();
        let mut members: Vec<Member> = Vec::new();
        self.skip_blanks();
        while self.peek() == b'"' {
            if self.out.len() > start {
                self.out.push(b',');
            }
            let name_at = self.out.len();
            self.string();
            let name = name_at..self.out.len();
            self.skip_blanks();
            self.out.push(b':');
            self.take(1);
            self.value(depth)?;
            members.push(Member { name, whole: name_at..self.out.len() });
            if self.peek() == b',' {
                self.take(1);
            }
            self.skip_blanks();
        }
        self.take(1);
        if let Some(order) = reorder(self.out, &members) {
            let mut sorted = Vec::with_capacity(self.out.len() - start);
            for (at, member) in order.into_iter().enumerate() {
                if at > 0 {
                    sorted.push(b',');
                }
                sorted.extend_from_slice(&self.out[members[member].whole.clone()]);
            }
            self.out.truncate(start);
            self.out.extend_from_slice(&sorted);
        }
        self.out.push(b'}');
        Ok(())
    }

    fn string(&mut self) {
        self.out.push(b'"');
        self.take(1);
        loop {
            let plain = self.rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
            let plain = plain.unwrap_or(self.rest.len());
            self.out.extend_from_slice(&self.rest[..plain]);
            self.take(plain);
            if self.peek() != b'\\' {
                break;
            }
            self.escape();
        }
        self.out.push(b'"');
        self.take(1);
    }

    /// One escape sequence, or two that make one character.
    fn escape(&mut self) {
        let kind = self.rest.get(1).copied().unwrap_or_default();
        if kind != b'u' {
            match kind {
                b'/' => self.out.push(b'/'),
                other => self.out.extend_from_slice(&[b'\\', other]),
            }
            self.take(2);
            return;
        }
        let unit = self.unit().unwrap_or_default();
        self.take(6);
        let pair = match self.unit() {
            Some(low @ 0xdc00..=0xdfff) if (0xd800..=0xdbff).contains(&unit) => {
                char::decode_utf16([unit, low]).next().and_then(Result::ok)
            }
            _ => None,
        };
        match (pair, char::from_u32(u32::from(unit))) {
            (Some(character), _) => {
                self.take(6);
                self.character(character);
            }
            (None, Some(character)) => self.character(character),
            // Half of a pair alone has no UTF-8 and stays an escape.
            (None, None) => self.out.extend_from_slice(format!("\\u{unit:04x}").as_bytes()),
        }
    }

    /// The code unit of the `\uXXXX` that comes next.
    fn unit(&self) -> Option<u16> {
        let digits = self.rest.strip_prefix(b"\\u")?.get(..4)?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }

    fn character(&mut self, character: char) {
        let short = match character {
            '"' => b'"',
            '\\' => b'\\',
            '\u{8}' => b'b',
            '\u{c}' => b'f',
            '\n' => b'n',
            '\r' => b'r',
            '\t' => b't',
            '\0'..='\u{1f}' => {
                self.out.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
                return;
            }
            _ => {
                self.out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return;
            }
        };
        self.out.extend_from_slice(&[b'\\', short]);
    }

    fn number(&mut self) {
        let len =
            self.rest.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        let (written, rest) = self.rest.split_at(len.unwrap_or(self.rest.len()));
        // Nothing in valid JSON reads as a number of length zero; taking it whole ends the loop.
        self.rest = if written.is_empty() { &[] } else { rest };
        let written = std::str::from_utf8(written).unwrap_or_default();
        write_number(written, self.out);
    }
}

/// The order to write members in, or `None` where it is the one they have.
fn reorder(out: &[u8], members: &[Member]) -> Option<Vec<usize>> {
    let name = |at: usize| &out[members[at].name.clone()];
    // The first place of a name and its last value.
    let mut kept: Vec<(usize, usize)> = Vec::with_capacity(members.len());
    let mut seen: HashMap<&[u8], usize> = HashMap::new();
    for at in 0..members.len() {
        let earlier = if members.len() <= SMALL_OBJECT {
            kept.iter().position(|(first, _)| name(*first) == name(at))
        } else {
            seen.get(name(at)).copied()
        };
        if let Some(place) = earlier {
            kept[place].1 = at;
        } else {
            if members.len() > SMALL_OBJECT {
                seen.insert(name(at), kept.len());
            }
            kept.push((at, at));
        }
    }
    let repeated = kept.len() < members.len();
    let mut indexed: Vec<(u32, usize)> =
        kept.iter().filter_map(|(first, last)| Some((array_index(name(*first))?, *last))).collect();
    if !repeated && indexed.is_empty() {
        return None;
    }
    indexed.sort_unstable();
    let named = kept.iter().filter(|(first, _)| array_index(name(*first)).is_none()).map(|(_, last)| *last);
    Some(indexed.into_iter().map(|(_, last)| last).chain(named).collect())
}

/// The number a name is when it is an array index: canonical digits up to 2^32 - 2.
fn array_index(quoted: &[u8]) -> Option<u32> {
    let name = std::str::from_utf8(quoted.get(1..quoted.len().checked_sub(1)?)?).ok()?;
    let canonical = name == "0" || !name.starts_with(['0', '+']);
    name.parse().ok().filter(|index| canonical && *index != u32::MAX)
}

fn write_number(written: &str, out: &mut Vec<u8>) {
    if !written.contains(['.', 'e', 'E']) {
        let digits = written.strip_prefix('-').unwrap_or(written);
        let whole = digits.parse::<u128>().map_or(SAFE_INTEGER_MAX + 1, |integer| integer);
        // Canonical already, but for minus zero; beyond 2^53 the digits are worth more than the form.
        out.extend_from_slice(if whole == 0 { b"0" } else { written.as_bytes() });
        return;
    }
    let Ok(number) = written.parse::<f64>() else { return };
    out.extend_from_slice(number_text(number).as_bytes());
}

/// `Number.prototype.toString` of a double that came from JSON; infinite ones become null.
pub(crate) fn number_text(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    if !number.is_finite() {
        return "null".to_owned();
    }
    // Rust writes the shortest digits that read back as the same double, as JavaScript does.
    let scientific = format!("{:e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits = mantissa.replace('.', "");
    let point = exponent.parse::<i32>().unwrap_or_default() + 1;
    let count = digits.len() as i32;
    let sign = if number < 0.0 { "-" } else { "" };
    let zeros = |count: i32| "0".repeat(count.max(0) as usize);
    if (1..=21).contains(&point) {
        if count <= point {
            return format!("{sign}{digits}{}", zeros(point - count));
        }
        let (whole, fraction) = digits.split_at(point as usize);
        return format!("{sign}{whole}.{fraction}");
    }
    if (-5..=0).contains(&point) {
        return format!("{sign}0.{}{digits}", zeros(-point));
    }
    let (first, more) = digits.split_at(1);
    let dot = if more.is_empty() { "" } else { "." };
    format!("{sign}{first}{dot}{more}e{:+}", point - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn js(text: &str) -> String {
        let mut out = Vec::new();
        rewrite(text, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_javascripts() {
        for (written, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("1.0", "1"),
            ("1.50", "1.5"),
            ("-1e0", "-1"),
            ("1e20", "100000000000000000000"),
            ("1e21", "1e+21"),
            ("1.5E+30", "1.5e+30"),
            ("0.000001", "0.000001"),
            ("0.0000001", "1e-7"),
            ("1.25e-7", "1.25e-7"),
            ("1e-400", "0"),
            ("1e400", "null"),
            ("123456.789", "123456.789"),
            ("5e-324", "5e-324"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("0.1000000000000000055511151231257827", "0.1"),
            ("9007199254740993.0", "9007199254740992"),
            ("12345678901234567890", "12345678901234567890"),
            ("123456789012345678901234567890123456789012", "123456789012345678901234567890123456789012"),
        ] {
            assert_eq!(js(written), expected, "{written}");
        }
    }

    #[test]
    fn members_are_in_javascripts_order() {
        for (written, expected) in [
            (r#" { "b" : 1 , "a" : [ 1 , { } , [ ] ] } "#, r#"{"b":1,"a":[1,{},[]]}"#),
            (r#"{"b":1,"10":2,"2":3,"01":4,"-1":5,"a":6}"#, r#"{"2":3,"10":2,"b":1,"01":4,"-1":5,"a":6}"#),
            (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
            (r#"{"\u0061":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"4294967295":1,"4294967294":2}"#, r#"{"4294967294":2,"4294967295":1}"#),
            (r#"{"__proto__":1,"":2}"#, r#"{"__proto__":1,"":2}"#),
        ] {
            assert_eq!(js(written), expected);
        }
        let many: Vec<String> = (0..40).map(|n| format!("\"k{}\":{n}", n % 20)).collect();
        let last: Vec<String> = (0..20).map(|n| format!("\"k{n}\":{}", n + 20)).collect();
        assert_eq!(js(&format!("{{{}}}", many.join(","))), format!("{{{}}}", last.join(",")));
    }

    #[test]
    fn strings_are_escaped_as_javascript_does() {
        for (written, expected) in [
            (r#""a\/b""#, r#""a/b""#),
            (r#""\u00e9\u2028\u007f""#, "\"é\u{2028}\u{7f}\""),
            (r#""\u0000\u001F\u0008\u000A\u0022\u005c""#, r#""\u0000\u001f\b\n\"\\""#),
            (r#""\ud83d\ude00""#, "\"😀\""),
            (r#""\uD83D""#, r#""\ud83d""#),
            (r#""\udE00\ud83dx""#, r#""\ude00\ud83dx""#),
            (r#""\ud83d\ud83d\ude00""#, "\"\\ud83d😀\""),
        ] {
            assert_eq!(js(written), expected, "{written}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(js(&nested(DEPTH_MAX)), nested(DEPTH_MAX));
        assert_eq!(rewrite(&nested(DEPTH_MAX + 1), &mut Vec::new()), Err(TooDeep));
    }
}
