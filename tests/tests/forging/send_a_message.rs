use privet::core::Message;

fn leak(message: Message) -> privet::gate::Parcel {
    message
}

fn main() {
    let _ = leak;
}
