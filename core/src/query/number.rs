//! Numbers of JSON values as JavaScript's `Number(x)` makes them (ECMA-262, 7.1.4 and 7.1.4.1.1).

use serde_json::Value;

/// `None` where `Number` gives NaN, and for null: queries skip both.
pub fn of_value(value: &Value) -> Option<f64> {
    match value {
        Value::Null | Value::Object(_) => None,
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => of_text(text),
        Value::Array(items) => of_array(items),
    }
}

/// An array becomes the text of its items with commas between: only none or one of them is a number.
fn of_array(mut items: &[Value]) -> Option<f64> {
    loop {
        match items {
            [] | [Value::Null] => return Some(0.0),
            [Value::Array(inner)] => items = inner,
            [Value::Number(number)] => return number.as_f64(),
            [Value::String(text)] => return of_text(text),
            _ => return None,
        }
    }
}

/// `StringToNumber`: blanks around are cut off, nothing is 0.
pub fn of_text(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_blank);
    if text.is_empty() {
        return Some(0.0);
    }
    if let Some((b'0', rest)) = text.as_bytes().split_first()
        && let Some((letter, digits)) = rest.split_first()
        && let Some(bits_per_digit) = radix_bits(*letter)
    {
        return of_digits(digits, bits_per_digit);
    }
    let (sign, magnitude) = match text.as_bytes()[0] {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if magnitude == "Infinity" {
        return Some(sign * f64::INFINITY);
    }
    // Rust reads more than JavaScript does ("inf", "nan"): only what both know is passed on.
    let number = is_decimal(magnitude).then(|| magnitude.parse::<f64>().ok()).flatten()?;
    Some(sign * number)
}

/// `WhiteSpace` and `LineTerminator` of ECMA-262.
fn is_blank(character: char) -> bool {
    matches!(
        character,
        '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'
            ..='\u{200a}' | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\u{feff}'
    )
}

fn radix_bits(letter: u8) -> Option<u32> {
    match letter {
        b'x' | b'X' => Some(4),
        b'o' | b'O' => Some(3),
        b'b' | b'B' => Some(1),
        _ => None,
    }
}

/// Digits of a power of two, rounded once: half to even, like every other number.
fn of_digits(digits: &[u8], bits_per_digit: u32) -> Option<f64> {
    const HELD_MAX: u128 = 1 << 120;
    let (mut held, mut dropped_bits, mut sticky) = (0u128, 0i32, false);
    for digit in digits {
        let value = char::from(*digit).to_digit(1 << bits_per_digit)?;
        if held < HELD_MAX {
            held = (held << bits_per_digit) | u128::from(value);
        } else {
            dropped_bits = dropped_bits.saturating_add(bits_per_digit as i32);
            sticky |= value != 0;
        }
    }
    if digits.is_empty() {
        return None;
    }
    // Far below what a double holds, so that it only breaks ties.
    let rounded = (held | u128::from(sticky)) as f64;
    Some(rounded * 2f64.powi(dropped_bits.min(2000)))
}

/// Digits, perhaps with a point (a digit on one side at least) and an exponent.
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_is_one = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    whole.len() + fraction.len() > 0 && all_digits(whole) && all_digits(fraction) && exponent_is_one
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn every_kind_of_value_is_what_javascript_makes_of_it() {
        for (value, number) in [
            (json!("42"), 42.0),
            (json!(" 12 "), 12.0),
            (json!("\u{feff}\u{a0}\n12\t\u{2028}"), 12.0),
            (json!(""), 0.0),
            (json!("  "), 0.0),
            (json!("0x10"), 16.0),
            (json!("0XfF"), 255.0),
            (json!("0b11"), 3.0),
            (json!("0o17"), 15.0),
            (json!("0x20000000000001"), 9_007_199_254_740_992.0),
            (json!("0x20000000000003"), 9_007_199_254_740_996.0),
            (json!("010"), 10.0),
            (json!("-0"), 0.0),
            (json!("+5"), 5.0),
            (json!("5."), 5.0),
            (json!(".5"), 0.5),
            (json!("1e3"), 1000.0),
            (json!("1E-2"), 0.01),
            (json!("1e400"), f64::INFINITY),
            (json!("Infinity"), f64::INFINITY),
            (json!("-Infinity"), f64::NEG_INFINITY),
            (json!(true), 1.0),
            (json!(false), 0.0),
            (json!(-2.5), -2.5),
            (json!([]), 0.0),
            (json!([5]), 5.0),
            (json!(["7"]), 7.0),
            (json!([[["8"]]]), 8.0),
            (json!([null]), 0.0),
            (json!([[]]), 0.0),
        ] {
            assert_eq!(of_value(&value), Some(number), "{value}");
        }
        for value in [
            json!(null),
            json!({}),
            json!({"a": 1}),
            json!([1, 2]),
            json!([true]),
            json!([{}]),
            json!("abc"),
            json!("1px"),
            json!("1_000"),
            json!("1,5"),
            json!("inf"),
            json!("infinity"),
            json!("NaN"),
            json!("nan"),
            json!("."),
            json!("e5"),
            json!("1e"),
            json!("1e+"),
            json!("--1"),
            json!("+-1"),
            json!("- 1"),
            json!("0x"),
            json!("0b12"),
            json!("-0x10"),
            json!("+0b1"),
            json!("0x1.8"),
            json!("1 2"),
            json!("1n"),
            json!("\u{85}1"),
        ] {
            assert_eq!(of_value(&value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn a_number_survives_being_a_text(number in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
            prop_assert_eq!(of_text(&format!(" {number:e}\n")), Some(number));
            prop_assert_eq!(of_value(&json!([number])), of_value(&json!(number)));
        }

        #[test]
        fn hexadecimal_is_rounded_once(number in any::<u128>(), more in 0usize..40) {
            let text = format!("0x{number:x}{}", "0".repeat(more));
            let expected = (number as f64) * 16f64.powi(more as i32);
            prop_assert_eq!(of_text(&text), Some(expected));
        }

        #[test]
        fn no_text_makes_it_fail(text in "\\PC*") {
            let _ = of_text(&text);
        }
    }
}
