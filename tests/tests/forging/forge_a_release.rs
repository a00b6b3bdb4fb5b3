use privet::gate::{Parcel, Released, Status};

fn main() {
    let _ = Parcel { head: Default::default(), body: vec![], status: None };
    let _ = Released(Status::Ready);
}
