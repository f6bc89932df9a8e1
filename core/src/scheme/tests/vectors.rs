//! Signed requests with verdicts, most of them judged by the providers' own SDKs.

use crate::preset::{Vector, VectorVerdict};

#[test]
fn every_vector_has_its_verdict() {
    assert_eq!(judge_all(include_str!("../testdata/vectors.json")), 778);
}

/// Where the providers' documentation and their SDKs differ, and what the first file leaves out.
#[test]
fn every_further_vector_has_its_verdict() {
    assert!(judge_all(include_str!("../testdata/further.json")) > 0);
}

/// How many there are; all of them have their verdict.
fn judge_all(file: &str) -> usize {
    let vectors: Vec<Vector> = serde_json::from_str(file).unwrap();
    let mut wrong = Vec::new();
    for vector in &vectors {
        let verdict = vector.judge();
        let right = match vector.expected.as_deref() {
            Some("valid") => verdict == VectorVerdict::Valid,
            Some("invalid") => matches!(verdict, VectorVerdict::Invalid(_)),
            Some("either") => !matches!(verdict, VectorVerdict::Error(_)),
            other => panic!("{}: {other:?} is no verdict", vector.id),
        };
        if !right {
            wrong.push(format!("{}: {verdict:?}", vector.id));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    vectors.len()
}

#[test]
fn what_cannot_be_judged_is_an_error() {
    let judge = |json: &str| serde_json::from_str::<Vector>(json).unwrap().judge();
    let with = |scheme: &str, url: &str, body: &str, secrets: &str| {
        judge(&format!(
            r#"{{"id":"a","scheme":"{scheme}","secrets":{secrets},"now":0,
                 "request":{{"method":"POST","url":"{url}","headers":[],"body_b64":"{body}"}}}}"#
        ))
    };
    let error = |verdict| match verdict {
        VectorVerdict::Error(problem) => problem,
        other => panic!("{other:?}"),
    };
    let good = "https://hooks.example.com/in";
    assert_eq!(error(with("nobody", good, "", "[]")), "there is no preset `nobody`");
    assert_eq!(error(with("custom", good, "", "[]")), "the preset `custom` has no scheme");
    assert_eq!(error(with("github", "/in", "", "[]")), "request.url has no scheme and host");
    assert_eq!(error(with("github", good, "!", "[]")), "request.body_b64 is not base64");
    assert!(matches!(with("github", good, "", "[\"a\"]"), VectorVerdict::Invalid(_)));
    assert!(matches!(with("svix", good, "", "[\"not base64!\"]"), VectorVerdict::Invalid(_)));
}
