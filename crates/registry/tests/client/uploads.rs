//! Uploads that break: what a registry kept is not sent again, and what it forgot begins anew.

use std::sync::atomic::{AtomicUsize, Ordering};

use zuwai_registry::RegistryError;

use super::fake_registry::{Action, Head, Reply};
use super::scene::{fake_scene, once, put_blob, scene, times};

/// Larger than what is sent anew without asking.
const LONG: usize = 3 << 20;

fn long_put(head: &Head) -> bool {
    let length = head.headers.get("content-length").and_then(|length| length.parse::<usize>().ok());
    put_blob(head) && length.unwrap_or(0) > 500_000
}

/// How many uploads were begun: one for each layer and the config where nothing goes wrong.
fn begun(seen: &[Head]) -> usize {
    seen.iter().filter(|head| head.method == "POST" && head.target.contains("/blobs/uploads/")).count()
}

/// How many bytes of bodies were sent to uploads, by what the requests announced.
fn announced(head: &Head) -> usize {
    head.headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)
}

#[test]
fn an_upload_that_breaks_goes_on_where_the_registry_says_it_broke() {
    let scene = fake_scene(&[LONG]);
    scene.registry.fault(times(3, long_put, || Action::Reset(400_000)));
    let seen = scene.push_whole();
    let puts: Vec<&Head> = seen.iter().filter(|head| long_put(head)).collect();
    let ranges: Vec<_> = puts.iter().map(|head| head.headers.get("content-range").cloned()).collect();
    let size = scene.image.layers[0].descriptor.size;
    let rest = |from: u64| Some(format!("{from}-{}", size - 1));
    assert_eq!(ranges, [None, rest(400_000), rest(800_000), rest(1_200_000)]);
    assert_eq!(announced(puts[3]) as u64, size - 1_200_000);
    assert_eq!(begun(&seen), 2);
}

#[test]
fn an_upload_of_which_all_but_the_answer_arrived_is_ended_without_a_byte_or_a_range() {
    let scene = fake_scene(&[LONG]);
    scene.registry.fault(once(long_put, || Action::Reset(usize::MAX)));
    let seen = scene.push_whole();
    let put =
        seen.iter().filter(|head| put_blob(head)).find(|head| announced(head) == 0).expect("an end without a body");
    assert_eq!(put.headers.get("content-range"), None);
    assert_eq!(begun(&seen), 2);
}

#[test]
fn a_long_upload_may_break_more_often_than_a_request_is_tried() {
    let scene = fake_scene(&[LONG]);
    scene.registry.fault(times(12, long_put, || Action::Reset(100_000)));
    scene.push_whole();
}

#[test]
fn a_registry_that_forgets_an_upload_that_broke_gets_the_blob_anew() {
    // Debian's does: it gives up what broke in the middle of a body.
    let scene = scene(&[LONG]);
    scene.registry.fault(times(2, long_put, || Action::Reset(400_000)));
    assert_eq!(begun(&scene.push_whole()), 4, "twice again");
}

#[test]
fn an_upload_that_was_refused_in_passing_goes_on_in_its_session() {
    for status in [429, 500, 502, 503, 504] {
        let scene = scene(&[LONG]);
        scene.registry.fault(once(long_put, move || Action::Reply(Reply::status(status))));
        assert_eq!(begun(&scene.push_whole()), 2, "{status}");
    }
}

#[test]
fn a_session_that_is_lost_on_the_way_is_begun_anew() {
    for (status, code) in [(404, "BLOB_UPLOAD_UNKNOWN"), (416, "RANGE_INVALID")] {
        let scene = scene(&[LONG]);
        let asked = |head: &Head| head.method == "GET" && head.target.contains("/blobs/uploads/");
        let broken = AtomicUsize::new(0);
        scene.registry.fault(move |head, _| match (asked(head), long_put(head)) {
            (true, _) => Action::Reply(Reply::error(status, code)),
            (_, true) if broken.fetch_add(1, Ordering::SeqCst) < 2 => Action::Reset(400_000),
            _ => Action::Serve,
        });
        scene.push_whole();
    }
}

#[test]
fn a_registry_that_kept_other_bytes_than_were_sent_gets_the_blob_anew() {
    let scene = fake_scene(&[LONG]);
    let claimed = once(
        |head: &Head| head.method == "GET" && head.target.contains("/blobs/uploads/"),
        || Action::Reply(Reply::status(204).header("range", "0-499999")),
    );
    let broken = once(long_put, || Action::Reset(400_000));
    scene.registry.fault(move |head, number| match claimed(head, number) {
        Action::Serve => broken(head, number),
        lie => lie,
    });
    scene.push_whole();
}

#[test]
fn a_body_that_is_too_large_is_sent_in_pieces() {
    for limit in [2_000_000, 900_000] {
        let scene = scene(&[LONG]);
        let too_large = move |head: &Head| matches!(head.method.as_str(), "PUT" | "PATCH") && announced(head) > limit;
        scene.registry.fault(
            move |head, _| {
                if too_large(head) { Action::Reply(Reply::status(413)) } else { Action::Serve }
            },
        );
        if limit < 1 << 20 {
            let error = scene.push().unwrap_err();
            assert!(matches!(error, RegistryError::Status { code: 413, .. }), "{error}");
            assert!(!scene.tag_is_there());
            continue;
        }
        assert!(scene.push_whole().iter().any(|head| head.method == "PATCH"));
    }
}
