use super::*;
use tokio::io::AsyncWriteExt;

fn frame() -> Frame {
    let word = grid_types::wire::FilesWord::Ask;
    Frame { from: party(), to: Party::Agent("head".into()), body: Body::Files { attempt: "o-1.1".into(), word } }
}

fn party() -> Party {
    Party::Agent("gpu1".into())
}

#[test]
fn who_says_more_than_is_handled_is_not_read_and_who_does_not_read_loses_frames() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // Room for all that is said, so that who says it never waits; none for what is answered.
        let json = serde_json::to_vec(&frame()).unwrap();
        let (mut theirs, ours) = tokio::io::duplex(2 * MOST_HEARD * (json.len() + 4));
        let (inputs, mut heard) = mpsc::unbounded_channel();
        let peer = Peer { party: party(), boot_id: None, protocol: None, speaks: Speaks::ForItself };
        let link = tokio::spawn(async move { pump(ours, peer, pending(), &inputs).await });
        let Some(Input::LinkUp { link: up, .. }) = heard.recv().await else { panic!("no link") };
        for _ in 0..2 * MOST_HEARD {
            theirs.write_all(&(json.len() as u32).to_le_bytes()).await.unwrap();
            theirs.write_all(&json).await.unwrap();
        }
        let mut places = Vec::new();
        for _ in 0..MOST_HEARD {
            let Some(Input::Heard { place, .. }) = heard.recv().await else { panic!("no frame") };
            places.push(place);
        }
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert!(heard.try_recv().is_err(), "it was read on");
        drop(places);
        for _ in 0..MOST_HEARD {
            assert!(matches!(heard.recv().await, Some(Input::Heard { .. })));
        }
        let sent = (0..100 * MOST_WAITING).take_while(|_| up.outbox.try_send(frame()).is_ok()).count();
        assert_eq!(sent, MOST_WAITING);
        link.abort();
    });
}
