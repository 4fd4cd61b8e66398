use tokio::io::AsyncReadExt;

use super::{
    super::{super::forwarder::WAITING_MOST_EACH, tcp::CONNECTIONS_MOST_EACH},
    fake::tcp_exchange,
    *,
};

#[tokio::test]
async fn a_flood_of_one_container_fails_and_holds_nobody_else_up() {
    const MORE: usize = 20;
    let place = Place::new();
    let silent = Upstream::answering(place.address(100), |_, _| None);
    let upstream =
        Upstream::answering(place.address(101), |asked, _| Some(answer(asked, &[([192, 0, 2, 1].into(), 9)])));
    let server = place.server(&[silent.address]);
    place.put_with_upstreams('3', 3, &[upstream.address]);
    let (flooding, other) = (place.client(1), place.client(3));
    for number in 0..WAITING_MOST_EACH + MORE {
        flooding.send(&question(1, &format!("n{number}.example"), RecordType::A, None)).await;
    }
    for _ in 0..MORE {
        assert_eq!(flooding.receive().await.metadata.response_code, ResponseCode::ServFail);
    }
    assert_eq!(other.udp(&question(1, "a.example", RecordType::A, None)).await.answers.len(), 1);
    assert_eq!(flooding.udp(&question(1, "web", RecordType::A, None)).await.answers.len(), 1);
    assert_eq!(server.stats().failures, u64::try_from(MORE).unwrap(), "all of that came before the first gave up");
}

#[tokio::test]
async fn one_source_has_so_many_connections_and_others_have_theirs() {
    let place = Place::new();
    let _server = place.server(&[]);
    place.put_with_upstreams('3', 3, &[]);
    let client = place.client(1);
    let asked = question(1, "web", RecordType::A, None);
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS_MOST_EACH {
        let mut stream = client.connect().await;
        assert_eq!(tcp_exchange(&mut stream, &asked).await.unwrap().answers.len(), 1);
        open.push(stream);
    }
    assert!(tcp_exchange(&mut client.connect().await, &asked).await.is_none());
    assert_eq!(place.client(3).tcp("web", RecordType::A).await.answers.len(), 1);
    // A connection serves more than one question.
    assert_eq!(tcp_exchange(&mut open[0], &asked).await.unwrap().answers.len(), 1);
}

#[tokio::test]
async fn a_question_too_long_for_any_ends_the_connection() {
    let place = Place::new();
    let _server = place.server(&[]);
    let mut stream = place.client(1).connect().await;
    assert!(tcp_exchange(&mut stream, &[0; 5000]).await.is_none());
    let mut stream = place.client(1).connect().await;
    assert!(tcp_exchange(&mut stream, b"noise").await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed() {
    let place = Place::new();
    let _server = place.server(&[]);
    let mut stream = place.client(1).connect().await;
    let mut buffer = [0; 1];
    assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
}
