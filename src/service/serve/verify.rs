//! Who may start a build: signatures over the body, tokens, and how they are compared. Pure.
//!
//! GitHub (`X-Hub-Signature-256`), Gitea and Forgejo (`X-Gitea-Signature`) sign the body with HMAC-SHA256; GitLab
//! sends the secret itself (`X-Gitlab-Token`) or, with a signing token, signs as Standard Webhooks says
//! (`webhook-signature` over id, time and body).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::config::Secret;

/// How far the clock of who signs may be off, in seconds.
const SKEW: u64 = 300;

/// A request that may start a build.
#[derive(Debug, PartialEq, Eq)]
pub struct Proof {
    pub sender: &'static str,
    pub event: Event,
    /// What must not have been seen before: each is used once.
    pub once: Vec<String>,
}

/// What a request tells.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Push,
    Ping,
    Other(String),
}

/// Why a request may start nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has no signature.
    Unsigned,
    /// It has one that is wrong.
    Wrong,
    /// It was signed too long ago, or in the future.
    Late,
}

/// Refuses what cannot be right whatever the body is, before that is read.
pub fn look(secret: &Secret, headers: &HeaderMap, now: u64) -> Result<(), Refusal> {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let good = if let Some(signatures) = header("webhook-signature") {
        let time = header("webhook-timestamp").and_then(|time| time.parse::<u64>().ok());
        let Some(time) = time.filter(|_| headers.contains_key("webhook-id")) else {
            return Err(Refusal::Wrong);
        };
        if time.abs_diff(now) > SKEW {
            return Err(Refusal::Late);
        }
        standard(signatures).any(|signature| signature.len() == 32)
    } else if let Some(signature) = header("x-hub-signature-256") {
        signature.strip_prefix("sha256=").and_then(unhex).is_some()
    } else if let Some(signature) = header("x-forgejo-signature").or_else(|| header("x-gitea-signature")) {
        unhex(signature).is_some()
    } else if let Some(token) = header("x-gitlab-token") {
        same(&secret.0, token.as_bytes())
    } else {
        return Err(Refusal::Unsigned);
    };
    if good { Ok(()) } else { Err(Refusal::Wrong) }
}

/// Returns the signatures of version 1 of Standard Webhooks.
fn standard(signatures: &str) -> impl Iterator<Item = Vec<u8>> {
    signatures.split(' ').filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok())
}

/// Checks a request's signature over its body. `now`: seconds since 1970.
///
/// The first kind of signature that is there counts: a wrong one is not made good by another.
pub fn verify(secret: &Secret, headers: &HeaderMap, body: &[u8], now: u64) -> Result<Proof, Refusal> {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let right = |good: bool| if good { Ok(()) } else { Err(Refusal::Wrong) };
    let mut once = Vec::new();
    let mut delivery = |name: &str| {
        once.extend(
            header(name).filter(|id| !id.is_empty()).map(|id| format!("{name} {}", hash(id.as_bytes()))),
        );
    };
    let (sender, event) = if let Some(signatures) = header("webhook-signature") {
        let (Some(id), Some(time)) = (header("webhook-id"), header("webhook-timestamp")) else {
            return Err(Refusal::Wrong);
        };
        let signed = [id.as_bytes(), b".", time.as_bytes(), b".", body];
        let key = whsec(&secret.0).unwrap_or_else(|| secret.0.clone());
        // Each costs a pass over the body; GitLab sends one, or two while a key is changed.
        right(standard(signatures).take(4).any(|signature| is_signature(&key, &signed, &signature)))?;
        let time: u64 = time.parse().map_err(|_| Refusal::Wrong)?;
        if time.abs_diff(now) > SKEW {
            return Err(Refusal::Late);
        }
        delivery("webhook-id");
        ("gitlab", header("x-gitlab-event"))
    } else if let Some(signature) = header("x-hub-signature-256") {
        let signature = signature.strip_prefix("sha256=").and_then(unhex);
        right(signature.is_some_and(|signature| is_signature(&secret.0, &[body], &signature)))?;
        delivery("x-github-delivery");
        ("github", header("x-github-event").or_else(|| header("x-gitea-event")))
    } else if let Some(signature) = header("x-forgejo-signature").or_else(|| header("x-gitea-signature")) {
        right(unhex(signature).is_some_and(|signature| is_signature(&secret.0, &[body], &signature)))?;
        delivery("x-gitea-delivery");
        ("gitea", header("x-forgejo-event").or_else(|| header("x-gitea-event")))
    } else if let Some(token) = header("x-gitlab-token") {
        right(same(&secret.0, token.as_bytes()))?;
        // Whoever has the token can say anything: what is seen twice is GitLab's own repetition.
        delivery("idempotency-key");
        ("gitlab", header("x-gitlab-event"))
    } else {
        return Err(Refusal::Unsigned);
    };
    let event = match event {
        Some("push" | "Push Hook" | "Tag Push Hook") => Event::Push,
        Some("ping") => Event::Ping,
        other => Event::Other(other.unwrap_or("none").chars().take(60).collect()),
    };
    if matches!(sender, "github" | "gitea") {
        // The delivery's id is not signed, so the body itself counts too; it holds times and commits.
        once.push(format!("body {}", hash(body)));
    }
    Ok(Proof { sender, event, once })
}

/// Compares a secret with what somebody says it is; how long it takes tells neither's length nor content.
pub fn same(secret: &[u8], said: &[u8]) -> bool {
    Sha256::digest(secret).ct_eq(&Sha256::digest(said)).into()
}

/// Returns the key in a signing token of Standard Webhooks: `whsec_` and base64.
pub fn whsec(secret: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(secret.strip_prefix(b"whsec_")?).ok().filter(|key| key.len() >= 16)
}

fn is_signature(key: &[u8], message: &[&[u8]], signature: &[u8]) -> bool {
    // A key of any length is one for HMAC (RFC 2104).
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
    message.iter().for_each(|part| mac.update(part));
    mac.verify_slice(signature).is_ok()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..32).map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GitHub's own example (docs.github.com, "Validating webhook deliveries").
    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &[u8] = b"Hello, World!";
    const SIGNATURE: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn check(
        headers: &[(&'static str, &str)],
        secret: &str,
        now: u64,
    ) -> Result<(&'static str, Event), Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let proof = verify(&Secret(secret.into()), &map, BODY, now).map(|proof| (proof.sender, proof.event));
        // Nothing that is right is refused before its body came.
        assert!(proof.is_err() || look(&Secret(secret.into()), &map, now).is_ok(), "{headers:?}");
        proof
    }

    #[test]
    fn github() {
        let with = format!("sha256={SIGNATURE}");
        let signed = [("x-hub-signature-256", with.as_str()), ("x-github-event", "push")];
        assert_eq!(check(&signed, SECRET, 0), Ok(("github", Event::Push)));
        assert_eq!(check(&signed, "another secret!!", 0), Err(Refusal::Wrong));
        for wrong in ["", "sha256=", "sha256=00", &SIGNATURE[1..], SIGNATURE, &with.replace('7', "8")] {
            assert_eq!(check(&[("x-hub-signature-256", wrong)], SECRET, 0), Err(Refusal::Wrong), "{wrong}");
        }
        assert_eq!(
            check(&[("x-hub-signature", "sha1=x")], SECRET, 0),
            Err(Refusal::Unsigned),
            "SHA-1 is none"
        );
        let both = [("x-hub-signature-256", "sha256=00"), ("x-gitlab-token", SECRET)];
        assert_eq!(check(&both, SECRET, 0), Err(Refusal::Wrong), "no second chance");
    }

    #[test]
    fn gitea_and_gitlab() {
        let gitea = [("x-gitea-signature", SIGNATURE), ("x-gitea-event", "push")];
        assert_eq!(check(&gitea, SECRET, 0), Ok(("gitea", Event::Push)));
        let check_gitlab = |token: &str, expect| {
            let headers = [("x-gitlab-token", token), ("x-gitlab-event", "Tag Push Hook")];
            assert_eq!(check(&headers, SECRET, 0), expect, "{token}");
        };
        check_gitlab(SECRET, Ok(("gitlab", Event::Push)));
        check_gitlab("", Err(Refusal::Wrong));
        check_gitlab("It's a Secret to Everybodz", Err(Refusal::Wrong));
        check_gitlab("It's a Secret to Everybody ", Err(Refusal::Wrong));
    }

    #[test]
    fn standard_webhooks() {
        let key = b"0123456789abcdef0123456789abcdef";
        let secret = format!("whsec_{}", STANDARD.encode(key));
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(b"id-1.1000.Hello, World!");
        let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        let headers = |time: &'static str| {
            [("webhook-id", "id-1"), ("webhook-timestamp", time), ("x-gitlab-event", "Push Hook")]
        };
        let signed = |signature: &str, time, now| {
            let headers = [&headers(time)[..], &[("webhook-signature", signature)]].concat();
            check(&headers, &secret, now)
        };
        assert_eq!(signed(&signature, "1000", 1200), Ok(("gitlab", Event::Push)));
        assert_eq!(signed(&format!("v1,AAAA {signature}"), "1000", 900), Ok(("gitlab", Event::Push)));
        assert_eq!(signed(&signature, "1000", 1301), Err(Refusal::Late));
        assert_eq!(signed(&signature, "1001", 1001), Err(Refusal::Wrong));
        assert_eq!(signed("v1,AAAA", "1000", 1000), Err(Refusal::Wrong));
        assert_eq!(check(&[("webhook-signature", &signature)], &secret, 1000), Err(Refusal::Wrong));
    }

    #[test]
    fn what_is_wrong_whatever_the_body_is() {
        let check = |headers: &[(&'static str, &str)], expect: Result<(), Refusal>| {
            let headers =
                headers.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()));
            assert_eq!(look(&Secret(SECRET.into()), &headers.collect(), 1000), expect);
        };
        check(&[], Err(Refusal::Unsigned));
        check(&[("x-hub-signature-256", "sha256=00")], Err(Refusal::Wrong));
        check(&[("x-gitea-signature", "")], Err(Refusal::Wrong));
        check(&[("x-gitlab-token", "x")], Err(Refusal::Wrong));
        check(&[("x-gitlab-token", SECRET)], Ok(()));
        let signature = format!("v1,{}", STANDARD.encode([0; 32]));
        let standard = |time: &str, signature: &str, expect| {
            check(
                &[("webhook-id", "1"), ("webhook-timestamp", time), ("webhook-signature", signature)],
                expect,
            );
        };
        standard("1000", &signature, Ok(()));
        standard("600", &signature, Err(Refusal::Late));
        standard("x", &signature, Err(Refusal::Wrong));
        standard("1000", "v1,AAAA", Err(Refusal::Wrong));
    }

    #[test]
    fn each_is_used_once() {
        let mut headers = HeaderMap::new();
        headers.insert("x-hub-signature-256", format!("sha256={SIGNATURE}").parse().unwrap());
        headers.insert("x-github-delivery", "one".parse().unwrap());
        let once = |headers: &HeaderMap| verify(&Secret(SECRET.into()), headers, BODY, 0).unwrap().once;
        let first = once(&headers);
        headers.insert("x-github-delivery", "two".parse().unwrap());
        let second = once(&headers);
        assert!(first.len() == 2 && first.iter().any(|id| second.contains(id)), "{first:?} {second:?}");
    }
}
