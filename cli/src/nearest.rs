//! What was probably meant by a name that there is not.

/// More letters than this apart is another word.
const DISTANCE_MAX: usize = 3;
const SHOWN_MAX: usize = 3;

/// The names nearest to `wanted`, all at the same distance; none when all are far from it. A name that begins
/// with `wanted` is near, whatever follows.
pub(crate) fn names<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = wanted.to_ascii_lowercase();
    // In a short word every other letter may be another word's.
    let apart_max = DISTANCE_MAX.min(wanted.chars().count() / 2);
    let mut near: Vec<(usize, &str)> = known
        .map(|name| {
            let begins = wanted.len() >= 3 && name.starts_with(&wanted);
            (if begins { 1 } else { strsim::damerau_levenshtein(&wanted, name) }, name)
        })
        .filter(|(apart, _)| *apart <= apart_max)
        .collect();
    near.sort_unstable();
    let nearest = near.first().map(|(apart, _)| *apart);
    near.into_iter()
        .take_while(|(apart, _)| Some(*apart) == nearest)
        .take(SHOWN_MAX)
        .map(|(_, name)| name)
        .collect()
}

/// `: did you mean stripe?`, or nothing.
pub(crate) fn question<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = names(wanted, known);
    if near.is_empty() { String::new() } else { format!(": did you mean {}?", near.join(" or ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_another_word_none() {
        let known = ["stripe", "strapi", "standard", "github", "gitlab", "wix", "slack", "paypal"];
        for (wanted, near) in [
            ("strype", &["stripe"][..]),
            ("Stripe", &["stripe"]),
            ("gitbub", &["github"]),
            ("git", &["github", "gitlab"]),
            ("slakc", &["slack"]),
            ("nobody", &[]),
            ("", &[]),
        ] {
            assert_eq!(names(wanted, known.into_iter()), near, "{wanted}");
        }
        assert_eq!(question("strype", known.into_iter()), ": did you mean stripe?");
        assert_eq!(question("nobody", known.into_iter()), "");
    }
}
