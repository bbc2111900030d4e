use super::*;
use crate::command::Revocation;
use crate::testing::pki::KeyKind;
use crate::tls::Standing;
use crate::tls::verify::CHAIN_LENGTH_MAX;

const DAY: i64 = 86_400;

#[test]
fn a_certificate_that_runs_out_while_connected_is_expired_from_its_last_second_on() {
    let world = World::new();
    let (_, standing) = world.stand(&[]);

    for (now, verdict) in [
        (NOW - DAY - 1, Err("not-yet-valid")),
        (NOW - DAY, Ok(())),
        (NOW + DAY - 1, Ok(())),
        (NOW + DAY, Err("expired")),
    ] {
        let judged = world.context(&[]).judge(&world.chain, true, now);
        let again = world.context(&[]).judge_again(
            &mut standing.clone(),
            || world.chain.clone(),
            true,
            now,
        );
        assert_eq!(judged.map(drop).map_err(|r| r.reason), verdict, "at {now}");
        assert_eq!(again.map_err(|r| r.reason), verdict, "again, at {now}");
    }
}

#[test]
fn judging_again_needs_no_chain_while_roots_and_time_allow() {
    let world = World::new();
    let (_, mut standing) = world.stand(&[]);
    let no_chain = || -> Vec<Vec<u8>> { panic!("the standing is enough") };

    let verdict = world.context(&[]).judge_again(&mut standing, no_chain, true, NOW + 60);

    assert_eq!(verdict, Ok(()));
}

#[test]
fn a_revocation_ends_a_live_connection_without_a_look_at_its_chain() {
    let world = World::new();
    let no_chain = || -> Vec<Vec<u8>> { panic!("the standing is enough") };

    for revocation in [world.alice.revoked_key(), world.alice.revoked_certificate()] {
        let (_, mut standing) = world.stand(&[]);
        let context = world.context(std::slice::from_ref(&revocation));
        let verdict = context.judge_again(&mut standing, no_chain, true, NOW);
        assert_eq!(verdict.unwrap_err().reason, "revoked", "{revocation:?}");
        assert_eq!(context.judge(&world.chain, true, NOW).unwrap_err().reason, "revoked");
    }
}

#[test]
fn other_roots_judge_a_live_connection_anew() {
    let world = World::new();
    let (_, mut standing) = world.stand(&[]);
    let stranger = Authority::new("stranger");
    let relay = stranger.issue(&LeafSpec::relay("r"));
    let only_stranger = TlsContext::new(&relay.material(&[&stranger], &[]), NOW).unwrap();
    let both = TlsContext::new(&relay.material(&[&stranger, &world.ca], &[]), NOW).unwrap();
    let chain = || world.chain.clone();

    let verdict = only_stranger.judge_again(&mut standing, chain, true, NOW);
    assert_eq!(verdict.unwrap_err().reason, "unknown-ca");
    assert_eq!(both.judge_again(&mut standing, chain, true, NOW), Ok(()));
    let no_chain = || -> Vec<Vec<u8>> { panic!("the standing was renewed") };
    assert_eq!(both.judge_again(&mut standing, no_chain, true, NOW), Ok(()));
}

#[test]
fn revoking_an_intermediate_refuses_everything_below_it() {
    let root = Authority::new("root");
    let issuing = root.intermediate("issuing", KeyKind::P256);
    let alice = issuing.issue(&LeafSpec::agent("alice"));
    let relay = root.issue(&LeafSpec::relay("r"));
    let info = crate::tls::leaf_info(&issuing.der()).unwrap();

    for revocation in [
        Revocation::Spki(info.spki_sha256),
        Revocation::Certificate { issuer: info.issuer, serial: info.serial },
    ] {
        let context = TlsContext::new(&relay.material(&[&root], &[revocation]), NOW).unwrap();
        let verdict = context.judge(&alice.chain_der(), true, NOW);
        assert_eq!(verdict.unwrap_err().reason, "revoked");
    }
}

#[test]
fn a_chain_has_at_most_eight_certificates() {
    let root = Authority::new("root");
    let context = context(&root, &LeafSpec::relay("r"));
    let verdict = |intermediates: usize| {
        let mut issuer = root.intermediate("1", KeyKind::P256);
        for depth in 1..intermediates {
            issuer = issuer.intermediate(&(depth + 1).to_string(), KeyKind::P256);
        }
        let chain = issuer.issue(&LeafSpec::agent("alice")).chain_der();
        assert_eq!(chain.len(), intermediates + 1);
        context.judge(&chain, true, NOW).map(drop).map_err(|refusal| refusal.reason)
    };

    assert_eq!(verdict(CHAIN_LENGTH_MAX - 1), Ok(()));
    assert_eq!(verdict(CHAIN_LENGTH_MAX), Err("invalid-chain"));
    assert_eq!(context.judge::<Vec<u8>>(&[], true, NOW).unwrap_err().reason, "no-certificate");
}

#[test]
fn weak_links_of_a_chain_are_refused() {
    let root = Authority::new("root");
    let context = context(&root, &LeafSpec::relay("r"));
    let reason = |chain: &[Vec<u8>]| context.judge(chain, true, NOW).unwrap_err().reason;
    let agent = LeafSpec::agent("alice");
    let weak = root.intermediate("weak", KeyKind::Rsa(1_024));
    let p521 = root.issue(&agent.clone().with_key(KeyKind::P521));
    let sha1 = root.issue(&LeafSpec { sha1: true, ..agent.clone() });
    let no_signing = root.issue(&LeafSpec { digital_signature: false, ..agent.clone() });
    let below_leaf = {
        let leaf = root.issue(&LeafSpec::connector("c"));
        let mut chain = Authority::new("leaf").issue(&agent).chain_der();
        chain.extend(leaf.chain_der());
        chain
    };

    assert_eq!(reason(&weak.issue(&agent).chain_der()), "weak-key");
    assert_eq!(reason(&p521.chain_der()), "weak-key");
    assert_eq!(reason(&sha1.chain_der()), "weak-key");
    assert_eq!(reason(&no_signing.chain_der()), "wrong-key-usage");
    assert!(["unknown-ca", "invalid-chain", "bad-signature"].contains(&reason(&below_leaf)));
}

#[test]
fn an_issuing_ca_alone_can_be_the_root() {
    let root = Authority::new("root");
    let issuing = root.intermediate("issuing", KeyKind::P256);
    let context = context(&issuing, &LeafSpec::relay("r"));
    let ours = issuing.issue(&LeafSpec::agent("alice")).chain_der();
    let cousin = root.issue(&LeafSpec::agent("mallory")).chain_der();

    assert!(context.judge(&ours, true, NOW).is_ok());
    assert!(context.judge(&ours[..1], true, NOW).is_ok());
    assert_eq!(context.judge(&cousin, true, NOW).unwrap_err().reason, "unknown-ca");
}

#[test]
fn a_self_signed_leaf_and_a_swapped_leaf_are_refused() {
    let world = World::new();
    let other = world.ca.issue(&LeafSpec::agent("bob"));
    let self_signed = Authority::new("alice").der();
    let context = world.context(&[]);

    assert_eq!(context.judge(&[self_signed], true, NOW).unwrap_err().reason, "unknown-ca");
    let info = context.judge(&other.chain_der(), true, NOW).unwrap();
    assert_eq!(info.uris, ["ztna://test/agent/bob"]);
    assert_eq!(info.spki_sha256, other.spki_sha256());
}

#[test]
fn octets_behind_a_certificate_make_it_malformed() {
    let world = World::new();
    let mut chain = world.chain.clone();
    chain[0].push(0);

    let verdict = world.context(&[]).judge(&chain, true, NOW);

    assert_eq!(verdict.unwrap_err().reason, "malformed-certificate");
}

struct World {
    ca: Authority,
    alice: Identity,
    relay: Identity,
    chain: Vec<Vec<u8>>,
}

impl World {
    fn new() -> Self {
        let ca = Authority::new("ca");
        let (alice, relay) = (ca.issue(&LeafSpec::agent("a")), ca.issue(&LeafSpec::relay("r")));
        Self { chain: alice.chain_der(), ca, alice, relay }
    }

    fn context(&self, revoked: &[Revocation]) -> TlsContext {
        TlsContext::new(&self.relay.material(&[&self.ca], revoked), NOW).unwrap()
    }

    fn stand(&self, revoked: &[Revocation]) -> (LeafInfo, Standing) {
        self.context(revoked).judge_for_life(&self.chain, true, NOW).unwrap()
    }
}
