use privet::core::admission::{Admitted, Moment, Peer};

fn forge(peer: Peer) -> Admitted {
    Admitted { peer, moment: Moment::Join }
}

fn main() {
    let _ = forge;
}
