//! Compiles the protocol without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/privet.proto"], ["proto"])?;
    tonic_prost_build::configure()
        // No copy of a chunk on its way in or out.
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
