//! The cargo features that this program was built with.

/// Their names, in the order of the alphabet.
pub fn built_in() -> Vec<&'static str> {
    let all = [
        ("http-adapter", cfg!(feature = "http-adapter")),
        ("postgres", cfg!(feature = "postgres")),
        ("schemas", cfg!(feature = "schemas")),
        ("tls", cfg!(feature = "tls")),
    ];
    let built = all.into_iter().filter(|(_, is_built)| *is_built);
    built.map(|(name, _)| name).collect()
}
