//! What pump and server of the head's files send each other, and what is looked at of FUSE's messages in it.
#![no_main]

use grid_home::frame::{Hello, Kind, MOST, read};
use grid_home::fuse::asked::{Asked, attributes, entries, entry};
use grid_home::fuse::{Request, agree, answered, forget_who_asks, is_notice, room};
use grid_home::once::End;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut from = bytes;
    let mut end = End::default();
    (0..4).for_each(|n| end.say(vec![n]));
    while let Ok(frame) = read(&mut from) {
        assert!(frame.body.len() <= MOST);
        let _ = end.next_to_send();
        let _ = end.heard_there(frame.heard).and_then(|()| end.hear(frame.number).map(drop));
        let _ = end.begin_again(frame.heard);
        assert!(end.bytes() <= 4);
        if frame.kind == Kind::Hello {
            if let Ok(hello) = serde_json::from_slice::<Hello>(&frame.body) {
                let _ = hello.check("o-1.1", Some("life"));
            }
        }
        let mut message = frame.body;
        let _ = answered(&message);
        assert!(!is_notice(&message) || message.len() < 300);
        let _ = (Asked::of(&message), entry(&message), entries(&message), attributes(&message, 1));
        if Request::of(&message).is_ok() {
            forget_who_asks(&mut message);
            let mut answer = vec![0; room(&message).min(1 << 21)];
            agree(&message, &mut answer);
        }
    }
});
