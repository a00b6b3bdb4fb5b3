//! Ctrl-C: the first asks for a clean stop, the second stops at once.

use privet::core::filter::Cancel;

/// A flag that Ctrl-C sets.
pub(crate) fn on_interrupt() -> Cancel {
    let cancel = Cancel::default();
    let flag = cancel.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                flag.cancel();
            }
            if tokio::signal::ctrl_c().await.is_ok() {
                #[allow(clippy::exit)] // the clean way was asked for before, and takes too long
                std::process::exit(130);
            }
        });
    });
    cancel
}
